//! From a connection to a method and back, with the faults on the way. HTTP/1.1 on loopback, no TLS.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::answer::{Answer, Body, page, trickle};
use super::change::{self, What};
use super::faults::Fault;
use super::observe::{Observation, Rule};
use super::params::Params;
use super::state::{Bot, Settings, Shared, scope};
use super::{files, send, updates};
use crate::wire::{Line, Wire};

const BODY_LIMIT: usize = 64 * 1024 * 1024;

pub(crate) fn serve(shared: &Arc<Shared>, stream: TcpStream) {
    // Without it the system still delivers, only later.
    let _ = stream.set_nodelay(true);
    let line = {
        let mut state = shared.state();
        let line = Line::new(state.fresh_number(), shared.stop.child_token());
        line.hold(state.hole);
        state.lines.insert(line.id, line.clone());
        line
    };
    let shared = shared.clone();
    tokio::spawn(async move {
        let wire = TokioIo::new(Wire::new(stream, line.clone()));
        let answer = |request| {
            let (shared, line) = (shared.clone(), line.clone());
            async move { Ok::<_, Infallible>(route(&shared, &line, request).await) }
        };
        let connection = http1::Builder::new().serve_connection(wire, service_fn(answer));
        tokio::select! {
            biased;
            () = line.over.cancelled() => {}
            // A broken connection is the peer's affair.
            _ = connection => {}
        }
        shared.state().lines.remove(&line.id);
    });
}

async fn route(
    shared: &Arc<Shared>,
    line: &Arc<Line>,
    request: Request<Incoming>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().trim_start_matches('/');
    if let Some(rest) = path.strip_prefix("file/bot") {
        return super::files::bytes(shared, rest);
    }
    let Some((token, method)) = path.strip_prefix("bot").and_then(|rest| rest.split_once('/'))
    else {
        return Answer::bad(404, "Not Found").respond();
    };
    let (token, method) = (token.to_owned(), method.to_lowercase());
    let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default().to_owned();
    let Ok(body) = Limited::new(body, BODY_LIMIT).collect().await else {
        return Answer::bad(413, "Request Entity Too Large").respond();
    };
    let Some(params) = Params::read(head.uri.query(), &kind, &body.to_bytes()) else {
        return Answer::bad(400, "Bad Request: can't parse the request").respond();
    };
    let chat_id = params.number("chat_id");
    let inside_window = inside_window(shared, &token, &method, chat_id);
    // From before the look at the faults: a release after it is not missed.
    let released = shared.released.notified();
    let fault = shared.state().faults.strike(&method);
    let note = |status: Option<u16>| {
        let name = name(shared, &token);
        if inside_window.is_some() {
            let detail = format!("{method} for chat {chat_id:?}");
            shared.violation(&name, Rule::Window, detail);
        }
        let (method, inside_window) = (method.clone(), inside_window.is_some());
        let call = Observation::Call { method, status, chat_id, inside_window };
        shared.journal.note(&name, call);
    };
    let refused = match &fault {
        Some(Fault::Html { status }) => {
            Some(page(*status, "text/html", "<html>Bad Gateway</html>".to_owned()))
        }
        Some(Fault::Empty { status }) => Some(page(*status, "text/html", String::new())),
        Some(Fault::Answer { result }) => Some(Answer::good(result.clone()).respond()),
        Some(Fault::Refuse { code, description, parameters }) => {
            let answer = Answer::bad(*code, description);
            let known = parameters.is_object();
            let answer = if known { answer.with_parameters(parameters.clone()) } else { answer };
            Some(answer.respond())
        }
        Some(Fault::RateLimit { seconds }) => {
            let until = Instant::now() + Duration::from_secs(*seconds);
            if let Some(bot) = shared.state().bots.get_mut(&token) {
                bot.windows.insert(scope(chat_id, &method), until);
            }
            Some(Answer::too_many(*seconds).respond())
        }
        Some(Fault::LostRequest) => {
            note(None);
            line.reset();
            return std::future::pending().await;
        }
        Some(Fault::Trickle) => {
            note(Some(200));
            return trickle();
        }
        Some(Fault::Hang) => {
            note(None);
            return std::future::pending().await;
        }
        Some(Fault::Hold) => {
            let held = Observation::Held { method: method.clone(), chat_id };
            shared.journal.note(&name(shared, &token), held);
            released.await;
            None
        }
        Some(Fault::Pass | Fault::LostAnswer | Fault::Truncated) | None => None,
    };
    if let Some(refused) = refused {
        note(Some(refused.status().as_u16()));
        return refused;
    }
    let answer = match inside_window {
        Some(seconds) => Answer::too_many(seconds),
        None => perform(shared, token.clone(), &method, params).await,
    };
    if fault == Some(Fault::LostAnswer) {
        note(None);
        line.reset();
        return std::future::pending().await;
    }
    note(Some(answer.status));
    if fault == Some(Fault::Truncated) {
        let text = answer.body.to_string();
        let half = text.get(..text.len() / 2).unwrap_or_default().to_owned();
        return page(answer.status, "application/json", half);
    }
    answer.respond()
}

/// How much longer the rate limit lasts that this call falls into.
fn inside_window(shared: &Shared, token: &str, method: &str, chat_id: Option<i64>) -> Option<u64> {
    let mut state = shared.state();
    let bot = state.bots.get_mut(token)?;
    let now = Instant::now();
    bot.windows.retain(|_, until| *until > now);
    let until = bot.windows.get(&scope(chat_id, method))?;
    Some((*until - now).as_secs() + 1)
}

async fn perform(shared: &Arc<Shared>, token: String, method: &str, params: Params) -> Answer {
    if method == "getupdates" {
        // A task of its own: the server does not notice that the connection of a held poll died.
        let shared = shared.clone();
        let poll = tokio::spawn(async move { updates::get(&shared, &token, &params).await });
        return poll.await.unwrap_or_else(|_| Answer::bad(500, "Internal Server Error"));
    }
    let mut state = shared.state();
    let settings = state.settings.clone();
    let Some(bot) = state.bots.get_mut(&token) else { return updates::unauthorized() };
    call(shared, bot, &token, method, &params, &settings)
}

fn call(
    shared: &Arc<Shared>,
    bot: &mut Bot,
    token: &str,
    method: &str,
    params: &Params,
    settings: &Settings,
) -> Answer {
    let limit = settings.per_chat.map(|least| (least, settings.retry_after_s));
    let old = settings.old_until;
    match method {
        "getme" => Answer::good(bot.me()),
        "sendmessage" => send::message(shared, bot, params, limit),
        "sendphoto" => send::file(shared, bot, params, "photo", limit),
        "senddocument" => send::file(shared, bot, params, "document", limit),
        "sendvoice" => send::file(shared, bot, params, "voice", limit),
        "sendaudio" => send::file(shared, bot, params, "audio", limit),
        "sendvideo" => send::file(shared, bot, params, "video", limit),
        "sendmediagroup" => send::album(shared, bot, params, limit),
        "editmessagetext" => change::edit(shared, bot, params, What::Text, (limit, old)),
        "editmessagecaption" => change::edit(shared, bot, params, What::Caption, (limit, old)),
        "editmessagemedia" => change::edit(shared, bot, params, What::Media, (limit, old)),
        "editmessagereplymarkup" => change::edit(shared, bot, params, What::Buttons, (limit, old)),
        "deletemessage" => change::delete(shared, bot, params, old),
        "setmessagereaction" => change::react(shared, bot, params),
        "sendmessagedraft" => change::draft(shared, bot, params, !settings.without_drafts),
        "sendchataction" => change::action(shared, bot, params),
        "getfile" => files::get(bot, params, settings.local_files.as_deref()),
        "answercallbackquery" => Answer::good(true),
        "setmycommands" => {
            let commands = params.json("commands").unwrap_or_default();
            if commands.as_array().is_none_or(|all| all.iter().any(|it| it["command"].is_null())) {
                return Answer::bad(400, "Bad Request: BOT_COMMAND_INVALID");
            }
            shared.journal.note(&bot.username, Observation::Menu { commands });
            Answer::good(true)
        }
        "deletemycommands" | "logout" | "close" => Answer::good(true),
        "setwebhook" => {
            let url = params.text("url").unwrap_or_default();
            updates::set_webhook(shared, bot, token, &url, params)
        }
        "deletewebhook" => updates::set_webhook(shared, bot, token, "", params),
        "getwebhookinfo" => updates::webhook_info(bot),
        "getchat" => {
            let id = params.number("chat_id").unwrap_or_default();
            let kind = if id > 0 { "private" } else { "supergroup" };
            if bot.chats.contains_key(&id) {
                Answer::good(json!({"id": id, "type": kind}))
            } else {
                Answer::bad(400, "Bad Request: chat not found")
            }
        }
        _ => Answer::bad(404, "Not Found: method not found"),
    }
}

fn name(shared: &Shared, token: &str) -> String {
    shared.state().bots.get(token).map(|bot| bot.username.clone()).unwrap_or_default()
}

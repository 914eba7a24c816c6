//! The open API: authorization, faults, and the journal around every call. The calls themselves are in `messages`.

#![expect(clippy::indexing_slicing, reason = "assigning a member of a JSON object cannot fail")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::http::request::Parts;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::faults::{Fault, Route, Trouble};
use super::observe::Observation;
use super::server::{json as respond_json, parameter, plain, respond};
use super::socket::never;
use super::state::{Shared, State};
use super::{cards, change, files, messages, reactions};
use crate::wire::Line;

const RATE_LIMITED: i64 = 99_991_400;
const TOKEN_MISSING: i64 = 99_991_661;
const TOKEN_INVALID: i64 = 99_991_663;
const SCOPE_MISSING: i64 = 99_991_672;

/// A call as it came.
pub(crate) struct Call<'a> {
    pub(crate) route: Route,
    /// The message or the card that it is about.
    pub(crate) target: Option<&'a str>,
    /// What of it: a reaction, a key, an element.
    pub(crate) part: Option<&'a str>,
    pub(crate) query: Option<&'a str>,
    pub(crate) receive_id_type: Option<String>,
    pub(crate) bytes: usize,
    pub(crate) body: Value,
    pub(crate) raw: &'a [u8],
    pub(crate) content_type: &'a str,
}

impl<'a> Call<'a> {
    fn of(head: &'a Parts, bytes: &'a [u8]) -> Self {
        let (route, target, part) = route_of(head);
        let content_type = head.headers.get("content-type").and_then(|value| value.to_str().ok());
        Self {
            route,
            target,
            part,
            query: head.uri.query(),
            raw: bytes,
            content_type: content_type.unwrap_or_default(),
            receive_id_type: parameter(head.uri.query(), "receive_id_type"),
            bytes: bytes.len(),
            body: serde_json::from_slice(bytes).unwrap_or_default(),
        }
    }

    /// What makes its message one of a kind.
    pub(crate) fn uuid(&self) -> Option<&str> {
        self.body.get("uuid").and_then(Value::as_str).filter(|uuid| !uuid.is_empty())
    }
}

/// An answer in Feishu's envelope.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) notes: Vec<Observation>,
    /// Bytes in place of JSON, and their type.
    pub(crate) file: Option<(Bytes, String)>,
}

impl Reply {
    pub(crate) fn refusal(status: u16, code: i64, msg: &str) -> Self {
        let body = json!({"code": code, "msg": msg, "data": {}});
        Self { status, body, notes: Vec::new(), file: None }
    }

    pub(crate) fn data(data: &Value) -> Self {
        let body = json!({"code": 0, "msg": "success", "data": data});
        Self { status: 200, body, notes: Vec::new(), file: None }
    }

    fn code(&self) -> Option<i64> {
        self.body.get("code").and_then(Value::as_i64)
    }
}

/// Answers one call.
pub(crate) async fn answer(
    shared: &Arc<Shared>,
    line: &Arc<Line>,
    head: &Parts,
    bytes: &[u8],
) -> Response<Full<Bytes>> {
    let call = Call::of(head, bytes);
    let route = call.route;
    let bearer = bearer(head);
    let app = match route {
        Route::Token => call.body.get("app_id").and_then(Value::as_str).map(str::to_owned),
        _ => owner(&shared.state(), bearer.unwrap_or_default()),
    };
    if let Some(app) = &app {
        line.belongs_to(app);
    }
    let name = app.clone().unwrap_or_default();
    let note = |status: Option<u16>, code, inside_window| {
        let route = route.name();
        shared.journal.note(&name, Observation::Call { route, status, code, inside_window });
    };

    // From before the look at the faults: a release after it is not missed.
    let released = shared.released.notified();
    let now = Instant::now();
    let window = (name.clone(), route);
    let (swallowed, trouble, closed_until) = {
        let mut guard = shared.state();
        let state = &mut *guard;
        state.windows.retain(|_, until| *until > now);
        let closed_until = state.windows.get(&window).copied();
        let swallowed = state.faults.swallows(app.as_deref());
        let trouble = match closed_until {
            Some(_) => None,
            None => state.faults.strike(app.as_deref(), |fault| match fault {
                Fault::Rest { route: wanted, trouble } if wanted.is_none_or(|it| it == route) => {
                    Some(trouble.clone())
                }
                _ => None,
            }),
        };
        if let Some(Trouble::RateLimit { reset_s, .. }) = trouble {
            state.windows.insert(window, now + Duration::from_secs(reset_s));
        }
        (swallowed, trouble, closed_until)
    };
    if swallowed {
        line.hold(true);
        return never().await;
    }
    if let Some(until) = closed_until {
        note(Some(429), Some(RATE_LIMITED), true);
        let left = until.duration_since(now);
        let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        return rate_limited(429, seconds);
    }
    match &trouble {
        Some(Trouble::Html { status }) => {
            note(Some(*status), None, false);
            let page =
                format!("<html><head><title>{status}</title></head><body>nginx</body></html>");
            return respond(*status, "text/html", page);
        }
        Some(Trouble::Code { status, code }) => {
            note(Some(*status), Some(*code), false);
            return envelope(shared, &Reply::refusal(*status, *code, "refused by a test"));
        }
        Some(Trouble::RateLimit { reset_s, status }) => {
            note(Some(*status), Some(RATE_LIMITED), false);
            return rate_limited(*status, *reset_s);
        }
        Some(Trouble::LostRequest) => {
            note(None, None, false);
            line.reset();
            return never().await;
        }
        Some(Trouble::Hang) => {
            note(None, None, false);
            return never().await;
        }
        Some(Trouble::Hold) => hold(shared, &name, &call, released).await,
        Some(Trouble::Trickle) => line.trickle(),
        Some(Trouble::LostAnswer | Trouble::Delay { .. }) | None => {}
    }

    if route == Route::Other {
        note(Some(404), None, false);
        return plain(404, "404 page not found");
    }
    let mut reply = apply(shared, &call, app.as_deref(), bearer);
    for seen in std::mem::take(&mut reply.notes) {
        shared.journal.note(&name, seen);
    }
    match trouble {
        Some(Trouble::LostAnswer) => {
            note(None, None, false);
            line.reset();
            return never().await;
        }
        Some(Trouble::Delay { ms }) => tokio::time::sleep(Duration::from_millis(ms)).await,
        _ => {}
    }
    note(Some(reply.status), reply.code(), false);
    envelope(shared, &reply)
}

/// Until it is released.
async fn hold(shared: &Shared, app: &str, call: &Call<'_>, released: impl Future<Output = ()>) {
    messages::hold(&mut shared.state(), app, call.uuid());
    shared.journal.note(app, Observation::Held { route: call.route.name() });
    released.await;
    messages::release(&mut shared.state(), app, call.uuid());
}

fn route_of(head: &Parts) -> (Route, Option<&str>, Option<&str>) {
    let path = head.uri.path();
    let rest = path.strip_prefix("/open-apis/").unwrap_or_default();
    let segments: Vec<&str> = rest.split('/').collect();
    let (route, target, part) = match (head.method.as_str(), segments.as_slice()) {
        ("GET", ["bot", "v3", "info"]) => (Route::BotInfo, None, None),
        ("POST", ["auth", "v3", "tenant_access_token", "internal"]) => (Route::Token, None, None),
        ("POST", ["im", "v1", "messages"]) => (Route::Send, None, None),
        ("GET", ["im", "v1", "messages"]) => (Route::History, None, None),
        ("POST", ["im", "v1", "messages", id, "reply"]) => (Route::Reply, Some(*id), None),
        ("PUT", ["im", "v1", "messages", id]) => (Route::Edit, Some(*id), None),
        ("PATCH", ["im", "v1", "messages", id]) => (Route::Patch, Some(*id), None),
        ("DELETE", ["im", "v1", "messages", id]) => (Route::Recall, Some(*id), None),
        ("GET", ["im", "v1", "messages", id]) => (Route::Message, Some(*id), None),
        ("POST", ["im", "v1", "messages", id, "reactions"]) => (Route::React, Some(*id), None),
        ("GET", ["im", "v1", "messages", id, "reactions"]) => (Route::Reactions, Some(*id), None),
        ("DELETE", ["im", "v1", "messages", id, "reactions", part]) => {
            (Route::Unreact, Some(*id), Some(*part))
        }
        ("GET", ["im", "v1", "messages", id, "resources", part]) => {
            (Route::Resource, Some(*id), Some(*part))
        }
        ("POST", ["im", "v1", "images"]) => (Route::Image, None, None),
        ("POST", ["im", "v1", "files"]) => (Route::File, None, None),
        ("GET", ["im", "v1", "chats", id]) => (Route::Chat, Some(*id), None),
        ("POST", ["cardkit", "v1", "cards"]) => (Route::Card, None, None),
        ("POST", ["cardkit", "v1", "cards", "id_convert"]) => (Route::CardConvert, None, None),
        ("PUT", ["cardkit", "v1", "cards", id]) => (Route::CardUpdate, Some(*id), None),
        ("PATCH", ["cardkit", "v1", "cards", id, "settings"]) => {
            (Route::CardSettings, Some(*id), None)
        }
        ("PUT", ["cardkit", "v1", "cards", id, "elements", part, "content"]) => {
            (Route::CardContent, Some(*id), Some(*part))
        }
        ("POST", ["interactive", "v1", "card", "update"]) => (Route::CardByToken, None, None),
        _ => (Route::Other, None, None),
    };
    (route, target, part)
}

fn bearer(head: &Parts) -> Option<&str> {
    let value = head.headers.get(AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ").map(str::trim).filter(|token| !token.is_empty())
}

/// The app whose living token this is.
fn owner(state: &State, token: &str) -> Option<String> {
    let now = Instant::now();
    let holds = |app: &super::state::App| {
        app.tokens.iter().any(|known| known.text == token && known.ends > now)
    };
    state.apps.iter().find(|(_, app)| holds(app)).map(|(id, _)| id.clone())
}

fn apply(shared: &Shared, call: &Call<'_>, app: Option<&str>, bearer: Option<&str>) -> Reply {
    let mut state = shared.state();
    if call.route == Route::Token {
        return token(&mut state, &call.body);
    }
    let status = state.settings.token_refusal_status;
    if bearer.is_none() {
        return Reply::refusal(status, TOKEN_MISSING, "Missing access token for authorization");
    }
    let Some(app) = app else {
        return Reply::refusal(status, TOKEN_INVALID, "Invalid access token for authorization");
    };
    if let Some(scope) = call.route.scope()
        && state.apps.get(app).is_some_and(|app| app.lacks.contains(scope))
    {
        return scope_missing(scope);
    }
    let at = shared.journal.now();
    match call.route {
        Route::BotInfo => bot_info(&state, app),
        Route::Send | Route::Reply => messages::create(&mut state, app, call, at),
        Route::Edit | Route::Patch => change::edit(&mut state, app, call),
        Route::Recall => change::recall(&mut state, app, call),
        Route::Message => change::get(&state, call),
        Route::History => change::history(&state, call),
        Route::Chat => change::chat(&state, call),
        Route::React => reactions::add(&mut state, app, call),
        Route::Unreact => reactions::remove(&mut state, app, call),
        Route::Reactions => reactions::list(&state, call),
        Route::Image | Route::File => files::upload(&mut state, app, call),
        Route::Resource => files::download(&state, call),
        Route::Card => cards::create(&mut state, app, call),
        Route::CardContent => cards::content(&mut state, app, call),
        Route::CardSettings => cards::settings(&mut state, app, call),
        Route::CardUpdate => cards::update(&mut state, app, call),
        Route::CardConvert => cards::convert(&state, app, call),
        Route::CardByToken => cards::by_token(&mut state, call),
        Route::Token | Route::Other => Reply::refusal(404, 404, "no such route"),
    }
}

fn scope_missing(scope: &str) -> Reply {
    let msg = format!(
        "Access denied. One of the following scopes is required: [{scope}].Please grant it in the developer console."
    );
    let mut reply = Reply::refusal(400, SCOPE_MISSING, &msg);
    reply.body["error"] = json!({
        "log_id": "1",
        "permission_violations": [{"type": "action_scope_required", "subject": scope}],
    });
    reply
}

fn token(state: &mut State, body: &Value) -> Reply {
    let member = |name| body.get(name).and_then(Value::as_str).unwrap_or_default();
    let (app_id, secret) = (member("app_id"), member("app_secret"));
    // These refusals come with HTTP 200.
    let refuse = |code: i64, msg: &str| Reply {
        status: 200,
        body: json!({"code": code, "msg": msg}),
        notes: Vec::new(),
        file: None,
    };
    let fresh = state.fresh_id("t-");
    let settings = state.settings.clone();
    let Some(app) = state.apps.get_mut(app_id) else {
        let well_formed = app_id.starts_with("cli_");
        let (code, msg) =
            if well_formed { (10_014, "app id not exists") } else { (10_003, "invalid param") };
        return refuse(code, msg);
    };
    if app.secret != secret {
        return refuse(10_015, "app secret invalid");
    }
    let (text, left, fresh) = app.issue_token(&settings, Instant::now(), || fresh);
    let body =
        json!({"code": 0, "msg": "ok", "tenant_access_token": text, "expire": left.as_secs()});
    Reply { status: 200, body, notes: vec![Observation::Token { fresh }], file: None }
}

fn bot_info(state: &State, app: &str) -> Reply {
    let open_id = state.apps.get(app).map(|app| app.bot_open_id.as_str());
    let bot = json!({
        "activate_status": 2,
        "app_name": "Simulated bot",
        "avatar_url": "",
        "ip_white_list": [],
        "open_id": open_id,
    });
    let body = json!({"code": 0, "msg": "ok", "bot": bot});
    Reply { status: 200, body, notes: Vec::new(), file: None }
}

fn envelope(shared: &Shared, reply: &Reply) -> Response<Full<Bytes>> {
    let mut response = respond_json(reply.status, &reply.body);
    if let Some((bytes, mime)) = &reply.file {
        response = Response::new(Full::new(bytes.clone()));
        let mime = HeaderValue::from_str(mime).expect("a media type fits a header");
        response.headers_mut().insert("content-type", mime);
    }
    let id = HeaderValue::from_str(&shared.state().fresh_id(""));
    response.headers_mut().insert("X-Tt-Logid", id.expect("hexadecimal fits a header"));
    response
}

fn rate_limited(status: u16, seconds: u64) -> Response<Full<Bytes>> {
    let body = json!({"code": RATE_LIMITED, "msg": "request trigger frequency limit"});
    let mut response = respond_json(status, &body);
    let headers = response.headers_mut();
    headers.insert("x-ogw-ratelimit-limit", HeaderValue::from_static("1000"));
    headers.insert("x-ogw-ratelimit-reset", HeaderValue::from(seconds));
    response
}

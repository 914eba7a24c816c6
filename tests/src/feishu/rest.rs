//! The open API: authorization, faults, and the journal around every call. The calls themselves are in `messages`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::faults::{Fault, Route, Trouble};
use super::messages;
use super::observe::Observation;
use super::server::{json as respond_json, parameter, plain, respond};
use super::socket::never;
use super::state::{Shared, State};
use crate::wire::Line;

const TOKEN_PATH: &str = "/open-apis/auth/v3/tenant_access_token/internal";
const BOT_INFO_PATH: &str = "/open-apis/bot/v3/info";
const MESSAGES_PATH: &str = "/open-apis/im/v1/messages";

const RATE_LIMITED: i64 = 99_991_400;
const TOKEN_MISSING: i64 = 99_991_661;
const TOKEN_INVALID: i64 = 99_991_663;

/// A call as it came.
pub(crate) struct Call<'a> {
    pub(crate) route: Route,
    /// The message replied to.
    pub(crate) target: Option<&'a str>,
    pub(crate) receive_id_type: Option<String>,
    pub(crate) bytes: usize,
    pub(crate) body: Value,
}

/// An answer in Feishu's envelope.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) notes: Vec<Observation>,
}

impl Reply {
    pub(crate) fn refusal(status: u16, code: i64, msg: &str) -> Self {
        Self { status, body: json!({"code": code, "msg": msg, "data": {}}), notes: Vec::new() }
    }

    pub(crate) fn data(data: &Value) -> Self {
        let body = json!({"code": 0, "msg": "success", "data": data});
        Self { status: 200, body, notes: Vec::new() }
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
    let (route, target) = route_of(head);
    let call = Call {
        route,
        target,
        receive_id_type: parameter(head.uri.query(), "receive_id_type"),
        bytes: bytes.len(),
        body: serde_json::from_slice(bytes).unwrap_or_default(),
    };
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

fn route_of(head: &Parts) -> (Route, Option<&str>) {
    let path = head.uri.path();
    if head.method == Method::GET && path == BOT_INFO_PATH {
        return (Route::BotInfo, None);
    }
    if head.method != Method::POST {
        return (Route::Other, None);
    }
    match path {
        TOKEN_PATH => return (Route::Token, None),
        MESSAGES_PATH => return (Route::Send, None),
        _ => {}
    }
    let rest = path.strip_prefix(MESSAGES_PATH).and_then(|rest| rest.strip_prefix('/'));
    match rest.and_then(|rest| rest.strip_suffix("/reply")) {
        Some(target) if !target.contains('/') => (Route::Reply, Some(target)),
        _ => (Route::Other, None),
    }
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
    match call.route {
        Route::BotInfo => bot_info(&state, app),
        _ => messages::create(&mut state, app, call, shared.journal.now()),
    }
}

fn token(state: &mut State, body: &Value) -> Reply {
    let member = |name| body.get(name).and_then(Value::as_str).unwrap_or_default();
    let (app_id, secret) = (member("app_id"), member("app_secret"));
    // These refusals come with HTTP 200.
    let refuse = |code: i64, msg: &str| Reply {
        status: 200,
        body: json!({"code": code, "msg": msg}),
        notes: Vec::new(),
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
    Reply { status: 200, body, notes: vec![Observation::Token { fresh }] }
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
    Reply { status: 200, body: json!({"code": 0, "msg": "ok", "bot": bot}), notes: Vec::new() }
}

fn envelope(shared: &Shared, reply: &Reply) -> Response<Full<Bytes>> {
    let mut response = respond_json(reply.status, &reply.body);
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

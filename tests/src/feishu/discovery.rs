//! The discovery call: credentials in, the URL of the long connection out. Each attempt gets a URL of its own.

#![expect(clippy::indexing_slicing, reason = "assigning a member of a JSON object cannot fail")]

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::DATE;
use hyper::http::request::Parts;
use serde_json::{Value, json};

use super::faults::Fault;
use super::observe::Observation;
use super::server::{json as respond_json, respond};
use super::socket::{self, never};
use super::state::{Shared, State, Ticket};
use crate::clock;
use crate::wire::Line;

pub(crate) const PATH: &str = "/callback/ws/endpoint";

const MISSING: i64 = 1_000_040_344;
const INVALID: i64 = 1_000_040_345;

enum Verdict {
    Answer { status: u16, body: Value, device_id: Option<String> },
    Bare { status: u16, body: String },
    Hang,
    Swallow,
}

/// Answers one discovery call.
pub(crate) async fn answer(
    shared: &Arc<Shared>,
    line: &Arc<Line>,
    head: &Parts,
    body: &[u8],
) -> Response<Full<Bytes>> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let member = |name| body.get(name).and_then(Value::as_str).unwrap_or_default();
    let (app_id, secret) = (member("AppID"), member("AppSecret"));
    line.belongs_to(app_id);
    let host = head.headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
    let verdict = judge(&mut shared.state(), app_id, secret, host);
    let note = |status, code, device_id| {
        shared.journal.note(app_id, Observation::Discovery { status, code, device_id });
    };
    match verdict {
        Verdict::Answer { status, body, device_id } => {
            note(Some(status), body.get("code").and_then(Value::as_i64), device_id);
            let mut answer = respond_json(status, &body);
            let date = clock::http_date(shared.state().settings.behind);
            answer.headers_mut().extend(date.parse().ok().map(|date| (DATE, date)));
            answer
        }
        Verdict::Bare { status, body } => {
            note(Some(status), None, None);
            respond(status, "text/html", body)
        }
        Verdict::Hang => {
            note(None, None, None);
            never().await
        }
        Verdict::Swallow => {
            line.hold(true);
            never().await
        }
    }
}

fn judge(state: &mut State, app_id: &str, secret: &str, host: &str) -> Verdict {
    if state.faults.swallows(Some(app_id)) {
        return Verdict::Swallow;
    }
    let fault = state.faults.strike(Some(app_id), |fault| match fault {
        Fault::DiscoveryHang => Some(Verdict::Hang),
        Fault::DiscoveryStatus { status, body } => {
            Some(Verdict::Bare { status: *status, body: body.clone() })
        }
        Fault::DiscoveryCode { code, status, data } => {
            Some(refusal(*status, *code, "refused by a test", *data))
        }
        _ => None,
    });
    if let Some(verdict) = fault {
        return verdict;
    }
    if app_id.is_empty() || secret.is_empty() {
        return refusal(200, MISSING, "app_id or app_secret is missing", true);
    }
    let known = state.apps.get(app_id).filter(|app| app.secret == secret);
    let Some(service_id) = known.map(|app| app.service_id) else {
        return refusal(200, INVALID, "app_id or app_secret is invalid", true);
    };
    let device_id = state.fresh_number().to_string();
    let ticket = state.fresh_id("");
    let scheme = if state.settings.secured { "wss" } else { "ws" };
    let url = format!(
        "{scheme}://{host}{}?device_id={device_id}&access_key={}&service_id={service_id}&ticket={ticket}",
        socket::PATH,
        state.fresh_id("")
    );
    let issued = Ticket { app: app_id.to_owned(), used: false };
    state.tickets.insert(ticket, issued);
    let config = state.settings.client_config.json();
    let body = json!({"code": 0, "msg": "ok", "data": {"URL": url, "ClientConfig": config}});
    Verdict::Answer { status: 200, body, device_id: Some(device_id) }
}

fn refusal(status: u16, code: i64, msg: &str, data: bool) -> Verdict {
    let mut body = json!({"code": code, "msg": msg});
    if data {
        body["data"] = json!({});
    }
    Verdict::Answer { status, body, device_id: None }
}

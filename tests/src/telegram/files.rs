//! Files that people sent: `getFile`, and their bytes.

use std::sync::Arc;

use http_body_util::{BodyExt as _, Full};
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde_json::json;

use super::answer::{Answer, Body};
use super::observe::Observation;
use super::params::Params;
use super::state::{Bot, Shared};

/// What the public server hands out.
const MOST: usize = 20 * 1024 * 1024;

/// `getFile`.
pub(crate) fn get(bot: &Bot, params: &Params, local: Option<&str>) -> Answer {
    let id = params.text("file_id").unwrap_or_default();
    let Some(bytes) = bot.files.get(&id) else {
        return Answer::bad(
            400,
            "Bad Request: wrong file_id or the file is temporarily unavailable",
        );
    };
    if bytes.len() > MOST && local.is_none() {
        return Answer::bad(400, "Bad Request: file is too big");
    }
    let path = match local {
        Some(dir) => format!("{dir}/{id}"),
        None => format!("documents/{id}"),
    };
    Answer::good(json!({
        "file_id": id, "file_unique_id": format!("u-{id}"), "file_size": bytes.len(), "file_path": path,
    }))
}

/// The bytes behind a path.
pub(crate) fn bytes(shared: &Arc<Shared>, rest: &str) -> Response<Body> {
    let not_found = || Answer::bad(404, "Not Found").respond();
    // Some libraries write the colon of the token as a number.
    let rest = rest.replace("%3A", ":");
    let Some((token, path)) = rest.split_once('/') else { return not_found() };
    let fault = shared.state().faults.strike("file");
    let state = shared.state();
    let Some(bot) = state.bots.get(token) else { return not_found() };
    let bytes = path.strip_prefix("documents/").and_then(|id| bot.files.get(id));
    let status = if bytes.is_some() && fault.is_none() { 200 } else { 404 };
    let read = Observation::Read { path: path.to_owned(), status };
    shared.journal.note(&bot.username, read);
    match bytes.filter(|_| status == 200) {
        Some(bytes) => {
            let mut response = Response::new(Full::new(bytes.clone()).boxed_unsync());
            let kind = HeaderValue::from_static("application/octet-stream");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        None => not_found(),
    }
}

//! What a program says, read: parameters and results, and what is wrong with them.

use protocol::content;
use protocol::event::Inbound;
use protocol::rpc::INVALID_PARAMS;
use protocol::rpc::platform as rpc;
use protocol::worker::Cursor;
use serde_json::Value;

pub(super) use crate::connection::{read, read_required};
use crate::exchange::Exchange;

/// What a call came to: its result, or a code and words for people.
pub(super) type Called = Result<Value, (i32, String)>;

/// What it told and what is not handed in yet.
pub(super) struct Told {
    pub(super) id: Value,
    pub(super) bytes: usize,
    pub(super) what: What,
}

pub(super) enum What {
    Event(Box<Inbound>, Option<Cursor>),
    Cursor(Cursor),
}

/// The ids of messages, however a language writes them.
pub(super) fn ids(result: &Value) -> Vec<String> {
    let id = |id: &Value| match id {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    };
    let ids = result.get("message_ids").and_then(Value::as_array);
    ids.into_iter().flatten().filter_map(id).collect()
}

/// A file that the program says it has put into the exchange directory.
pub(super) async fn fetched(
    result: Value,
    fetch: &content::Fetch,
    exchange: &Exchange,
) -> Result<content::Fetched, String> {
    let rpc::Fetched { file, mime } = serde_json::from_value(result).map_err(|e| e.to_string())?;
    let opened = exchange.open(&file).await;
    let (_, size) = opened.map_err(|e| format!("open the file {file:?}: {e}"))?;
    exchange.admit(size).map_err(|e| e.to_string())?;
    Ok(content::Fetched { file, size, mime: mime.or_else(|| fetch.part.mime.clone()) })
}

pub(super) fn event(params: &str) -> Result<What, (i32, String)> {
    let mut event: rpc::Event = read_required(params)?;
    let point = event.cursor.take().filter(|it| !it.is_null());
    let point = point.map(|it| cursor(&it)).transpose()?;
    let event = event.inbound().map_err(|why| (INVALID_PARAMS, why))?;
    Ok(What::Event(Box::new(event), point))
}

pub(super) fn resume_point(params: &str) -> Result<What, (i32, String)> {
    let rpc::Keep { cursor: point } = read_required(params)?;
    cursor(&point).map(What::Cursor)
}

fn cursor(point: &Value) -> Result<Cursor, (i32, String)> {
    let text = point.to_string();
    if text.len() > rpc::CURSOR_MAX {
        let most = rpc::CURSOR_MAX;
        return Err((INVALID_PARAMS, format!("cursor must have at most {most} bytes of JSON")));
    }
    Ok(Cursor(text.into_bytes()))
}

pub(super) fn json<T: serde::Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

//! Pictures and files: uploaded by apps, and fetched from messages.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::{Value, json};

use super::faults::Route;
use super::messages::Refusal;
use super::observe::Observation;
use super::rest::{Call, Reply};
use super::server::parameter;
use super::state::{Resource, State};

const BAD_PARAMETER: i64 = 234_001;
const TOO_LARGE: i64 = 234_006;
const EMPTY: i64 = 234_010;
const NO_RESOURCE: i64 = 234_003;
const BAD_CONTENT: i64 = 230_001;
const IMAGE_LIMIT: usize = 10 << 20;
const FILE_LIMIT: usize = 30 << 20;
const FILE_TYPES: [&str; 7] = ["opus", "mp4", "pdf", "doc", "xls", "ppt", "stream"];

/// One field of a form.
#[derive(Default)]
struct Field {
    name: String,
    file_name: Option<String>,
    bytes: Vec<u8>,
}

/// Takes a picture or a file.
pub(crate) fn upload(state: &mut State, app: &str, call: &Call<'_>) -> Reply {
    match try_upload(state, app, call) {
        Ok(reply) => reply,
        Err((code, why)) => Reply::refusal(400, code, &why),
    }
}

fn try_upload(state: &mut State, app: &str, call: &Call<'_>) -> Result<Reply, Refusal> {
    let bad = |why: &str| (BAD_PARAMETER, why.to_owned());
    let fields = form(call).ok_or_else(|| bad("the body is no form"))?;
    let text = |name: &str| {
        let field = fields.get(name)?;
        String::from_utf8(field.bytes.clone()).ok()
    };
    let image = call.route == Route::Image;
    let (file, kind, limit) = if image {
        if text("image_type").as_deref() != Some("message") {
            return Err(bad("image_type is message or avatar"));
        }
        (fields.get("image"), "image".to_owned(), IMAGE_LIMIT)
    } else {
        let kind = text("file_type").filter(|kind| FILE_TYPES.contains(&kind.as_str()));
        let kind = kind.ok_or_else(|| bad("no such file_type"))?;
        if text("file_name").is_none_or(|name| name.is_empty()) {
            return Err(bad("file_name is required"));
        }
        (fields.get("file"), kind, FILE_LIMIT)
    };
    let file = file.ok_or_else(|| bad("there is no file"))?;
    match file.bytes.len() {
        0 => return Err((EMPTY, "the file is empty".to_owned())),
        size if size > limit => return Err((TOO_LARGE, "the file is too large".to_owned())),
        _ => {}
    }
    let key = state.fresh_id(if image { "img_v3_" } else { "file_v3_" });
    let resource = Resource {
        mime: "application/octet-stream".to_owned(),
        bytes: Bytes::from(file.bytes.clone()),
        app: Some(app.to_owned()),
        kind: kind.clone(),
    };
    state.resources.insert(key.clone(), resource);
    let name = if image { "image_key" } else { "file_key" };
    let mut reply = Reply::data(&json!({ name: key }));
    let name = text("file_name").or_else(|| file.file_name.clone()).unwrap_or_default();
    let (bytes, duration) = (file.bytes.len(), text("duration"));
    reply.notes.push(Observation::Uploaded { key, kind, name, bytes, duration });
    Ok(reply)
}

/// The fields of a form, by name.
fn form(call: &Call<'_>) -> Option<HashMap<String, Field>> {
    let boundary = call.content_type.strip_prefix("multipart/form-data;")?;
    let boundary = boundary.trim().strip_prefix("boundary=")?.trim_matches('"');
    let mark = format!("--{boundary}").into_bytes();
    let mut fields = HashMap::new();
    let mut at = find(call.raw, &mark)? + mark.len();
    loop {
        let rest = call.raw.get(at..)?;
        if rest.starts_with(b"--") {
            return Some(fields);
        }
        let rest = rest.strip_prefix(b"\r\n")?;
        let end = find(rest, &[b"\r\n", mark.as_slice()].concat())?;
        let part = rest.get(..end)?;
        let head = find(part, b"\r\n\r\n")?;
        let mut field = Field { bytes: part.get(head + 4..)?.to_vec(), ..Field::default() };
        let head = String::from_utf8_lossy(part.get(..head)?).into_owned();
        for word in head.split([';', '\r', '\n']) {
            let Some((key, value)) = word.trim().split_once('=') else { continue };
            let value = value.trim_matches('"').to_owned();
            match key {
                "name" => field.name = value,
                "filename" | "filename*" => field.file_name = Some(value),
                _ => {}
            }
        }
        fields.insert(field.name.clone(), field);
        at += 2 + end + 2 + mark.len();
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Whether the key in a message's content is one of this app's, of the right sort.
pub(crate) fn check_key(
    state: &State,
    app: &str,
    msg_type: &str,
    content: &str,
) -> Result<(), Refusal> {
    let name = match msg_type {
        "image" => "image_key",
        "file" | "audio" | "media" => "file_key",
        _ => return Ok(()),
    };
    let content: Value = serde_json::from_str(content).unwrap_or_default();
    let key = content.get(name).and_then(Value::as_str).unwrap_or_default();
    let known = state.resources.get(key).filter(|known| known.app.as_deref() == Some(app));
    let Some(known) = known else {
        return Err((BAD_CONTENT, format!("{name} {key:?} is none of this app")));
    };
    let fits = match msg_type {
        "image" => known.kind == "image",
        "audio" => known.kind == "opus",
        "media" => known.kind == "mp4",
        _ => known.kind != "image",
    };
    if fits { Ok(()) } else { Err((BAD_CONTENT, format!("a {} is no {msg_type}", known.kind))) }
}

/// Hands out the bytes of a part of a message.
pub(crate) fn download(state: &State, call: &Call<'_>) -> Reply {
    let message_id = call.target.unwrap_or_default();
    let key = call.part.unwrap_or_default();
    let kind = parameter(call.query, "type").unwrap_or_default();
    let content = state.messages.get(message_id).map_or("", |message| message.content.as_str());
    let resource = state.resources.get(key).filter(|_| content.contains(key));
    let Some(resource) = resource else {
        return Reply::refusal(400, NO_RESOURCE, "no such resource in this message");
    };
    if (kind == "image") != (resource.kind == "image") || !matches!(&*kind, "image" | "file") {
        return Reply::refusal(400, BAD_PARAMETER, "type is image or file");
    }
    let (message_id, key) = (message_id.to_owned(), key.to_owned());
    let mut reply = Reply::data(&json!({}));
    reply.file = Some((resource.bytes.clone(), resource.mime.clone()));
    reply.notes.push(Observation::Downloaded { message_id, key });
    reply
}

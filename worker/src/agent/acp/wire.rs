//! The lines of the Agent Client Protocol, version 1: JSON-RPC 2.0, one object a line. Pure, and safe with any
//! bytes. <https://agentclientprotocol.com>
//!
//! Everything that an agent says may lack anything or have more; ids of its requests are given back as they
//! came. Only objects are ever written, one a line: an array ends the reader of at least one agent.

use serde_json::{Value, json};

use crate::json::{self, line};

/// The version that is asked for.
pub(super) const VERSION: u64 = 1;
/// JSON-RPC: no such method.
const METHOD_NOT_FOUND: i64 = -32601;
/// The agent wants somebody to log in.
pub(super) const LOGIN: i64 = -32000;

/// What an agent says.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Heard {
    /// The answer to our request of this number.
    Answer(u64, Result<Value, Fault>),
    /// Something happens in a session.
    Update { session: String, update: Update },
    /// It asks for permission.
    Permission { id: Value, session: String, title: String, options: Vec<Choice> },
    /// It asks for something that we do not offer.
    Unknown { id: Value, method: String },
    /// Something of no use here.
    Other,
}

/// Why a request failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Fault {
    pub(super) code: i64,
    pub(super) text: String,
}

/// What happens in a session.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Update {
    /// The agent says this; a new id begins a new message.
    Says { message: Option<String>, content: Said },
    /// The user said this: told again while a session is loaded.
    UserSaid(String),
    /// It works with a tool: what, and whether it is at it.
    Tool { id: String, title: Option<String>, is_over: bool },
    /// It is alive.
    Alive,
}

/// A block of content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Said {
    Text(String),
    /// Bytes, as base64.
    File {
        mime: String,
        data: String,
    },
    Link {
        uri: String,
        name: String,
    },
    /// What is told in words in its place.
    Beside(String),
    Nothing,
}

/// An option of a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Choice {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) kind: String,
}

/// What an agent can do.
#[expect(clippy::struct_excessive_bools, reason = "as the protocol tells them")]
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Able {
    pub(super) version: u64,
    pub(super) name: String,
    pub(super) load: bool,
    pub(super) resume: bool,
    pub(super) fork: bool,
    pub(super) image: bool,
    pub(super) logins: Vec<String>,
}

impl Able {
    /// From the answer to `initialize`.
    pub(super) fn read(value: &Value) -> Self {
        let there = |at: &str| value.pointer(at).is_some_and(|value| !value.is_null());
        let is = |at: &str| value.pointer(at) == Some(&Value::Bool(true));
        let sessions = |name: &str| {
            let at = format!("/agentCapabilities/sessionCapabilities/{name}");
            there(&at) && value.pointer(&at) != Some(&Value::Bool(false))
        };
        let name = ["/agentInfo/title", "/agentInfo/name"].iter().find_map(|at| {
            value.pointer(at).and_then(Value::as_str).filter(|text| !text.is_empty())
        });
        let logins = value.get("authMethods").and_then(Value::as_array);
        let logins = logins.into_iter().flatten().filter_map(|method| {
            let name = method.get("name").or_else(|| method.get("id"))?;
            name.as_str().map(str::to_owned)
        });
        Self {
            version: value.get("protocolVersion").and_then(Value::as_u64).unwrap_or(0),
            name: name.unwrap_or("agent").to_owned(),
            load: is("/agentCapabilities/loadSession"),
            resume: sessions("resume"),
            fork: sessions("fork"),
            image: is("/agentCapabilities/promptCapabilities/image"),
            logins: logins.collect(),
        }
    }

    /// Whether it is a Hermes Agent, whose failures look like answers.
    pub(super) fn is_hermes(&self) -> bool {
        self.name.to_ascii_lowercase().contains("hermes")
    }
}

/// Reads a line. `None`: it is none of the protocol.
pub(super) fn decode(line: &str) -> Option<Heard> {
    let value = json::lenient(line.as_bytes())?;
    value.is_object().then_some(())?;
    let id = value.get("id").filter(|id| !id.is_null());
    let Some(method) = value.get("method").and_then(Value::as_str) else {
        let number = id.and_then(Value::as_u64)?;
        return Some(Heard::Answer(number, answer(&value)));
    };
    let params = value.get("params").unwrap_or(&Value::Null);
    let session = text(params, "sessionId");
    Some(match (method, id) {
        ("session/update", _) => {
            Heard::Update { session, update: update(params.get("update").unwrap_or(&Value::Null)) }
        }
        ("session/request_permission", Some(id)) => Heard::Permission {
            id: id.clone(),
            session,
            title: params.pointer("/toolCall/title").and_then(Value::as_str).unwrap_or("").into(),
            options: choices(params),
        },
        (method, Some(id)) => Heard::Unknown { id: id.clone(), method: method.to_owned() },
        (_, None) => Heard::Other,
    })
}

/// Whether a line was to be one of the protocol, and nobody can read it.
pub(super) fn is_broken(line: &str) -> bool {
    line.starts_with('{') && json::lenient(line.as_bytes()).is_none()
}

fn answer(value: &Value) -> Result<Value, Fault> {
    let Some(error) = value.get("error").filter(|error| !error.is_null()) else {
        return Ok(value.get("result").cloned().unwrap_or(Value::Null));
    };
    let code = error.get("code").and_then(Value::as_i64).unwrap_or(0);
    let mut words = text(error, "message");
    if let Some(details) = error.pointer("/data/details").and_then(Value::as_str) {
        words = format!("{words}: {details}");
    }
    words.truncate(words.floor_char_boundary(300));
    Err(Fault { code, text: words })
}

fn choices(params: &Value) -> Vec<Choice> {
    let options = params.get("options").and_then(Value::as_array).into_iter().flatten();
    let choice = |option: &Value| Choice {
        id: text(option, "optionId"),
        name: text(option, "name"),
        kind: text(option, "kind"),
    };
    options.map(choice).collect()
}

fn update(update: &Value) -> Update {
    let content = update.get("content").unwrap_or(&Value::Null);
    match text(update, "sessionUpdate").as_str() {
        "agent_message_chunk" => Update::Says {
            message: Some(text(update, "messageId")).filter(|id| !id.is_empty()),
            content: said(content),
        },
        "user_message_chunk" => match said(content) {
            Said::Text(text) => Update::UserSaid(text),
            Said::File { .. } | Said::Link { .. } | Said::Beside(_) | Said::Nothing => {
                Update::Alive
            }
        },
        "tool_call" | "tool_call_update" => {
            let status = text(update, "status");
            Update::Tool {
                id: text(update, "toolCallId"),
                title: Some(text(update, "title")).filter(|title| !title.is_empty()),
                is_over: matches!(status.as_str(), "completed" | "failed"),
            }
        }
        _ => Update::Alive,
    }
}

fn said(content: &Value) -> Said {
    match text(content, "type").as_str() {
        "text" => Said::Text(text(content, "text")),
        "image" | "audio" => {
            Said::File { mime: text(content, "mimeType"), data: text(content, "data") }
        }
        "resource_link" => Said::Link { uri: text(content, "uri"), name: text(content, "name") },
        "resource" => {
            let resource = content.get("resource").unwrap_or(&Value::Null);
            match (text(resource, "text"), text(resource, "blob")) {
                (words, _) if !words.is_empty() => Said::Beside(words),
                (_, data) if !data.is_empty() => {
                    Said::File { mime: text(resource, "mimeType"), data }
                }
                _ => Said::Beside(format!("[{}]", text(resource, "uri"))),
            }
        }
        "" => Said::Nothing,
        other => Said::Beside(format!("[{other}]")),
    }
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A request.
pub(super) fn request(number: u64, method: &str, params: &Value) -> String {
    line(&json!({ "jsonrpc": "2.0", "id": number, "method": method, "params": params }))
}

/// Something that wants no answer.
pub(super) fn notify(method: &str, params: &Value) -> String {
    line(&json!({ "jsonrpc": "2.0", "method": method, "params": params }))
}

/// The parameters of the first request.
pub(super) fn initialize() -> Value {
    json!({
        "protocolVersion": VERSION,
        "clientInfo": {
            "name": "hermes-gw", "title": "hermes-gw", "version": env!("CARGO_PKG_VERSION"),
        },
        "clientCapabilities": {
            "fs": { "readTextFile": false, "writeTextFile": false },
            "terminal": false,
        },
    })
}

/// The answer to a question of the agent; `None`: nobody chose.
pub(super) fn chosen(id: &Value, option: Option<&str>) -> String {
    let outcome = match option {
        Some(option) => json!({ "outcome": "selected", "optionId": option }),
        None => json!({ "outcome": "cancelled" }),
    };
    line(&json!({ "jsonrpc": "2.0", "id": id, "result": { "outcome": outcome } }))
}

/// The answer to a request for what is not offered.
pub(super) fn not_offered(id: &Value) -> String {
    let error = json!({ "code": METHOD_NOT_FOUND, "message": "Method not found" });
    line(&json!({ "jsonrpc": "2.0", "id": id, "error": error }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_an_agent_says() {
        let chunk = r#"{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"s","update":
            {"sessionUpdate":"agent_message_chunk","messageId":null,"content":{"type":"text","text":"hi"}}}}"#;
        let update = Update::Says { message: None, content: Said::Text("hi".into()) };
        assert_eq!(decode(chunk), Some(Heard::Update { session: "s".into(), update }));
        let half = chunk.replace("hi", r"hi \ud83d");
        let Some(Heard::Update { update: Update::Says { content, .. }, .. }) = decode(&half) else {
            panic!()
        };
        assert_eq!(content, Said::Text("hi \u{fffd}".into()));
        assert!(is_broken(&chunk[..40]) && !is_broken(chunk) && !is_broken("a word"));
        let failed = r#"{"id":3,"error":{"code":-32603,"message":"no","data":{"details":"why"}}}"#;
        let fault = Fault { code: -32603, text: "no: why".into() };
        assert_eq!(decode(failed), Some(Heard::Answer(3, Err(fault))));
        assert_eq!(decode(r#"{"id":4,"result":null}"#), Some(Heard::Answer(4, Ok(Value::Null))));
        let unknown = r#"{"id":"a-1","method":"fs/read_text_file","params":{}}"#;
        let id = json!("a-1");
        let method = "fs/read_text_file".to_owned();
        assert_eq!(decode(unknown), Some(Heard::Unknown { id, method }));
        assert_eq!(decode(r#"{"method":"later"}"#), Some(Heard::Other));
        for none in ["", "[]", "{", "7", "Banner of a program", r#"{"id":null,"result":1}"#] {
            assert_eq!(decode(none), None, "{none:?}");
        }
        let question = r#"{"id":0,"method":"session/request_permission","params":{"sessionId":"s",
            "toolCall":{"toolCallId":"t","title":"rm -rf"},"options":[{"optionId":"x","name":"Allow","kind":"allow_once"}]}}"#;
        let options =
            vec![Choice { id: "x".into(), name: "Allow".into(), kind: "allow_once".into() }];
        let asked = Heard::Permission {
            id: json!(0),
            session: "s".into(),
            title: "rm -rf".into(),
            options,
        };
        assert_eq!(decode(question), Some(asked));
    }

    #[test]
    fn content_of_every_kind_is_carried_or_named() {
        let file = |mime: &str| Said::File { mime: mime.into(), data: "MTIz".into() };
        let beside = |words: &str| Said::Beside(words.into());
        for (content, expected) in [
            (
                json!({ "type": "image", "mimeType": "image/png", "data": "MTIz" }),
                file("image/png"),
            ),
            (
                json!({ "type": "audio", "mimeType": "audio/wav", "data": "MTIz" }),
                file("audio/wav"),
            ),
            (
                json!({ "type": "resource", "resource": { "uri": "x", "text": "words" } }),
                beside("words"),
            ),
            (
                json!({ "type": "resource", "resource": { "mimeType": "a/b", "blob": "MTIz" } }),
                file("a/b"),
            ),
            (
                json!({ "type": "resource", "resource": { "uri": "file:///q" } }),
                beside("[file:///q]"),
            ),
            (json!({ "type": "hologram", "x": 1 }), beside("[hologram]")),
            (json!({}), Said::Nothing),
        ] {
            assert_eq!(said(&content), expected, "{content}");
        }
    }

    #[test]
    fn what_an_agent_can_do() {
        let told = json!({
            "protocolVersion": 1,
            "agentInfo": { "name": "hermes-agent" },
            "agentCapabilities": {
                "loadSession": true,
                "promptCapabilities": { "image": true },
                "sessionCapabilities": { "fork": {}, "resume": null },
            },
            "authMethods": [{ "id": "x", "name": "Log in" }],
        });
        let able = Able::read(&told);
        assert!(able.is_hermes() && able.load && able.fork && able.image && !able.resume);
        assert_eq!((able.version, able.logins), (1, vec!["Log in".to_owned()]));
        assert_eq!(Able::read(&Value::Null).version, 0);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_every_line_is_one(noise in "\\PC{0,80}", word in "\\PC{0,9}") {
            let _ = decode(&noise);
            let _ = decode(&json!({ "method": word, "id": noise, "params": { "update": word } }).to_string());
            let line = request(1, &word, &json!({ "text": noise }));
            prop_assert_eq!(line.matches('\n').count(), 1);
        }
    }
}

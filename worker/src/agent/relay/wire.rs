//! The lines of the relay contract, version 1, from and to JSON. Pure, and safe with any bytes.
//!
//! An object without its final line end is not read by the agent, and one line of more than a
//! mebibyte makes it close the connection again and again; so every line ends, and none is that long.

use serde_json::{Value, json};

use super::source;
use crate::json::{self, line};

/// The longest line that is sent.
pub(super) const LINE_MAX: usize = 1_000_000;

/// What the agent says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Heard {
    /// It fronts this platform.
    Hello(String),
    /// It wants something done.
    Outbound {
        /// Its name for the request; never used again.
        request: String,
        /// The platform of the chat, where it knows.
        platform: Option<String>,
        /// What.
        op: Op,
    },
    /// It took an event into its memory, which is not the same as having worked on it.
    Taken(String),
    /// It is about to leave.
    GoingIdle,
    /// Something of no use here.
    Other,
    /// What nobody can read: perhaps an answer.
    Unreadable,
}

/// What the agent wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Op {
    /// A message.
    Send(Send),
    /// What is known of a chat.
    ChatInfo {
        /// Which.
        chat_id: String,
    },
    /// Something that we do not offer.
    Unknown(String),
}

/// A message of the agent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Send {
    pub(super) chat_id: String,
    pub(super) text: String,
    /// The message that it answers, and the name under which that was offered.
    pub(super) reply_to: Option<String>,
    pub(super) copy: Option<String>,
    pub(super) thread_id: Option<String>,
    /// The end of a turn, or the answer to a command.
    pub(super) is_final: bool,
}

/// Reads a line. `None`: it is no object.
pub(super) fn decode(line: &[u8]) -> Option<Heard> {
    let value = json::lenient(line)?;
    value.is_object().then_some(())?;
    let word = |name: &str| text(&value, name).unwrap_or_default();
    Some(match word("type").as_str() {
        "hello" => Heard::Hello(word("platform")),
        "outbound" => Heard::Outbound {
            request: word("requestId"),
            platform: text(&value, "platform"),
            op: op(value.get("action").unwrap_or(&Value::Null)),
        },
        "inbound_ack" => Heard::Taken(word("bufferId")),
        "going_idle" => Heard::GoingIdle,
        _ => Heard::Other,
    })
}

fn op(action: &Value) -> Op {
    let chat_id = text(action, "chat_id").unwrap_or_default();
    let metadata = action.get("metadata").unwrap_or(&Value::Null);
    let copy = text(action, "reply_to");
    match text(action, "op").unwrap_or_default().as_str() {
        "send" => Op::Send(Send {
            chat_id,
            text: text(action, "content").unwrap_or_default(),
            reply_to: copy.as_deref().map(|name| source::own_name(name).to_owned()),
            copy,
            thread_id: text(metadata, "thread_id"),
            is_final: metadata.get("notify").and_then(Value::as_bool).unwrap_or(false),
        }),
        "get_chat_info" => Op::ChatInfo { chat_id },
        other => Op::Unknown(other.to_owned()),
    }
}

/// A text, or a number as a text (an id that was given as a number comes back as one); not empty.
fn text(value: &Value, name: &str) -> Option<String> {
    match value.get(name)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// What a platform can do, as far as this gateway can. One that is not known here gets an answer, too:
/// without any, the agent gives the connection up.
pub(super) fn descriptor(platform: &str) -> String {
    let (longest, unit) = match platform {
        "telegram" => (4096, "utf16"),
        _ => (8000, "chars"),
    };
    let descriptor = json!({
        "contract_version": 1,
        "platform": platform,
        "label": platform,
        "max_message_length": longest,
        "len_unit": unit,
        "supports_draft_streaming": false,
        "supports_edit": false,
        "supports_threads": true,
        "supports_context": false,
        "supports_inchannel_continuable": false,
        "supports_block_formatting": false,
        "markdown_dialect": "plain",
        "supported_ops": ["send"],
        "emoji": "",
        "platform_hint": "",
        "pii_safe": false,
    });
    line(&json!({ "type": "descriptor", "descriptor": descriptor }))
}

/// An event, with the name under which it is to be acknowledged. A text that makes it too long is cut.
pub(super) fn inbound(mut event: Value, buffer_id: Option<&str>) -> String {
    let whole = |event: &Value| match buffer_id {
        Some(id) => line(&json!({ "type": "inbound", "event": event, "bufferId": id })),
        None => line(&json!({ "type": "inbound", "event": event })),
    };
    let first = whole(&event);
    if first.len() <= LINE_MAX {
        return first;
    }
    if let Some(Value::String(text)) = event.get_mut("text") {
        // A control character takes six bytes in JSON.
        let room = LINE_MAX.saturating_sub(first.len().saturating_sub(text.len())).min(text.len());
        let room = if room * 6 > LINE_MAX { LINE_MAX / 6 - 4096 } else { room };
        text.truncate(text.floor_char_boundary(room));
        text.push_str(" […]");
    }
    whole(&event)
}

/// The answer to [`Heard::GoingIdle`].
pub(super) fn going_idle_ack() -> String {
    line(&json!({ "type": "going_idle_ack" }))
}

/// A message was accepted.
pub(super) fn accepted(request: &str, id: &str) -> String {
    let result = json!({ "success": true, "message_id": id });
    line(&json!({ "type": "outbound_result", "requestId": request, "result": result }))
}

/// Something was not done. The agent reads the words: one that speaks of the network is tried again.
pub(super) fn failed(request: &str, error: &str) -> String {
    let result = json!({ "success": false, "error": error });
    line(&json!({ "type": "outbound_result", "requestId": request, "result": result }))
}

/// What is known of a chat.
pub(super) fn chat_info(request: &str, chat_id: &str, kind: &str) -> String {
    let result = json!({ "success": true, "chat_info": { "name": chat_id, "type": kind } });
    line(&json!({ "type": "outbound_result", "requestId": request, "result": result }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_an_agent_says() {
        let hello = r#"{"type":"hello","platform":"feishu","botId":"cli_1"}"#;
        assert_eq!(decode(hello.as_bytes()), Some(Heard::Hello("feishu".into())));
        let send = r#"{"type":"outbound","requestId":"r","platform":"telegram","action":{"op":"send","chat_id":-5,
            "content":"hi","reply_to":"5~hgw2","metadata":{"thread_id":"7","notify":true}}}"#;
        let expected = Heard::Outbound {
            request: "r".into(),
            platform: Some("telegram".into()),
            op: Op::Send(Send {
                chat_id: "-5".into(),
                text: "hi".into(),
                reply_to: Some("5".into()),
                copy: Some("5~hgw2".into()),
                thread_id: Some("7".into()),
                is_final: true,
            }),
        };
        assert_eq!(decode(send.as_bytes()), Some(expected));
        assert_eq!(decode(br#"{"type":"later"}"#), Some(Heard::Other));
        assert_eq!((decode(b"[]"), decode(b"{"), decode(b"")), (None, None, None));
    }

    #[test]
    fn half_a_character_takes_no_answer_with_it() {
        let line = br#"{"type":"outbound","requestId":"r","action":{"op":"send","chat_id":"c",
            "content":"cut \ud83d","reply_to":"m1~hgw2","metadata":{"notify":true}}}"#;
        let Some(Heard::Outbound { op: Op::Send(send), .. }) = decode(line) else { panic!() };
        assert_eq!((send.text.as_str(), send.reply_to.as_deref()), ("cut \u{fffd}", Some("m1")));
    }

    #[test]
    fn no_line_is_too_long_and_every_line_ends() {
        for text in ["x".repeat(3_000_000), "\u{1}".repeat(400_000), "断".repeat(600_000)] {
            let line = inbound(json!({ "text": text, "message_id": "m" }), Some("b"));
            assert!(line.len() <= LINE_MAX && line.ends_with("}\n"), "{}", line.len());
            assert!(line.contains("[…]") && line.contains("bufferId"));
        }
        assert!(!inbound(json!({ "text": "short" }), None).contains("[…]"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(line in "\\PC{0,60}", member in "type|action|requestId|bufferId|platform", value in "\\PC{0,20}") {
            let _ = decode(line.as_bytes());
            let _ = decode(json!({ "type": "outbound", member: value }).to_string().as_bytes());
        }
    }
}

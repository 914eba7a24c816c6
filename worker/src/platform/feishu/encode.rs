//! A reply, from our shape into requests of the open API, and what their answers mean. Pure.
//!
//! Every request carries a `uuid` derived from the reply's key: for an hour the platform makes at most
//! one message of it, so that repeating a reply, in whole or in part, is harmless. Answers are judged by
//! their `code`; one without (a gateway's page) says nothing about the reply.

use protocol::event::Outbound;
use serde_json::{Value, json};

use crate::json::{brief, member, number_of, parse, text_of};
use crate::text;

const MESSAGES: &str = "/open-apis/im/v1/messages";
/// Of a part, in bytes of the request's body. The platform takes 150 KB; people read less at a time.
const PART_MAX: usize = 30_000;

/// One call of the open API.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Call {
    /// Path and query.
    pub(super) path: String,
    /// The JSON to post.
    pub(super) body: Value,
}

/// What the platform says to a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Said {
    /// Done; the id of the message, if it told.
    Done(Option<String>),
    /// The token is not good any more.
    Token,
    /// The message to reply to is gone.
    Gone(String),
    /// It will never be done.
    Never(String),
    /// Not now.
    Later {
        /// Why.
        reason: String,
        /// The platform's wish.
        after_ms: Option<u64>,
    },
}

/// Where a reply goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum To<'a> {
    /// It answers this message, in a thread or not.
    Message { id: &'a str, in_thread: bool },
    /// It goes to the chat on its own.
    Chat { instead: bool },
}

impl<'a> To<'a> {
    /// Where `outbound` wants to go. A thread cannot be addressed, only a message in it can: `latest` is
    /// one, for a reply to a thread that names none. Without any it goes to the chat.
    pub(super) fn of(outbound: &'a Outbound, latest: Option<&'a str>) -> Self {
        let in_thread = outbound.thread_id.is_some();
        let target = outbound.reply_to.as_deref().or(latest.filter(|_| in_thread));
        match target.filter(|id| is_plain(id)) {
            Some(id) => Self::Message { id, in_thread },
            None => Self::Chat { instead: false },
        }
    }
}

/// The texts that `outbound` becomes, one message each.
pub(super) fn parts(outbound: &Outbound) -> Vec<String> {
    text::split(&outbound.content.text, PART_MAX, cost)
}

/// The call that sends part `index`.
pub(super) fn call(outbound: &Outbound, to: To<'_>, index: usize, text: &str) -> Call {
    let content = json!({ "text": text }).to_string();
    // Another request must have another uuid, or the platform might repeat its refusal of the first.
    let instead = if to == (To::Chat { instead: true }) { "c" } else { "" };
    let uuid = match index {
        0 => format!("{}{instead}", outbound.key),
        _ => format!("{}-{index}{instead}", outbound.key),
    };
    match to {
        To::Message { id, in_thread } => Call {
            path: format!("{MESSAGES}/{id}/reply"),
            body: json!({
                "msg_type": "text", "content": content, "reply_in_thread": in_thread, "uuid": uuid,
            }),
        },
        To::Chat { .. } => Call {
            path: format!("{MESSAGES}?receive_id_type=chat_id"),
            body: json!({
                "receive_id": outbound.chat_id, "msg_type": "text", "content": content, "uuid": uuid,
            }),
        },
    }
}

/// Judges an answer. `reset` is the header in which a throttle says how many seconds it lasts.
pub(super) fn judge(status: u16, reset: Option<&str>, body: &[u8]) -> Said {
    let answer = parse(body);
    let after_ms = reset.and_then(|seconds| seconds.trim().parse::<u64>().ok());
    let after_ms = after_ms.map(|seconds| seconds.saturating_mul(1000));
    let Some(code) = number_of(&answer, "code") else {
        return Said::Later { reason: format!("the platform answers HTTP {status}"), after_ms };
    };
    let said = format!("{code} {}", brief(text_of(&answer, "msg")));
    match code {
        0 => Said::Done(
            Some(text_of(member(&answer, "data"), "message_id"))
                .filter(|id| !id.is_empty())
                .map(str::to_owned),
        ),
        99_991_661 | 99_991_663 | 99_991_664 | 99_991_668 | 99_991_671 => Said::Token,
        230_011 | 230_110 => Said::Gone(said),
        99_991_400 | 11_232 | 230_020 | 1500 => Said::Later { reason: said, after_ms },
        _ if status == 429 || status >= 500 => Said::Later { reason: said, after_ms },
        _ => Said::Never(match hint(code) {
            Some(hint) => format!("{said} ({hint})"),
            None => said,
        }),
    }
}

fn hint(code: i64) -> Option<&'static str> {
    match code {
        99_991_672 => {
            Some("grant the app the missing scope in the developer console and publish a version")
        }
        99_992_361 => Some("the id belongs to another app"),
        230_002 => Some("the bot is not in this chat: add it"),
        230_013 => Some("the user is not among those for whom the app is available"),
        230_025 => Some("the message is too long"),
        _ => None,
    }
}

/// The bytes of a character in a request: twice escaped, because the content is JSON in a string.
fn cost(c: char) -> usize {
    match c {
        '"' | '\\' => 4,
        '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 3,
        c if c < ' ' => 7,
        c => c.len_utf8(),
    }
}

/// Ids come back from agents; one that is none must not become a part of a path.
fn is_plain(id: &str) -> bool {
    !id.is_empty()
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::id::OutboundId;

    use protocol::content::Content;

    use super::*;

    fn outbound(text: &str) -> Outbound {
        Outbound {
            id: OutboundId(1),
            key: "k".repeat(40),
            chat_id: "oc_1".to_owned(),
            thread_id: None,
            reply_to: None,
            content: Content::text(text.to_owned()),
            attempt: 1,
            draft_key: String::new(),
            draft_id: None,
        }
    }

    #[test]
    fn a_reply_goes_to_its_message_and_in_its_thread() {
        let plain = outbound("x");
        assert_eq!(To::of(&plain, Some("om_9")), To::Chat { instead: false });
        let reply = Outbound { reply_to: Some("om_1".to_owned()), ..plain.clone() };
        assert_eq!(To::of(&reply, None), To::Message { id: "om_1", in_thread: false });
        let threaded = Outbound { thread_id: Some("omt_1".to_owned()), ..plain };
        assert_eq!(To::of(&threaded, None), To::Chat { instead: false });
        assert_eq!(To::of(&threaded, Some("om_9")), To::Message { id: "om_9", in_thread: true });
        let both = Outbound { reply_to: Some("om_1".to_owned()), ..threaded };
        assert_eq!(To::of(&both, Some("om_9")), To::Message { id: "om_1", in_thread: true });
        let hostile = Outbound { reply_to: Some("../../x?y".to_owned()), ..both };
        assert_eq!(To::of(&hostile, None), To::Chat { instead: false });
    }

    #[test]
    fn calls_say_what_the_platform_wants_to_hear() {
        let call =
            super::call(&outbound("x"), To::Message { id: "om_1", in_thread: true }, 0, "a\"b\n");
        assert_eq!(call.path, "/open-apis/im/v1/messages/om_1/reply");
        let expected = json!({
            "msg_type": "text", "content": r#"{"text":"a\"b\n"}"#, "reply_in_thread": true, "uuid": "k".repeat(40),
        });
        assert_eq!(call.body, expected);
        let call = super::call(&outbound("x"), To::Chat { instead: false }, 3, "y");
        assert_eq!(call.path, "/open-apis/im/v1/messages?receive_id_type=chat_id");
        assert_eq!(call.body["receive_id"], "oc_1");
        assert_eq!(call.body["uuid"], format!("{}-3", "k".repeat(40)));
    }

    #[test]
    fn every_part_and_every_detour_has_a_uuid_of_its_own() {
        let outbound = outbound("x");
        let to = [To::Message { id: "om_1", in_thread: false }, To::Chat { instead: true }];
        let uuid = |to, index| {
            super::call(&outbound, to, index, "x").body["uuid"].as_str().unwrap().to_owned()
        };
        let mut all: Vec<_> = to.iter().flat_map(|to| (0..1000).map(|i| uuid(*to, i))).collect();
        assert!(all.iter().all(|uuid| uuid.len() <= 50));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 2000);
    }

    #[test]
    fn answers_are_sorted() {
        let judge = |status, body: &str| super::judge(status, Some("7"), body.as_bytes());
        let done = r#"{"code":0,"data":{"message_id":"om_1"}}"#;
        assert_eq!(judge(200, done), Said::Done(Some("om_1".to_owned())));
        assert_eq!(judge(200, r#"{"code":0}"#), Said::Done(None));
        for code in [99_991_661, 99_991_663, 99_991_664, 99_991_668, 99_991_671] {
            assert_eq!(judge(400, &format!(r#"{{"code":{code}}}"#)), Said::Token);
            assert_eq!(judge(200, &format!(r#"{{"code":{code}}}"#)), Said::Token);
        }
        for code in [230_011, 230_110] {
            assert!(matches!(judge(400, &format!(r#"{{"code":{code}}}"#)), Said::Gone(_)));
        }
        let later = [
            (429, r#"{"code":99991400}"#),
            (400, r#"{"code":99991400}"#),
            (200, r#"{"code":11232}"#),
            (400, r#"{"code":230020}"#),
            (400, r#"{"code":1500}"#),
            (503, r#"{"code":230001}"#),
            (502, "<html>"),
            (200, "<html>"),
            (404, ""),
        ];
        for (status, body) in later {
            let said = judge(status, body);
            assert!(matches!(said, Said::Later { after_ms: Some(7000), .. }), "{status} {body}");
        }
        for code in
            [230_001, 99_992_402, 99_992_361, 230_025, 230_099, 230_002, 230_013, 99_991_672, 4_711]
        {
            assert!(matches!(judge(400, &format!(r#"{{"code":{code}}}"#)), Said::Never(_)));
        }
        let Said::Never(reason) = judge(400, r#"{"code":99991672,"msg":"no"}"#) else { panic!() };
        assert!(reason.starts_with("99991672 no (grant "), "{reason}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn no_part_is_larger_than_the_platform_takes(text in r#"([a"\\\n\x01é中😀 ]{1,40}){1,20}"#, times in 1usize..200) {
            let outbound = outbound(&text.repeat(times));
            let to = To::Message { id: "om_1", in_thread: true };
            for (i, part) in parts(&outbound).iter().enumerate() {
                let bytes = call(&outbound, to, i, part).body.to_string().len();
                prop_assert!(bytes <= PART_MAX + 300, "{bytes}");
            }
        }

        #[test]
        fn no_answer_makes_it_panic(status in 100u16..600, body in prop::collection::vec(any::<u8>(), 0..60)) {
            judge(status, None, &body);
        }
    }
}

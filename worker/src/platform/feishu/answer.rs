//! What the open API's answers mean. Pure.
//!
//! Answers are judged by their `code`, not by their HTTP status; one without a code (a gateway's page)
//! says nothing about the request. The tables in the official clients disagree with the platform's own
//! pages about the throttles (99991400, 230020); the pages are right.

use serde_json::Value;

use crate::json::{brief, list_of, member, number_of, parse, text_of};

/// Codes that pass by themselves, whatever the HTTP status.
///
/// | Code | What the platform says |
/// |---|---|
/// | 1500, 1642, 1663, 1668, 2200, 10101, 10105, 10500 | trouble within it: later. Users meet 2200 where they send often |
/// | 5000 | the same: later, and less often |
/// | 11232, 11233, 11247, 230020 | too much is sent, by all or in this chat |
/// | 18121, 230049 | the same is being sent: what a repetition is told while the first request is at work |
///
/// Sources: <https://open.feishu.cn/document/server-docs/api-call-guide/generic-error-code>,
/// <https://open.feishu.cn/document/server-docs/im-v1/message/create>,
/// <https://open.feishu.cn/document/server-docs/im-v1/message/reply>.
const PASSING: [i64; 15] = [
    1500, 1642, 1663, 1668, 2200, 10_101, 10_105, 10_500, 5000, 11_232, 11_233, 11_247, 230_020,
    18_121, 230_049,
];

/// What the platform says to a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Said {
    /// Done.
    Done,
    /// The token is not good any more.
    Token,
    /// The message that it is about is gone.
    Gone(String),
    /// The app may not do that until a person grants it.
    Denied(String),
    /// It will never be done.
    Never {
        /// The platform's number for it.
        code: i64,
        /// Why, and what a person can do.
        reason: String,
    },
    /// Not now.
    Later {
        /// Why.
        reason: String,
        /// The platform's wish.
        after_ms: Option<u64>,
        /// It is asked too often: nothing like it should be asked meanwhile.
        pause: bool,
    },
}

/// An answer and its envelope.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Answered {
    /// What it means.
    pub(super) said: Said,
    /// Everything in it; null if it was no JSON.
    pub(super) body: Value,
    /// There is nothing of that kind on this server.
    pub(super) absent: bool,
}

impl Answered {
    /// Without an answer.
    pub(super) fn bare(said: Said) -> Self {
        Self { said, body: Value::Null, absent: false }
    }

    /// What it brings.
    pub(super) fn data(&self) -> &Value {
        member(&self.body, "data")
    }

    /// An id in what it brings.
    pub(super) fn id(&self, name: &str) -> Option<String> {
        let id = text_of(self.data(), name);
        (!id.is_empty()).then(|| id.to_owned())
    }
}

impl Said {
    /// Later, for a reason of ours.
    pub(super) fn later(reason: impl Into<String>) -> Self {
        Self::Later { reason: reason.into(), after_ms: None, pause: false }
    }

    /// The platform objects to the message that is answered, not to the answer: that can go to the chat. It is gone,
    /// or its topic is (230019), the bot may not see it (230050), it cannot be answered in a thread (230071, 230072),
    /// it will destroy itself (230111). Source: <https://open.feishu.cn/document/server-docs/im-v1/message/reply>.
    pub(super) fn is_of_target(&self) -> bool {
        match self {
            Self::Gone(_) => true,
            Self::Never { code, .. } => {
                matches!(code, 230_019 | 230_050 | 230_071 | 230_072 | 230_111)
            }
            Self::Done | Self::Token | Self::Denied(_) | Self::Later { .. } => false,
        }
    }

    /// Why it is not done.
    pub(super) fn why(self) -> String {
        match self {
            Self::Done => String::new(),
            Self::Token => "the platform refuses its own tokens".to_owned(),
            Self::Gone(why) | Self::Denied(why) => why,
            Self::Never { reason, .. } | Self::Later { reason, .. } => reason,
        }
    }
}

/// Judges an answer of `api`. `reset` is the header in which a throttle says how many seconds it lasts.
pub(super) fn judge(api: &str, status: u16, reset: Option<&str>, body: &[u8]) -> Answered {
    let body = parse(body);
    let said = said(api, status, reset, &body);
    let absent = number_of(&body, "code").is_none() && matches!(status, 404 | 405 | 501);
    Answered { said, body, absent }
}

fn said(api: &str, status: u16, reset: Option<&str>, body: &Value) -> Said {
    let after_ms = reset.and_then(|seconds| seconds.trim().parse::<u64>().ok());
    // Whole seconds: none of them left is still some part of one.
    let after_ms = after_ms.map(|seconds| seconds.max(1).saturating_mul(1000));
    let Some(code) = number_of(body, "code") else {
        let reason = format!("the platform answers HTTP {status}");
        return Said::Later { reason, after_ms, pause: status == 429 };
    };
    let words = format!("{code} {}", brief(text_of(body, "msg")));
    match code {
        0 => Said::Done,
        99_991_661 | 99_991_663 | 99_991_664 | 99_991_668 | 99_991_671 => Said::Token,
        230_011 | 230_110 => Said::Gone(words),
        99_991_400 => Said::Later { reason: words, after_ms, pause: true },
        _ if PASSING.contains(&code) => Said::Later { reason: words, after_ms, pause: false },
        99_991_672 | 99_991_679 => Said::Denied(denied(&words, body)),
        _ if status == 429 => Said::Later { reason: words, after_ms, pause: true },
        _ if status >= 500 => Said::Later { reason: words, after_ms, pause: false },
        _ => {
            let reason = match hint(api, code) {
                Some(hint) => format!("{words} ({hint})"),
                None => words,
            };
            Said::Never { code, reason }
        }
    }
}

/// Names the scopes that are missing, which the platform tells in a list, or in brackets in its words.
fn denied(words: &str, body: &Value) -> String {
    let listed = list_of(member(body, "error"), "permission_violations");
    let mut scopes: Vec<&str> = listed.iter().map(|it| text_of(it, "subject")).collect();
    if scopes.is_empty()
        && let Some((_, rest)) = text_of(body, "msg").split_once('[')
        && let Some((inside, _)) = rest.split_once(']')
    {
        scopes = inside.split(',').map(str::trim).collect();
    }
    scopes.retain(|scope| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '.' | '_' | '-');
        !scope.is_empty() && scope.len() <= 80 && scope.chars().all(plain)
    });
    scopes.truncate(6);
    let code = words.split(' ').next().unwrap_or_default();
    match scopes.as_slice() {
        [] => format!("{words} (grant the app the missing scope and publish a version)"),
        [only] => format!("{code}: the app lacks the scope {only}"),
        several => format!("{code}: the app needs one of the scopes {}", several.join(", ")),
    }
}

fn hint(api: &str, code: i64) -> Option<&'static str> {
    Some(match code {
        // The same codes mean something else where a message is sent.
        230_054 | 230_071 | 230_072 | 230_075 if api != "edit" => return None,
        99_992_361 => "the id belongs to another app",
        230_001 => "the platform finds a mistake in it",
        230_002 => "the bot is not in this chat: add it",
        230_006 => {
            "the app has no bot: add that feature in the developer console, and publish a version"
        }
        230_013 => "the user is not among those for whom the app is available",
        230_017 | 230_027 => {
            "the app may not do that here: check its scopes and the chat's settings"
        }
        230_018 => "the group lets only some people speak",
        230_025 => "the message is too long",
        230_028 => "the platform's review refuses what it says",
        230_035 => "the bot may not speak in this chat",
        230_054 => "messages of this type cannot be edited",
        230_071 => "only its own messages can be edited",
        230_072 => "it has been edited as often as the platform allows",
        230_075 => "it is too old to be edited",
        230_099 => "the platform refuses the card",
        231_001 => "the platform has no such reaction",
        234_006 => "the file is too large for the platform",
        234_007 => "the app has no bot",
        234_008 => "the file belongs to another app",
        234_010 => "the file is empty",
        234_037 => "the file is too large to be fetched",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(status: u16, body: &str) -> Said {
        judge("send", status, Some("7"), body.as_bytes()).said
    }

    #[test]
    fn answers_are_sorted() {
        let done = judge("send", 200, None, br#"{"code":0,"data":{"message_id":"om_1"}}"#);
        assert_eq!((&done.said, done.id("message_id").as_deref()), (&Said::Done, Some("om_1")));
        assert_eq!(judge("send", 200, None, br#"{"code":0}"#).id("message_id"), None);
        for code in [99_991_661, 99_991_663, 99_991_664, 99_991_668, 99_991_671] {
            assert_eq!(said(400, &format!(r#"{{"code":{code}}}"#)), Said::Token);
            assert_eq!(said(200, &format!(r#"{{"code":{code}}}"#)), Said::Token);
        }
        for code in [230_011, 230_110] {
            assert!(matches!(said(400, &format!(r#"{{"code":{code}}}"#)), Said::Gone(_)));
        }
        let later = [
            (429, r#"{"code":99991400}"#, true),
            (400, r#"{"code":99991400}"#, true),
            (200, r#"{"code":11232}"#, false),
            (400, r#"{"code":230020}"#, false),
            (400, r#"{"code":1500}"#, false),
            // A repetition of what is still being sent, and trouble within the platform.
            (400, r#"{"code":230049}"#, false),
            (200, r#"{"code":18121}"#, false),
            (200, r#"{"code":2200}"#, false),
            (400, r#"{"code":11247}"#, false),
            (503, r#"{"code":230001}"#, false),
            (429, r#"{"code":230001}"#, true),
            (502, "<html>", false),
            (429, "<html>", true),
            (200, "<html>", false),
            (404, "", false),
        ];
        for (status, body, wanted) in later {
            let Said::Later { after_ms: Some(7000), pause, .. } = said(status, body) else {
                panic!("{status} {body}");
            };
            assert_eq!(pause, wanted, "{status} {body}");
        }
        for code in [230_001, 99_992_402, 99_992_361, 230_025, 230_099, 230_002, 230_013, 4_711] {
            let found = said(400, &format!(r#"{{"code":{code}}}"#));
            assert!(matches!(found, Said::Never { code: told, .. } if told == code));
        }
    }

    #[test]
    fn what_is_wrong_with_an_edit_is_not_said_of_a_reply() {
        let why = |api| judge(api, 400, None, br#"{"code":230072,"msg":"no"}"#).said.why();
        assert_eq!(why("reply"), "230072 no");
        assert!(why("edit").contains("edited as often"), "{}", why("edit"));
    }

    #[test]
    fn a_missing_scope_is_named() {
        let listed = r#"{"code":99991672,"msg":"Access denied.","error":{"permission_violations":[
            {"type":"action_scope_required","subject":"im:message:send_as_bot"},
            {"type":"action_scope_required","subject":"im:message"}]}}"#;
        let in_words = r#"{"code":99991672,"msg":"Access denied. One of the following scopes is required: [im:resource]. go to https://x/[y]"}"#;
        let hostile = r#"{"code":99991672,"msg":"no [\u001b[31m]"}"#;
        let cases = [
            (
                listed,
                "99991672: the app needs one of the scopes im:message:send_as_bot, im:message",
            ),
            (in_words, "99991672: the app lacks the scope im:resource"),
            (
                r#"{"code":99991672,"msg":"no"}"#,
                "99991672 no (grant the app the missing scope and publish a version)",
            ),
        ];
        for (body, expected) in cases {
            assert_eq!(said(400, body), Said::Denied(expected.to_owned()));
        }
        assert!(matches!(said(400, hostile), Said::Denied(_)));
    }

    /// F37: the header counts whole seconds, so a zero is still some part of one.
    #[test]
    fn a_throttle_of_no_time_at_all_is_one_of_a_second() {
        for (status, code, reset) in [(429, 99_991_400, "0"), (400, 230_020, "0"), (429, 1, " 0 ")]
        {
            let body = format!(r#"{{"code":{code}}}"#);
            let found = judge("send", status, Some(reset), body.as_bytes()).said;
            assert!(matches!(found, Said::Later { after_ms: Some(1000), .. }), "{found:?}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(status in 100u16..600, body in prop::collection::vec(any::<u8>(), 0..60)) {
            judge("send", status, None, &body);
        }
    }
}

//! What the platform says to a call. Pure.
//!
//! Every answer is an object with `ok`, whatever the HTTP status. One that is not comes from something on
//! the way (a proxy's page, half an answer) and says nothing about the call.

use std::time::Duration;

use serde_json::Value;

use crate::json::{brief, member, number_of, parse, text_of};

/// Where a 429 names no time.
const PAUSE: Duration = Duration::from_secs(5);
/// Wishes of many hours are real. One that is longer than this is a mistake, or as good as none.
const PAUSE_MOST: Duration = Duration::from_hours(24);

/// What the platform says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Said {
    /// Done; this is the result.
    Done(Value),
    /// Not before this time is over.
    Limited(Duration),
    /// Somebody else reads the updates of this bot.
    Conflict(Rival),
    /// The token is good for nothing.
    Credentials(String),
    /// The group is a supergroup now, with this id.
    Moved(i64),
    /// It will never be done.
    Refused(String),
    /// Nobody took the call.
    Away(String),
    /// It may or may not have been done.
    Unclear(String),
}

/// Who else reads the updates.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Rival {
    /// Another program that polls.
    Poller,
    /// A webhook.
    Webhook,
}

/// Judges an answer. `after` is the header in which whatever is on the way says how many seconds to wait.
pub(super) fn judge(status: u16, after: Option<&str>, body: &[u8]) -> Said {
    let answer = parse(body);
    let ok = member(&answer, "ok").as_bool();
    let description = brief(text_of(&answer, "description"));
    let code = number_of(&answer, "error_code").unwrap_or_else(|| i64::from(status));
    let said = format!("{code} {description}");
    let parameters = member(&answer, "parameters");
    match (ok, code) {
        (Some(true), _) => Said::Done(member(&answer, "result").clone()),
        (_, 429) => {
            let after = after.and_then(|seconds| seconds.trim().parse().ok());
            Said::Limited(wish(number_of(parameters, "retry_after").or(after)))
        }
        (_, 503) => Said::Away(format!("the platform answers HTTP {status}")),
        // Whatever stands before the platform says it as well, in its own way.
        (None, 413) => Said::Refused("413 Request Entity Too Large".to_owned()),
        (None, _) | (Some(false), 500..) => {
            Said::Unclear(format!("the platform answers HTTP {status}"))
        }
        (Some(false), 409) if description.contains("webhook is active") => {
            Said::Conflict(Rival::Webhook)
        }
        (Some(false), 409) => Said::Conflict(Rival::Poller),
        (Some(false), 401 | 421) => Said::Credentials(said),
        // What an unknown method gets is longer.
        (Some(false), 404) if description == "Not Found" => Said::Credentials(said),
        (Some(false), _) => match number_of(parameters, "migrate_to_chat_id") {
            Some(to) => Said::Moved(to),
            None => Said::Refused(said),
        },
    }
}

fn wish(seconds: Option<i64>) -> Duration {
    let wish = seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    wish.unwrap_or(PAUSE).min(PAUSE_MOST)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_are_sorted() {
        let said = |status: u16, body: &str| judge(status, Some("30"), body.as_bytes());
        assert_eq!(said(200, r#"{"ok":true,"result":[1]}"#), Said::Done(json!([1])));
        let limited = r#"{"ok":false,"error_code":429,"parameters":{"retry_after":7}}"#;
        assert_eq!(said(429, limited), Said::Limited(Duration::from_secs(7)));
        assert_eq!(said(429, "<html>"), Said::Limited(Duration::from_secs(30)));
        for (wish, pause) in
            [("-1", PAUSE), ("36000", Duration::from_hours(10)), ("9999999999", PAUSE_MOST)]
        {
            let body = limited.replace('7', wish);
            assert_eq!(judge(429, None, body.as_bytes()), Said::Limited(pause));
        }
        assert_eq!(judge(429, Some("soon"), b""), Said::Limited(PAUSE));
        let other = |code: u16, description: &str, more: &str| {
            said(
                code,
                &format!(
                    r#"{{"ok":false,"error_code":{code},"description":"{description}"{more}}}"#
                ),
            )
        };
        assert_eq!(
            other(409, "Conflict: terminated by other getUpdates request", ""),
            Said::Conflict(Rival::Poller)
        );
        let hooked = "Conflict: can't use getUpdates method while webhook is active";
        assert_eq!(other(409, hooked, ""), Said::Conflict(Rival::Webhook));
        assert!(matches!(other(401, "Unauthorized", ""), Said::Credentials(_)));
        assert!(matches!(other(404, "Not Found", ""), Said::Credentials(_)));
        assert!(matches!(other(404, "Not Found: method not found", ""), Said::Refused(_)));
        let moved = r#","parameters":{"migrate_to_chat_id":-1001}"#;
        assert_eq!(other(400, "Bad Request: upgraded", moved), Said::Moved(-1001));
        assert!(matches!(other(403, "Forbidden: bot was blocked", ""), Said::Refused(_)));
        assert!(matches!(other(500, "Internal Server Error: restart", ""), Said::Unclear(_)));
        assert!(matches!(said(503, ""), Said::Away(_)));
    }

    #[test]
    fn what_is_no_answer_says_nothing() {
        for (status, body) in [(502, "<html>"), (502, ""), (200, r#"{"ok":tr"#), (404, "<html>")] {
            assert!(
                matches!(judge(status, None, body.as_bytes()), Said::Unclear(_)),
                "{status} {body}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(status in 100u16..600, body in prop::collection::vec(any::<u8>(), 0..60)) {
            judge(status, None, &body);
        }
    }
}

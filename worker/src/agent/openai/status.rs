//! What the status of an answer means for the event and for the endpoint. Pure.

use std::time::{Duration, SystemTime};

/// The longest pause that an endpoint is granted.
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// What a failed call means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Failure {
    /// This event will never be taken.
    Never(String),
    /// The conversation is too long for the model.
    TooLong(String),
    /// The key, the model or the address is wrong: nothing will be taken until a person acts.
    Setup(String),
    /// The endpoint takes nothing now; its own wish.
    Busy(String, Option<Duration>),
    /// The turn died half way.
    Broken(String),
    /// It may be the server's fault or the question's: see `blame`.
    Unclear(Doubt, String),
}

/// What is known of a failure that may be the server's fault or the question's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Doubt {
    /// No answer but a status, or none at all, from a server that is there.
    Failed,
    /// No such model, no right to it, or not for this question.
    Denied,
    /// The server was gone behind it.
    Away,
    /// The turn died half way.
    Broken,
    /// It takes nothing now, as it says.
    Busy,
    /// It does not know the key.
    Key,
}

/// Judges a status that is no success; `error` is what the body says.
pub(super) fn judge(
    status: u16,
    error: Option<String>,
    retry_after: Option<&str>,
    now: SystemTime,
) -> Failure {
    let told = match error {
        Some(error) => format!("HTTP {status}: {error}"),
        None => format!("HTTP {status}"),
    };
    let wish = retry_after.and_then(|text| pause(text, now));
    match status {
        401 => Failure::Setup(told),
        // No question has a say in these: moved, no such path or method, gone, no such form.
        300..=399 | 403..=406 | 410 | 411 | 415 => Failure::Unclear(Doubt::Denied, told),
        // 529: one that is overloaded says so.
        408 | 409 | 425 | 429 | 503 | 529 => Failure::Busy(told, wish),
        500..=599 if wish.is_some() => Failure::Busy(told, wish),
        500..=599 => Failure::Unclear(Doubt::Failed, told),
        _ if is_too_long(&told) => Failure::TooLong(told),
        _ => Failure::Never(told),
    }
}

fn is_too_long(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["context_length", "context length", "exceed_context", "context size", "maximum context"]
        .iter()
        .any(|words| text.contains(words))
}

/// `Retry-After`: seconds, also with a fraction, or a date.
fn pause(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    let pause = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok()?,
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(pause.min(PAUSE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_at_fault() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
        let judged = |status, retry: Option<&str>| judge(status, None, retry, now);
        let busy = |status, secs: Option<u64>| {
            Failure::Busy(format!("HTTP {status}"), secs.map(Duration::from_secs))
        };
        assert_eq!(judged(429, Some("7")), busy(429, Some(7)));
        assert_eq!(judged(503, Some("Sun, 06 Nov 1994 08:49:37 GMT")), busy(503, Some(7)));
        assert_eq!(judged(503, Some("Sun, 06 Nov 1994 08:49:00 GMT")), busy(503, Some(0)));
        assert_eq!(judged(429, Some("99999")), busy(429, Some(600)));
        for nonsense in [None, Some("soon"), Some("-1"), Some("NaN"), Some("")] {
            assert_eq!(judged(503, nonsense), busy(503, None), "{nonsense:?}");
        }
        assert_eq!(judged(401, None), Failure::Setup("HTTP 401".into()));
        assert_eq!(judged(500, Some("7")), busy(500, Some(7)));
        for (status, doubt) in [
            (500, Doubt::Failed),
            (502, Doubt::Failed),
            (524, Doubt::Failed),
            (403, Doubt::Denied),
            (404, Doubt::Denied),
            (302, Doubt::Denied),
            (410, Doubt::Denied),
            (415, Doubt::Denied),
        ] {
            assert_eq!(judged(status, None), Failure::Unclear(doubt, format!("HTTP {status}")));
        }
        assert_eq!(judged(422, None), Failure::Never("HTTP 422".into()));
        let long = judge(400, Some("maximum context length is 4096".into()), None, now);
        assert!(matches!(long, Failure::TooLong(_)));
    }
}

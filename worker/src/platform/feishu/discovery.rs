//! The call that says where the long connection is: credentials in, a URL and settings out.
//!
//! Every attempt to connect needs a URL of its own. The platform's codes are sorted into those that pass
//! by themselves and those that need a person; the official clients end themselves on the latter, which
//! would leave nobody to notice that the person has acted.

use std::time::Duration;

use protocol::worker::FeishuSettings;
use serde_json::{Value, json};
use url::Url;

use crate::http::{Http, Within};
use crate::json::{brief, member, number_of, parse, text_of};
use crate::session::Loss;

/// What to do about refused credentials.
pub(super) const CREDENTIALS: &str = "check app_id and the app's secret in the developer console, and that a version of the app is published";

const PATH: &str = "/callback/ws/endpoint";

/// Why there is no connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Failure {
    /// Of what sort.
    pub(super) loss: Loss,
    /// Why, for people.
    pub(super) reason: String,
    /// What a person can do, where only a person can.
    pub(super) remedy: Option<&'static str>,
    /// Somebody else is connected as this app.
    pub(super) conflict: bool,
}

impl Failure {
    /// It will pass.
    pub(super) fn outage(reason: impl Into<String>) -> Self {
        Self { loss: Loss::Outage, reason: reason.into(), remedy: None, conflict: false }
    }

    /// The time ran out.
    pub(super) fn late(reason: impl Into<String>) -> Self {
        Self { loss: Loss::Late, ..Self::outage(reason) }
    }

    /// It will not.
    pub(super) fn refused(reason: impl Into<String>, remedy: &'static str) -> Self {
        let (loss, remedy) = (Loss::Refused, Some(remedy));
        Self { loss, reason: reason.into(), remedy, conflict: false }
    }

    /// The platform refused with this code.
    pub(super) fn code(code: i64, msg: &str) -> Self {
        let reason = format!("the platform refuses the connection: {code} {}", brief(msg));
        match code {
            1 | 1_000_040_343 => Self::outage(reason),
            1_000_040_344 => Self::refused(reason, "set app_id and the app's secret"),
            1_000_040_345 => Self::refused(reason, CREDENTIALS),
            1_000_040_350 => Self {
                conflict: true,
                ..Self::refused(
                    format!("conflict: {reason}"),
                    "the app has as many connections as it may have: stop other programs that use this app",
                )
            },
            1_000_040_351 => Self::refused(
                reason,
                "set base_url to https://open.larksuite.com for a Lark app, to https://open.feishu.cn for a Feishu app",
            ),
            _ => Self::refused(
                reason,
                "check in the developer console that the app is a custom app, enabled, and receives events by long connection",
            ),
        }
    }
}

/// Where the long connection is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Endpoint {
    /// A secret: it opens the connection.
    pub(super) url: Url,
    /// Goes into each ping.
    pub(super) service: i32,
    /// How often the platform wants to be pinged.
    pub(super) ping: Option<Duration>,
    /// The platform's time when it answered, in Unix milliseconds, to the second.
    pub(super) date_ms: Option<i64>,
}

/// Asks where the long connection is, for at most `limit`.
pub(super) async fn discover(
    http: &Http,
    settings: &FeishuSettings,
    limit: Duration,
) -> Result<Endpoint, Failure> {
    let body = json!({ "AppID": settings.app_id, "AppSecret": settings.app_secret.expose() });
    let url = format!("{}{PATH}", settings.base_url);
    let request = http.fresh().post(url).header("locale", "zh").json(&body);
    let answer = http.call_within(request, Within::whole(limit)).await.map_err(|lost| {
        let loss = if lost.late { Loss::Late } else { Loss::Outage };
        Failure { loss, ..Failure::outage(format!("ask for the connection: {}", lost.why)) }
    })?;
    let date_ms = answer.date_ms();
    let found = understand(answer.status, &answer.body, settings.base_url.starts_with("https:"))?;
    Ok(Endpoint { date_ms, ..found })
}

/// Reads the answer. `secure`: the question was, so the connection must be.
fn understand(status: u16, body: &[u8], secure: bool) -> Result<Endpoint, Failure> {
    let answer = parse(body);
    // Refusals were seen with HTTP 200 and with others; the code is what counts.
    match number_of(&answer, "code") {
        Some(0) => {}
        Some(code) if status < 500 && status != 429 => {
            return Err(Failure::code(code, text_of(&answer, "msg")));
        }
        _ => return Err(without_code(status)),
    }
    let data = member(&answer, "data");
    let Ok(url) = Url::parse(text_of(data, "URL")) else {
        return Err(Failure::outage("ask for the connection: the answer has no URL"));
    };
    let right_scheme = url.scheme() == "wss" || (url.scheme() == "ws" && !secure);
    if !right_scheme || url.host_str().is_none() {
        let reason = "ask for the connection: the answer has a URL of the wrong kind";
        return Err(Failure::refused(reason, "check base_url"));
    }
    let service = url.query_pairs().find(|(name, _)| name == "service_id");
    let service = service.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    Ok(Endpoint { url, service, ping: ping_interval(member(data, "ClientConfig")), date_ms: None })
}

fn without_code(status: u16) -> Failure {
    let reason = format!("ask for the connection: HTTP {status}");
    match status {
        // A throttle is no reason for a person to act, but one to knock less often.
        429 => Failure { loss: Loss::Refused, ..Failure::outage(reason) },
        300..=399 | 401 | 403..=407 => {
            Failure::refused(reason, "check base_url and the network's proxy")
        }
        _ => Failure::outage(reason),
    }
}

/// The interval in the platform's settings, which come with the URL and with pongs. Absent, zero and
/// nonsense were all seen; each means that nothing changes.
pub(super) fn ping_interval(settings: &Value) -> Option<Duration> {
    let seconds = member(settings, "PingInterval").as_u64()?;
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(url: &str, config: &Value) -> Vec<u8> {
        json!({"code": 0, "msg": "ok", "data": {"URL": url, "ClientConfig": config}})
            .to_string()
            .into_bytes()
    }

    #[test]
    fn a_good_answer() {
        let url = "wss://h.example/ws/v2?device_id=1&service_id=33554678&ticket=t";
        let found = understand(200, &answer(url, &json!({"PingInterval": 120})), true).unwrap();
        assert_eq!((found.service, found.ping), (33_554_678, Some(Duration::from_mins(2))));
        assert_eq!(found.url.as_str(), url);
        let bare = understand(200, &answer("ws://h/", &json!(null)), false).unwrap();
        assert_eq!((bare.service, bare.ping), (0, None));
    }

    #[test]
    fn settings_are_guarded() {
        for nonsense in [json!(null), json!(0), json!(-1), json!("x"), json!(1.5)] {
            assert_eq!(ping_interval(&json!({ "PingInterval": nonsense })), None);
        }
        assert_eq!(ping_interval(&json!([])), None);
        assert!(ping_interval(&json!({"PingInterval": u64::MAX})).is_some());
    }

    #[test]
    fn a_secure_question_takes_no_insecure_answer() {
        for url in ["ws://h/", "http://h/", "file:///x"] {
            let failure = understand(200, &answer(url, &json!({})), true).unwrap_err();
            assert_eq!(failure.loss, Loss::Refused, "{url}");
        }
    }

    #[test]
    fn refusals_are_sorted() {
        use Loss::{Outage, Refused};
        let cases = [
            (200, r#"{"code":1,"msg":"busy"}"#, Outage, false),
            (200, r#"{"code":1000040343}"#, Outage, false),
            (200, r#"{"code":1000040344,"data":{}}"#, Refused, true),
            (200, r#"{"code":1000040345,"data":null}"#, Refused, true),
            (400, r#"{"code":1000040345}"#, Refused, true),
            (200, r#"{"code":1000040350}"#, Refused, true),
            (200, r#"{"code":1000040351}"#, Refused, true),
            (200, r#"{"code":403}"#, Refused, true),
            (200, r#"{"code":514}"#, Refused, true),
            (503, r#"{"code":514}"#, Outage, false),
            (200, r#"{"code":0,"data":{}}"#, Outage, false),
            (200, r#"{"code":0}"#, Outage, false),
            (503, "<html>", Outage, false),
            (502, "", Outage, false),
            (429, "{}", Refused, false),
            (404, "not found", Refused, true),
            (302, "", Refused, true),
            (200, "<html>", Outage, false),
            (200, "[]", Outage, false),
        ];
        for (status, body, loss, remedy) in cases {
            let failure = understand(status, body.as_bytes(), true).unwrap_err();
            assert_eq!((failure.loss, failure.remedy.is_some()), (loss, remedy), "{status} {body}");
        }
    }
}

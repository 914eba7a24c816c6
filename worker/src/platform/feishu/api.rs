//! Calls of the open API with a token, and who the bot is.
//!
//! A refused token is dropped, fetched once more, and the call repeated once: the platform may withdraw
//! tokens at any time, and a client that keeps such a one fails until it is restarted. A throttle closes
//! the API that it was said of for as long as it says; calls meanwhile are not made.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use protocol::worker::FeishuSettings;
use reqwest::multipart::Form;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use super::answer::{Answered, Said, judge};
use super::health::Health;
use super::token::{NoToken, Tokens};
use crate::clock::{self, Instant};
use crate::http::{Answer, Http, Stream, Within};
use crate::json::{brief, member, number_of, parse, text_of};

const BOT_INFO: &str = "/open-apis/bot/v3/info";
const RESET: &str = "x-ogw-ratelimit-reset";
/// What is in between may say it so.
const RETRY: &str = "retry-after";
/// While credentials are refused, as long again as they have been: it passes in a moment, or when a person acts.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);
const REFUSED_PAUSE_MOST: Duration = Duration::from_mins(1);
/// After a throttle that does not say for how long.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MOST: Duration = Duration::from_mins(5);
/// Of an answer.
const BODY_MAX: usize = 1024 * 1024;
/// Of one that tells a message: of all that it forwards.
const MESSAGE_MAX: usize = 8 * 1024 * 1024;
/// For a call.
const CALL: Duration = Duration::from_secs(10);
/// For an upload, besides what its size needs at a slow line's pace.
const UPLOAD: Duration = Duration::from_secs(30);
const UPLOAD_BYTES_PER_SECOND: u64 = 64 * 1024;

/// A call of the open API.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Call {
    /// Which, as throttles count.
    pub(super) api: &'static str,
    /// How.
    pub(super) method: Method,
    /// Path and query.
    pub(super) path: String,
    /// The JSON to send; null for none.
    pub(super) body: Value,
}

impl Call {
    /// A call.
    pub(super) fn new(api: &'static str, method: Method, path: String, body: Value) -> Self {
        Self { api, method, path, body }
    }

    /// A call that asks.
    pub(super) fn get(api: &'static str, path: String) -> Self {
        Self::new(api, Method::GET, path, Value::Null)
    }
}

/// The open API, as one app.
pub(super) struct Api {
    pub(super) http: Http,
    pub(super) settings: FeishuSettings,
    pub(super) health: Health,
    /// For a download as a whole.
    file: Duration,
    tokens: Tokens,
    pauses: Mutex<HashMap<&'static str, Instant>>,
}

/// Who the bot is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Bot {
    /// Its id, within this app.
    pub(super) open_id: String,
    /// What people call it.
    pub(super) name: String,
}

impl Api {
    /// Of the app in `settings`; a download may take as long as `file`.
    pub(super) fn new(http: Http, settings: FeishuSettings, file: Duration) -> Self {
        let (health, tokens, pauses) = (Health::default(), Tokens::new(), Mutex::default());
        Self { http, settings, health, file, tokens, pauses }
    }

    /// Makes a call.
    pub(super) async fn call(&self, call: &Call) -> Answered {
        let body = if call.api == "message" { MESSAGE_MAX } else { BODY_MAX };
        let within = Within { head: CALL, stall: CALL, whole: CALL, body };
        self.asked(call.api, within, async || {
            let url = format!("{}{}", self.settings.base_url, call.path);
            let request = self.http.client().request(call.method.clone(), url);
            let is_bare = call.body.is_null();
            Ok(if is_bare { request } else { request.json(&call.body) })
        })
        .await
    }

    /// Uploads `bytes` and what belongs to them, which `form` makes: once more if the token has to be
    /// fetched anew.
    pub(super) async fn upload(
        &self,
        api: &'static str,
        path: &str,
        bytes: u64,
        form: impl AsyncFn() -> Result<Form, String>,
    ) -> Answered {
        let whole = UPLOAD + Duration::from_secs(bytes / UPLOAD_BYTES_PER_SECOND);
        let within = Within { head: whole, stall: CALL, whole, body: BODY_MAX };
        self.asked(api, within, async || {
            let url = format!("{}{path}", self.settings.base_url);
            Ok(self.http.client().post(url).multipart(form().await?))
        })
        .await
    }

    /// Opens a download; its bytes are read by the caller.
    pub(super) async fn download(&self, api: &'static str, path: &str) -> Result<Stream, Said> {
        for _ in 0..2 {
            let token = self.ready(api).await?;
            let url = format!("{}{path}", self.settings.base_url);
            let request = self.http.client().get(url).bearer_auth(token.expose());
            // For all its bytes; who reads them sees to it that they go on coming, and the beginning has this one.
            let opening = Stream::open(request.timeout(self.file));
            let opened = tokio::time::timeout(CALL, opening).await;
            let opened = opened.map_err(|_| Said::later("no answer in time"))?;
            let mut stream = opened.map_err(|e| Said::later(e.why))?;
            if stream.status() == 200 && is_file(&mut stream).await? {
                return Ok(stream);
            }
            let reset = stream.header(RESET).or(stream.header(RETRY)).map(str::to_owned);
            let status = stream.status();
            let body = tokio::time::timeout(CALL, stream.rest(BODY_MAX)).await;
            let body = body.map_err(|_| Said::later("no answer in time"))?.map_err(Said::later)?;
            match self.judged(api, status, reset.as_deref(), &body).said {
                Said::Token => self.tokens.drop_refused(&token),
                Said::Done => return Err(Said::later("the platform brings no file")),
                said => return Err(said),
            }
        }
        Err(Said::Token)
    }

    /// Asks who the bot is.
    pub(super) async fn bot(&self) -> Result<Bot, String> {
        let answered = self.call(&Call::get("bot", BOT_INFO.to_owned())).await;
        let why = match answered.said {
            Said::Done => {
                // Unlike elsewhere, not within `data`.
                let bot = member(&answered.body, "bot");
                let open_id = text_of(bot, "open_id").to_owned();
                if !open_id.is_empty() {
                    return Ok(Bot { open_id, name: text_of(bot, "app_name").to_owned() });
                }
                "the app has no bot; add the bot feature in the developer console".to_owned()
            }
            said => said.why(),
        };
        Err(format!("ask who the bot is: {why}"))
    }

    async fn asked(
        &self,
        api: &'static str,
        within: Within,
        build: impl AsyncFn() -> Result<RequestBuilder, String>,
    ) -> Answered {
        let mut refused = Answered::bare(Said::Token);
        for _ in 0..2 {
            let token = match self.ready(api).await {
                Ok(token) => token,
                Err(said) => return Answered::bare(said),
            };
            let request = match build().await {
                Ok(request) => request.bearer_auth(token.expose()),
                // Nothing of ours can be read: that does not pass.
                Err(reason) => return Answered::bare(Said::Never { code: 0, reason }),
            };
            let answer =
                match self.http.call_within(request, within.slower(self.http.slower())).await {
                    Ok(answer) => answer,
                    Err(lost) => {
                        self.health.unanswered(api, &lost.why);
                        return Answered::bare(Said::later(lost.why));
                    }
                };
            let Answer { status, headers, body } = answer;
            let reset = headers.get(RESET).or(headers.get(RETRY)).and_then(|it| it.to_str().ok());
            let answered = self.judged(api, status, reset, &body);
            if answered.said != Said::Token {
                return with_log_id(answered, &headers);
            }
            self.tokens.drop_refused(&token);
            refused = answered;
        }
        // Also the one that was fetched a moment ago.
        let words = brief(text_of(&refused.body, "msg"));
        let code = number_of(&refused.body, "code").unwrap_or_default();
        self.health.refused(&format!("the platform refuses its own tokens: {code} {words}"));
        refused
    }

    /// A token, unless the API is closed just now.
    async fn ready(&self, api: &'static str) -> Result<protocol::worker::Secret, Said> {
        if let Some(left) = self.closed(api, clock::now()) {
            let reason = "the platform asked for a pause".to_owned();
            // A part of a millisecond too early would be too early.
            return Err(Said::Later { reason, after_ms: Some(millis(left) + 1), pause: false });
        }
        self.tokens.get(&self.http, &self.settings).await.map_err(|why| match why {
            NoToken::Outage(reason) => {
                self.health.unanswered(api, &reason);
                Said::later(reason)
            }
            // The reply is not to blame, and a person may mend it.
            NoToken::Refused(reason, so_long) => {
                self.health.refused(&reason);
                let pause = so_long.clamp(REFUSED_PAUSE, REFUSED_PAUSE_MOST);
                Said::Later { reason, after_ms: Some(millis(pause)), pause: false }
            }
        })
    }

    fn judged(&self, api: &'static str, status: u16, reset: Option<&str>, body: &[u8]) -> Answered {
        let mut answered = judge(api, status, reset, body);
        match (number_of(&answered.body, "code"), &answered.said) {
            (_, Said::Token) => {}
            (Some(_), _) => self.health.answered(api),
            (None, Said::Later { reason, .. }) => self.health.unanswered(api, reason),
            (None, _) => {}
        }
        match &answered.said {
            Said::Done => self.health.granted(api),
            Said::Denied(reason) => self.health.denied(api, reason),
            _ => {}
        }
        if let Said::Later { after_ms, pause: true, reason } = &mut answered.said {
            let pause = after_ms.map_or(PAUSE, Duration::from_millis).min(PAUSE_MOST);
            self.health.paused(api, pause, reason);
            *after_ms = Some(millis(pause));
            self.pauses().insert(api, clock::now() + pause);
        }
        answered
    }

    fn closed(&self, api: &'static str, now: Instant) -> Option<Duration> {
        let mut pauses = self.pauses();
        pauses.retain(|_, until| *until > now);
        pauses.get(api).map(|until| until.duration_since(now))
    }

    fn pauses(&self) -> std::sync::MutexGuard<'_, HashMap<&'static str, Instant>> {
        self.pauses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a download with status 200 is the file. A file may be JSON, too; a refusal is a small object with a
/// `code` of its own.
async fn is_file(stream: &mut Stream) -> Result<bool, Said> {
    let header = |name| stream.header(name).unwrap_or_default();
    if !header("content-disposition").is_empty() || !header("content-type").contains("json") {
        return Ok(true);
    }
    let begun = tokio::time::timeout(CALL, stream.peek()).await;
    let begun = begun.map_err(|_| Said::later("no answer in time"))?.map_err(Said::later)?;
    let envelope = parse(begun);
    Ok(number_of(&envelope, "code").is_none() || envelope.get("msg").is_none())
}

/// The platform's support asks for this number.
fn with_log_id(mut answered: Answered, headers: &reqwest::header::HeaderMap) -> Answered {
    let id = headers.get("x-tt-logid").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if let Said::Never { reason, .. } = &mut answered.said
        && !id.is_empty()
    {
        reason.push_str(&format!(" [log {}]", brief(id)));
    }
    answered
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

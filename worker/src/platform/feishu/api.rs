//! Calls of the open API with a token, and who the bot is.
//!
//! A refused token is dropped, fetched once more, and the call repeated once: the platform may withdraw
//! tokens at any time, and a client that keeps such a one fails until it is restarted.

use std::time::Duration;

use protocol::worker::FeishuSettings;
use reqwest::Method;
use serde_json::Value;

use super::encode::{Said, judge};
use super::token::{NoToken, Tokens};
use crate::http::Http;
use crate::json::{member, parse, text_of};

const BOT_INFO: &str = "/open-apis/bot/v3/info";
const RESET: &str = "x-ogw-ratelimit-reset";
/// While a person has to mend the credentials.
const REFUSED_PAUSE: Duration = Duration::from_mins(1);

/// The open API, as one app.
pub(super) struct Api {
    pub(super) http: Http,
    pub(super) settings: FeishuSettings,
    tokens: Tokens,
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
    /// Of the app in `settings`.
    pub(super) fn new(http: Http, settings: FeishuSettings) -> Self {
        Self { http, settings, tokens: Tokens::new() }
    }

    /// Posts `body`.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Said {
        self.call(Method::POST, path, Some(body)).await.0
    }

    /// Asks who the bot is.
    pub(super) async fn bot(&self) -> Result<Bot, String> {
        let (said, body) = self.call(Method::GET, BOT_INFO, None).await;
        let why = match said {
            Said::Done(_) => {
                // Unlike elsewhere, not within `data`.
                let answer = parse(&body);
                let bot = member(&answer, "bot");
                let open_id = text_of(bot, "open_id").to_owned();
                if !open_id.is_empty() {
                    return Ok(Bot { open_id, name: text_of(bot, "app_name").to_owned() });
                }
                "the app has no bot; add the bot feature in the developer console".to_owned()
            }
            Said::Token => "the platform refuses its own tokens".to_owned(),
            Said::Gone(why) | Said::Never(why) | Said::Later { reason: why, .. } => why,
        };
        Err(format!("ask who the bot is: {why}"))
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> (Said, Vec<u8>) {
        let mut refused = (Said::Token, Vec::new());
        for _ in 0..2 {
            let token = match self.tokens.get(&self.http, &self.settings).await {
                Ok(token) => token,
                Err(NoToken::Outage(reason)) => return (later(reason, None), Vec::new()),
                // The reply is not to blame, and a person may mend it.
                Err(NoToken::Refused(reason)) => {
                    return (later(reason, Some(REFUSED_PAUSE)), Vec::new());
                }
            };
            let url = format!("{}{path}", self.settings.base_url);
            let mut request =
                self.http.client().request(method.clone(), url).bearer_auth(token.expose());
            if let Some(body) = body {
                request = request.json(body);
            }
            let answer = match self.http.call(request).await {
                Ok(answer) => answer,
                Err(reason) => return (later(reason, None), Vec::new()),
            };
            let reset = answer.headers.get(RESET).and_then(|value| value.to_str().ok());
            let said = judge(answer.status, reset, &answer.body);
            if said != Said::Token {
                return (said, answer.body);
            }
            self.tokens.drop_refused(&token);
            refused.1 = answer.body;
        }
        refused
    }
}

fn later(reason: String, after: Option<Duration>) -> Said {
    let after_ms = after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    Said::Later { reason, after_ms }
}

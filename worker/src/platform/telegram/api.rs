//! Calls of the Bot API.
//!
//! The token is a part of every URL. No error of the client names one, and whatever else is told, to the
//! log or to the supervisor, has gone through [`Api::redacted`].

use std::io;
use std::time::Duration;

use protocol::worker::{Network, TelegramSettings};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use url::Url;

use super::answer::{Said, judge};
use super::batch::{Fetched, read};
use super::steps::Call;
use crate::Error;
use crate::exchange::Exchange;
use crate::http::{Answer, Http, Lost, Within};

/// A call that may be repeated: better soon again than late.
const ASK: Within = Within {
    head: Duration::from_secs(5),
    stall: Duration::from_secs(4),
    whole: Duration::from_secs(10),
    body: 1024 * 1024,
};
/// A call that may not: its answer is worth waiting for.
const PERFORM: Within = Within {
    head: Duration::from_secs(15),
    stall: Duration::from_secs(5),
    whole: Duration::from_secs(20),
    body: 1024 * 1024,
};
/// The slowest line that a file is sent over, in bytes a second.
const UPLOAD_SLOWEST: u64 = 32 * 1024;
/// The whole of a file that is fetched.
const DOWNLOAD: Duration = Duration::from_mins(4);
/// One answer holds about 4 MB of updates.
const UPDATES_MAX: usize = 16 * 1024 * 1024;
/// Between two pieces of them.
const UPDATES_STALL: Duration = Duration::from_secs(4);
/// The kinds of updates that we understand. Sent each time, because the platform keeps what any program
/// of this bot once asked for.
pub(super) const KINDS: [&str; 14] = [
    "message",
    "edited_message",
    "channel_post",
    "edited_channel_post",
    "callback_query",
    "message_reaction",
    "my_chat_member",
    "chat_member",
    "stopped_message_generation",
    "business_connection",
    "business_message",
    "edited_business_message",
    "deleted_business_messages",
    "guest_message",
];
/// The server that everybody uses.
const PUBLIC: &str = "https://api.telegram.org";

/// The Bot API, as one bot.
pub(super) struct Api {
    http: Http,
    settings: TelegramSettings,
}

/// What to ask the queue for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ask {
    /// Everything below may be forgotten.
    pub(super) offset: i64,
    /// How long the platform may wait for something to say.
    pub(super) hold: Duration,
    /// How long the way there and back may take besides.
    pub(super) patience: Duration,
    /// How long the whole answer may take.
    pub(super) whole: Duration,
    /// Over a new connection: one was lost, and those that were kept are likely to have gone with it.
    pub(super) anew: bool,
}

impl Api {
    /// Of the bot in `settings`, whose token must be one, reached over `network`.
    pub(super) fn new(settings: TelegramSettings, network: &Network) -> Result<Self, Error> {
        let token = settings.token.expose();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let is_token = token.split_once(':').is_some_and(|(id, key)| {
            !id.is_empty()
                && id.bytes().all(|byte| byte.is_ascii_digit())
                && !key.is_empty()
                && key.bytes().all(plain)
        });
        if !is_token {
            let why = "it is none; BotFather's look like 123456:ABC-DEF".to_owned();
            return Err(Error::Credentials { what: "use the token".to_owned(), why });
        }
        Ok(Self { http: Http::over(&settings.base_url, network)?, settings })
    }

    /// Whether new connections are given more time than usual.
    pub(super) fn set_slow(&self, is_slow: bool) {
        self.http.set_slow(is_slow);
    }

    pub(super) fn settings(&self) -> &TelegramSettings {
        &self.settings
    }

    /// Whether its limits are those of the server that everybody uses.
    pub(super) fn is_public(&self) -> bool {
        self.settings.base_url == PUBLIC
    }

    /// `text` without the token, should it be in there.
    pub(super) fn redacted(&self, text: &str) -> String {
        text.replace(self.settings.token.expose(), "***")
    }

    /// A call that may be repeated, whatever became of it.
    pub(super) async fn ask(&self, method: &str, body: &Value) -> Said {
        let request = self.http.client().post(self.url(method)).json(body);
        match self.http.call_within(request, ASK.slower(self.http.slower())).await {
            Ok(answer) => self.judged(&answer),
            Err(lost) => Said::Away(self.redacted(&lost.why)),
        }
    }

    /// A call that must not be repeated if it may have been done. It never travels over a connection
    /// that was kept, which may have died unnoticed.
    pub(super) async fn perform(&self, call: &Call, exchange: &Exchange) -> Said {
        let request = self.http.fresh().post(self.url(call.method));
        let (request, within) = if call.uploads.is_empty() {
            (request.json(&call.body), PERFORM)
        } else {
            match form(call, exchange).await {
                Ok((form, bytes)) => {
                    let way = Duration::from_secs(bytes / UPLOAD_SLOWEST);
                    let (head, whole) = (PERFORM.head + way, PERFORM.whole + way);
                    (request.multipart(form), Within { head, whole, ..PERFORM })
                }
                Err(error) => return Said::Refused(format!("open a file: {error}")),
            }
        };
        match self.http.call_within(request, within.slower(self.http.slower())).await {
            Ok(answer) => self.judged(&answer),
            Err(Lost { why, left: true, .. }) => Said::Unclear(self.redacted(&why)),
            Err(Lost { why, left: false, .. }) => Said::Away(self.redacted(&why)),
        }
    }

    /// Asks the queue of updates.
    pub(super) async fn updates(&self, ask: Ask) -> Fetched {
        let body = json!({
            "offset": ask.offset, "timeout": ask.hold.as_secs(), "limit": 100,
            "allowed_updates": KINDS,
        });
        let within = Within {
            head: ask.hold + ask.patience,
            stall: UPDATES_STALL,
            whole: ask.whole,
            body: UPDATES_MAX,
        };
        // One that was kept needs no time to be made, and is to be left soon once it is dead.
        let (client, within) = if ask.anew {
            (self.http.fresh(), within.slower(self.http.slower()))
        } else {
            (self.http.client(), within)
        };
        let request = client.post(self.url("getUpdates")).json(&body);
        match self.http.call_within(request, within).await {
            Ok(answer) => match read(&answer.body) {
                Some(updates) => Fetched::Updates(updates),
                None => Fetched::Other(self.judged(&answer)),
            },
            Err(lost) => Fetched::Other(Said::Away(self.redacted(&lost.why))),
        }
    }

    /// A request for the bytes of a file; none if the platform's path is no path.
    pub(super) fn file(&self, path: &str) -> Option<reqwest::RequestBuilder> {
        let mut url = Url::parse(&self.settings.base_url).ok()?;
        let bot = format!("bot{}", self.settings.token.expose());
        let parts: Vec<&str> = path.split('/').collect();
        if parts.iter().any(|part| matches!(*part, "" | "." | "..")) {
            return None;
        }
        url.path_segments_mut().ok()?.pop_if_empty().extend(["file", &bot]).extend(parts);
        Some(self.http.fresh().get(url).timeout(DOWNLOAD))
    }

    fn judged(&self, answer: &Answer) -> Said {
        let token = self.settings.token.expose();
        let after = answer.headers.get("retry-after").and_then(|value| value.to_str().ok());
        match judge(answer.status, after, &answer.body) {
            Said::Refused(why) => Said::Refused(why.replace(token, "***")),
            Said::Credentials(why) => Said::Credentials(why.replace(token, "***")),
            said @ (Said::Done(_)
            | Said::Limited(_)
            | Said::Conflict(_)
            | Said::Moved(_)
            | Said::Away(_)
            | Said::Unclear(_)) => said,
        }
    }

    fn url(&self, method: &str) -> String {
        format!("{}/bot{}/{method}", self.settings.base_url, self.settings.token.expose())
    }
}

/// The parameters and the files of a call, and how many bytes the files have.
async fn form(call: &Call, exchange: &Exchange) -> io::Result<(Form, u64)> {
    // The names are plain already, and the platform reads them as they are.
    let mut form = Form::new().percent_encode_noop();
    for (name, value) in call.body.as_object().into_iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        form = form.text(name.clone(), text);
    }
    let mut bytes = 0;
    for upload in &call.uploads {
        let (file, size) = exchange.open(&upload.file).await?;
        bytes += size;
        let part = Part::stream_with_length(reqwest::Body::from(file), size);
        form = form.part(upload.field.clone(), part.file_name(upload.title.clone()));
    }
    Ok((form, bytes))
}

#[cfg(test)]
mod tests {
    use protocol::worker::{OtherWebhook, Secret, Unanswered};

    use super::*;

    fn api(token: &str) -> Result<Api, Error> {
        let settings = TelegramSettings {
            menu: Vec::new(),
            token: Secret::new(token),
            base_url: "http://127.0.0.1:1".to_owned(),
            unanswered: Unanswered::Report,
            other_webhook: OtherWebhook::Keep,
            webhook: None,
            local_files: None,
        };
        Api::new(settings, &Network::default())
    }

    #[test]
    fn the_path_of_a_file_leads_nowhere_else() {
        let api = api("12:s3cret").unwrap();
        for wrong in ["", "/etc/passwd", "a//b", "../a", "a/./b", "a/.."] {
            assert!(api.file(wrong).is_none(), "{wrong:?}");
        }
        let url = api.file("photos/a b?#.jpg").unwrap().build().unwrap().url().to_string();
        assert_eq!(url, "http://127.0.0.1:1/file/bot12:s3cret/photos/a%20b%3F%23.jpg");
    }

    #[test]
    fn what_is_no_token_is_never_a_part_of_a_url() {
        for wrong in ["", "1", "1:", ":a", "x:a", "1:a/b", "1:a b", "1:a?b", "1:ä", "1:a\n"] {
            let error = api(wrong).map(drop).unwrap_err();
            assert_eq!(error.exit_code(), 77, "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn no_error_names_the_token() {
        let api = api("12:s3cret").unwrap();
        let exchange = Exchange::from(protocol::worker::Exchange { dir: "/".into(), max_bytes: 1 });
        let call = Call { method: "sendMessage", body: json!({}), uploads: Vec::new() };
        let said = api.perform(&call, &exchange).await;
        assert!(matches!(&said, Said::Away(why) if !why.contains("s3cret")), "{said:?}");
        assert_eq!(api.redacted("http://h/bot12:s3cret/x"), "http://h/bot***/x");
    }
}

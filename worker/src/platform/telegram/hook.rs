//! Hearing by a webhook: the platform posts each update to us.
//!
//! Any 2xx makes the platform forget that update, so it is said only after the update is settled; 503 makes
//! it come again. Updates of one chat come one after another, so nothing could be gained by waiting for the rest
//! of an album: each part is stored as it comes, and says to which album it belongs. Nothing tells a webhook that leads nowhere from users who are silent; so the platform is asked every
//! half minute whether it still has ours and whether it could deliver.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::select;
use protocol::event::Mention;
use protocol::worker::{OtherWebhook, Outside, TelegramWebhook};
use ring::hmac;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::Shared;
use super::answer::Said;
use super::api::KINDS;
use super::decode::{Heard, Own, decode};
use super::intake::{aside, is_settled, submit};
use super::line::Line;
use super::orders::host;
use crate::Error;
use crate::clock::{self, Instant};
use crate::json::{brief, number_of, text_of};
use crate::listener::{self, Answer, Head, Limits, Site};
use crate::platform::Note;

/// Where the platform shows the secret.
const SECRET: &str = "x-telegram-bot-api-secret-token";
/// Questions about the webhook, in first pauses after a conflict.
const CHECK: u32 = 30;
/// A webhook that vanishes twice within so many checks is taken away by somebody.
const CALM: u32 = 20;
/// The platform waits for about a minute.
const LIMITS: Limits = Limits {
    head: 16 * 1024,
    body: 2 * 1024 * 1024,
    head_within: Duration::from_secs(60),
    body_within: Duration::from_secs(15),
    answer_within: Duration::from_secs(50),
    connections: 0,
    last: Duration::from_secs(3),
};
/// Connections beyond those that the platform was granted: for people who look.
const SPARE: usize = 8;
/// Albums that are remembered.
const ALBUMS: usize = 64;
/// Before an update that was refused comes again, in seconds.
const AGAIN: u32 = 1;

const TAKEN: &str = "end what listens there, or change `listen` in [platform.telegram.webhook]";

/// What only the platform knows besides us: the same after every restart, and nobody has to invent it.
fn secret(shared: &Shared) -> String {
    let token = shared.api.settings().token.expose();
    let key = hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes());
    protocol::id::hex(hmac::sign(&key, b"the webhook of hermes-gw").as_ref())
}

/// The parameters of `setWebhook`.
pub(super) fn registration(shared: &Shared, webhook: &TelegramWebhook) -> Value {
    json!({
        "url": webhook.url, "secret_token": secret(shared), "allowed_updates": KINDS,
        "max_connections": webhook.connections, "drop_pending_updates": false,
    })
}

/// Hears until the worker is told to stop. An error is only for what a person must mend.
pub(super) async fn run(shared: &Shared, webhook: &TelegramWebhook) -> Result<(), Error> {
    // First the port: what the platform posts must not meet a closed one. Where it is taken, replies do not wait for it.
    let mut port = TcpListener::bind(webhook.listen).await.ok();
    let mut line = Line::new(shared);
    while line.own.is_none() {
        let learning = shared.stop.run_until_cancelled(line.learn());
        let Some(pause) = learning.await else { return Ok(()) };
        if shared.stop.run_until_cancelled(tokio::time::sleep(pause?)).await.is_none() {
            return Ok(());
        }
    }
    let Some(own) = line.own.clone() else { return Ok(()) };
    if port.is_none() {
        line.introduce().await;
        let taken = async |reason: String| {
            line.tell(Outside::Down { reason, remedy: Some(TAKEN.to_owned()) }).await;
        };
        port = listener::bind(webhook.listen, &shared.stop, taken).await;
    }
    let Some(port) = port else { return Ok(()) };
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret(shared).as_bytes());
    let tag = hmac::sign(&key, secret(shared).as_bytes());
    let taken = AtomicU64::new(0);
    let door = Door { shared, own, tag, key, albums: Mutex::default(), taken: &taken };
    let connections = usize::try_from(webhook.connections).unwrap_or(1) + SPARE;
    let serving = listener::serve(port, Limits { connections, ..LIMITS }, &door, &shared.stop);
    let watching = async {
        let watched = Watch::new(shared, webhook, line, &taken).run().await;
        shared.stop.cancel();
        watched
    };
    let ((), watched) = tokio::join!(serving, watching);
    watched
}

/// Takes what is posted.
struct Door<'a> {
    shared: &'a Shared,
    own: Own,
    key: hmac::Key,
    /// Of the secret: comparing it takes as long wherever two differ.
    tag: hmac::Tag,
    /// Albums of late, and whom they address.
    albums: Mutex<VecDeque<(String, Mention)>>,
    /// Updates that have come to their end here.
    taken: &'a AtomicU64,
}

impl Door<'_> {
    /// Whom one part of an album addresses, usually the first, all of it does.
    fn addressed(&self, album: &str, mention: &mut Mention) {
        let mut albums = self.albums.lock().unwrap_or_else(PoisonError::into_inner);
        match albums.iter().find(|(known, _)| known == album) {
            Some((_, known)) if *mention == Mention::None => *mention = *known,
            Some(_) => {}
            None => {
                if albums.len() >= ALBUMS {
                    albums.pop_front();
                }
                albums.push_back((album.to_owned(), *mention));
            }
        }
    }
}

impl Site for Door<'_> {
    fn admit(&self, head: &Head) -> Result<(), Answer> {
        if head.method != "POST" {
            return Err(Answer::plain(405, "here Telegram posts updates"));
        }
        let shown = head.headers.get(SECRET).map_or(&[][..], |value| value.as_bytes());
        hmac::verify(&self.key, shown, self.tag.as_ref())
            .map_err(|_| Answer::plain(401, "this is not the secret token"))
    }

    async fn answer(&self, _: Head, body: Bytes) -> Answer {
        if body.is_empty() {
            return Answer::plain(400, "this is no update");
        }
        let update = decode(&body, &self.own, clock::unix_ms());
        if !aside(self.shared, &update).await {
            return Answer::later(AGAIN);
        }
        let mut event = match update.heard {
            Heard::Event(event) | Heard::Malformed(_, event) => event,
            Heard::Ignored => return Answer::plain(200, ""),
        };
        if let Some(album) = update.album {
            self.addressed(&album, &mut event.mention);
            event.album = Some(album);
        }
        let verdict = submit(self.shared, *event).await;
        self.shared.report.tell(Note::Progress).await;
        match verdict.await.ok() {
            verdict if is_settled(verdict) => {
                self.taken.fetch_add(1, Ordering::Relaxed);
                Answer::plain(200, "")
            }
            _ => Answer::later(AGAIN),
        }
    }
}

/// Looks after the webhook.
struct Watch<'a> {
    shared: &'a Shared,
    webhook: &'a TelegramWebhook,
    line: Line<'a>,
    /// We have set it, in this run.
    set: bool,
    /// When it was found missing last.
    missed: Option<Instant>,
    /// The last failure to deliver that we know of, by the platform's clock.
    failed: i64,
    /// It could not deliver, and nothing says that it can by now: what a person was told.
    failing: Option<Outside>,
    /// Updates that have come, at all and by the look before.
    taken: &'a AtomicU64,
    before: u64,
}

impl<'a> Watch<'a> {
    fn new(
        shared: &'a Shared,
        webhook: &'a TelegramWebhook,
        line: Line<'a>,
        taken: &'a AtomicU64,
    ) -> Self {
        let (set, missed, failed, failing, before) = (false, None, 0, None, 0);
        Self { shared, webhook, line, set, missed, failed, failing, taken, before }
    }

    async fn run(mut self) -> Result<(), Error> {
        loop {
            let step = self.shared.stop.run_until_cancelled(self.look());
            let Some(pause) = step.await else { return Ok(()) };
            // An outage is noticed by what is sent, long before the next look.
            let (rest, doubt) = (tokio::time::sleep(pause?), self.shared.doubt.notified());
            let (rest, doubt) = (pin!(rest), pin!(doubt));
            let pause = select(rest, doubt);
            if self.shared.stop.run_until_cancelled(pause).await.is_none() {
                return Ok(());
            }
        }
    }

    fn every(&self) -> Duration {
        self.shared.conflict * CHECK
    }

    /// One look: how long until the next.
    async fn look(&mut self) -> Result<Duration, Error> {
        let info = match self.shared.api.ask("getWebhookInfo", &json!({})).await {
            Said::Done(info) => info,
            other => return self.line.fails(other).await,
        };
        let now = clock::now();
        let url = text_of(&info, "url");
        let ours = url == self.webhook.url;
        if self.set && ours {
            self.judge(&info, now).await;
            return Ok(self.every());
        }
        let was_ours = self.shared.remembered().is_some_and(|remembered| remembered == url);
        let remove = self.shared.api.settings().other_webhook == OtherWebhook::Remove;
        if !(url.is_empty() || ours || was_ours && !self.set || remove) {
            let reason = format!("another webhook reads the updates of this bot ({})", host(url));
            let remedy = "end the program behind it, and set other_webhook = \"remove\" if the webhook stays";
            self.line.introduce().await;
            self.line.tell_conflict(&reason, remedy).await;
            return Ok(self.every());
        }
        let again = self.missed.is_some_and(|at| now.duration_since(at) < self.every() * CALM);
        if self.set {
            tracing::warn!("somebody took our webhook away; setting it again");
            self.missed = Some(now);
        }
        self.failed = number_of(&info, "last_error_date").unwrap_or_default();
        self.set(again, now).await
    }

    async fn set(&mut self, again: bool, now: Instant) -> Result<Duration, Error> {
        // Remembered first: a webhook that nobody remembers is taken for somebody else's.
        self.shared.remember(Some(&self.webhook.url)).await;
        match self.shared.api.ask("setWebhook", &registration(self.shared, self.webhook)).await {
            Said::Done(_) => {}
            Said::Refused(reason) => {
                let pause = self.line.fails(Said::Refused(reason.clone())).await;
                let reason = format!("Telegram does not take webhook.url: {reason}");
                let remedy = "it takes https on the ports 443, 80, 88 and 8443; a server of your own, started \
                              with --local, takes any";
                self.line.tell(Outside::Down { reason, remedy: Some(remedy.to_owned()) }).await;
                return pause;
            }
            other => return self.line.fails(other).await,
        }
        (self.set, self.failing) = (true, None);
        if again {
            self.line.introduce().await;
            let reason = "another program takes the webhook of this bot away";
            let remedy = "end the other program, or take its token away with BotFather's /revoke";
            self.line.tell_conflict(reason, remedy).await;
        } else {
            self.line.works(now).await;
        }
        Ok(self.every())
    }

    /// The webhook is there: does it lead to us? The platform waits ever longer between two attempts, so that it tells
    /// of no new failure proves nothing.
    async fn judge(&mut self, info: &Value, now: Instant) {
        let failed = number_of(info, "last_error_date").unwrap_or_default();
        let waiting = number_of(info, "pending_update_count").unwrap_or_default();
        let is_new = failed > self.failed;
        self.failed = failed.max(self.failed);
        let taken = self.taken.load(Ordering::Relaxed);
        let has_come = std::mem::replace(&mut self.before, taken) != taken;
        if is_new && waiting > 0 {
            let why = brief(text_of(info, "last_error_message"));
            let reason =
                format!("Telegram cannot reach the webhook, {waiting} updates wait: {why}");
            let remedy = format!(
                "look at what stands between {} and {}",
                host(&self.webhook.url),
                self.webhook.listen
            );
            self.failing = Some(Outside::Down { reason, remedy: Some(remedy) });
        } else if waiting == 0 || has_come {
            self.failing = None;
        }
        match &self.failing {
            Some(outside) => {
                self.shared.set_away(false);
                self.line.tell(outside.clone()).await;
            }
            None => self.line.works(now).await,
        }
    }
}

//! How it stands with the platform: whether it answers, what a person is told, and when to try again. The same
//! for both ways of hearing.

use std::time::Duration;

use protocol::worker::{OtherWebhook, Outside, Ready, Unanswered};
use serde_json::json;

use super::Shared;
use super::answer::{Rival, Said};
use super::decode::Own;
use super::orders::host;
use super::patience::Patience;
use super::rival::Rivalry;
use crate::Error;
use crate::clock::{self, Instant};
use crate::json::{number_of, text_of};
use crate::platform::Note;
use crate::session::{Input, Loss, Session};

/// Before a token that was good is asked about once more.
const DOUBT: Duration = Duration::from_secs(2);
/// A pause that the platform asks for is told if it is longer.
const NOTABLE: Duration = Duration::from_secs(10);
/// Between the end of a pause that the platform asked for and the next call.
const MARGIN: Duration = Duration::from_millis(300);
/// After a page in place of an answer: what is in the way of the platform comes and goes within seconds.
const PAGE: Duration = Duration::from_millis(60);
/// Longer by this after each page in a row.
const PAGE_MORE: Duration = Duration::from_millis(4);
/// And at most so much longer, by chance.
const PAGE_SPREAD: Duration = Duration::from_millis(60);
/// So many pages in a row are an outage like any other.
const PAGES: u32 = 40;

/// What is known of the connection.
pub(super) struct Line<'a> {
    shared: &'a Shared,
    /// Who the bot is, once it is known.
    pub(super) own: Option<Own>,
    session: Session,
    rivalry: Rivalry,
    patience: Patience,
    ready: bool,
    /// The token was refused just now, after it had been good.
    doubted: bool,
    /// What the supervisor was told, unless that all is well.
    down: Option<Outside>,
    works: bool,
    /// Pages in place of answers, in a row.
    pages: u32,
}

impl<'a> Line<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        Self {
            shared,
            own: None,
            session: Session::new(),
            rivalry: Rivalry::new(shared.conflict),
            patience: Patience::new(shared.whole),
            ready: false,
            doubted: false,
            down: None,
            works: false,
            pages: 0,
        }
    }

    /// Finds out who the bot is: mentions cannot be told without.
    pub(super) async fn learn(&mut self) -> Result<Duration, Error> {
        let said = self.shared.api.ask("getMe", &json!({})).await;
        let Said::Done(me) = said else { return self.fails(said).await };
        let username = text_of(&me, "username").to_owned();
        self.own = number_of(&me, "id").map(|id| Own { id, username });
        match self.own {
            Some(_) => Ok(Duration::ZERO),
            None => self.fails(Said::Unclear("the platform does not say who we are".into())).await,
        }
    }

    /// Whether the platform has known us.
    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    /// How long a poll may take besides waiting.
    pub(super) fn patience(&self, now: Instant) -> Duration {
        self.patience.next(self.rivalry.is_near(now))
    }

    /// How long the whole answer to a poll may take besides waiting.
    pub(super) fn whole(&self) -> Duration {
        self.patience.whole()
    }

    /// Whether the latest question had no answer.
    pub(super) fn was_lost(&self) -> bool {
        self.patience.losses() > 0
    }

    /// What a poll took besides waiting, if anybody can tell.
    pub(super) fn answered(&mut self, took: Option<Duration>) {
        self.patience.answered(took);
    }

    /// The receiving side has proven itself.
    pub(super) async fn works(&mut self, now: Instant) {
        self.doubted = false;
        self.pages = 0;
        self.shared.set_away(false);
        self.shared.report.tell(Note::Progress).await;
        if !self.works {
            self.works = true;
            self.session.on(Input::Proven, now);
        }
        self.introduce().await;
        self.shared.heard.notify_one();
        self.rivalry.heard();
        if self.rivalry.known(now).is_none() && self.down.take().is_some() {
            tracing::info!("hearing again");
            let outside = self.shared.standing().hears();
            self.shared.report.tell(Note::Outside(outside)).await;
        }
    }

    /// The platform knows us: replies can go, whoever hears the updates.
    pub(super) async fn introduce(&mut self) {
        if self.ready {
            return;
        }
        self.ready = true;
        let account = self
            .own
            .as_ref()
            .map_or_else(String::new, |own| format!("@{} ({})", own.username, own.id));
        tracing::info!(account, "connected");
        self.shared
            .report
            .tell(Note::Ready(Ready { account, idempotent_ms: self.repeats() }))
            .await;
    }

    /// Nothing is repeated, unless somebody prefers a message twice to one that is missing.
    fn repeats(&self) -> Option<u64> {
        match self.shared.api.settings().unanswered {
            Unanswered::Report => None,
            Unanswered::Resend => Some(u64::MAX),
        }
    }

    /// There was no good answer: how long to wait.
    pub(super) async fn fails(&mut self, said: Said) -> Result<Duration, Error> {
        let now = clock::now();
        match said {
            Said::Credentials(why) if self.ready && !self.doubted => {
                // It was good a moment ago. Outages were seen to say such things.
                self.doubted = true;
                Ok(self.lost(Loss::Outage, why, now).await + DOUBT)
            }
            Said::Credentials(why) => {
                let what = "log in to the platform".to_owned();
                let why = format!("{why} (get the token from BotFather and check it)");
                Err(Error::Credentials { what, why })
            }
            Said::Conflict(rival) => {
                self.patience.answered(None);
                self.introduce().await;
                Ok(self.disputed(rival, now).await)
            }
            Said::Limited(pause) => {
                if pause > NOTABLE {
                    let reason = format!("the platform wants a pause of {} s", pause.as_secs());
                    self.tell(Outside::Down { reason, remedy: None }).await;
                }
                Ok(pause + MARGIN + clock::jitter(MARGIN))
            }
            Said::Away(reason) => {
                self.patience.lost();
                Ok(self.lost(Loss::Outage, reason, now).await)
            }
            Said::Unclear(reason) => {
                self.patience.lost();
                self.pages += 1;
                // The line works, only what is at its other end does not: that passes sooner.
                let pause = self.lost(Loss::Outage, reason, now).await;
                if self.pages > PAGES {
                    return Ok(pause);
                }
                Ok(pause.min(PAGE + PAGE_MORE * self.pages + clock::jitter(PAGE_SPREAD)))
            }
            Said::Refused(reason) => Ok(self.lost(Loss::Refused, reason, now).await),
            Said::Done(_) | Said::Moved(_) => {
                let reason = "the platform answers something else".to_owned();
                Ok(self.lost(Loss::Outage, reason, now).await)
            }
        }
    }

    async fn lost(&mut self, loss: Loss, reason: String, now: Instant) -> Duration {
        self.shared.api.set_slow(self.patience.is_slow());
        self.works = false;
        self.shared.set_away(true);
        let retry = self.session.on(Input::Lost(loss), now);
        let pause = retry.map_or(Duration::ZERO, |retry| {
            retry.at.duration_since(now) + clock::jitter(retry.spread)
        });
        // The first failure after a good time is told when the next attempt fails as well.
        if self.patience.losses() != 1 || !self.ready || loss == Loss::Refused {
            self.tell(Outside::Down { reason, remedy: None }).await;
        }
        pause
    }

    /// Somebody else reads the updates, or a webhook is set: how long to wait.
    async fn disputed(&mut self, rival: Rival, now: Instant) -> Duration {
        let pause = self.rivalry.met(rival, now);
        let mut url = String::new();
        if rival == Rival::Webhook {
            url = self.webhook().await;
            let was_ours = !url.is_empty() && self.shared.remembered().as_ref() == Some(&url);
            let remove = self.shared.api.settings().other_webhook == OtherWebhook::Remove;
            if (was_ours || remove) && self.remove_webhook().await {
                let whose = if was_ours { "of our own" } else { "of another program" };
                tracing::warn!(whose, host = host(&url), "removed a webhook; its updates stay");
                if self.rivalry.removed(now) {
                    let host = host(&url);
                    let reason =
                        format!("another program sets its webhook again and again ({host})");
                    let remedy = "end the program behind it, or take its token away with BotFather's /revoke";
                    self.tell_conflict(&reason, remedy).await;
                    return pause;
                }
                return Duration::ZERO;
            }
        }
        if let Some(rival) = self.rivalry.known(now) {
            let (reason, remedy) = match rival {
                Rival::Poller => (
                    "another program reads the updates of this bot".to_owned(),
                    "end the other program, or take its token away with BotFather's /revoke",
                ),
                Rival::Webhook => (
                    format!("a webhook reads the updates of this bot ({})", host(&url)),
                    "end the program behind it, then `hermes-gw ctl telegram delete-webhook INSTANCE`; or \
                     set other_webhook = \"remove\"",
                ),
            };
            self.tell_conflict(&reason, remedy).await;
        }
        pause + clock::jitter(pause / 4)
    }

    async fn remove_webhook(&mut self) -> bool {
        // Its updates are ours to hear.
        let body = json!({"drop_pending_updates": false});
        let removed = matches!(self.shared.api.ask("deleteWebhook", &body).await, Said::Done(_));
        if removed {
            self.shared.remember(None).await;
        }
        removed
    }

    /// Where the webhook leads; empty: nowhere, or nobody knows.
    async fn webhook(&self) -> String {
        match self.shared.api.ask("getWebhookInfo", &json!({})).await {
            Said::Done(info) => text_of(&info, "url").to_owned(),
            _ => String::new(),
        }
    }

    /// Somebody else uses the bot.
    pub(super) async fn tell_conflict(&mut self, reason: &str, remedy: &str) {
        let reason = format!("conflict: {reason}");
        self.tell(Outside::Conflict { reason, remedy: remedy.to_owned() }).await;
    }

    /// What a person is to know, once.
    pub(super) async fn tell(&mut self, outside: Outside) {
        if self.down.as_ref() == Some(&outside) {
            return;
        }
        self.down = Some(outside.clone());
        if let Outside::Down { reason, .. } | Outside::Conflict { reason, .. } = &outside {
            tracing::warn!(reason, "not hearing");
        }
        self.shared.standing().deaf();
        self.shared.report.tell(Note::Outside(outside)).await;
    }
}

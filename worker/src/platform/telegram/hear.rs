//! Hearing: one poll after another, each of which confirms what the one before brought.
//!
//! The platform keeps what is not confirmed and hands it out again; sending an offset is what deletes.
//! So an offset is sent once, after everything below it is settled, and none otherwise. That is why nothing
//! has to be remembered between two runs: the platform's own queue begins with what we have not confirmed,
//! and an offset of ours could only delete more (its numbers start anew after a week of silence).

use std::time::Duration;

use protocol::worker::{OtherWebhook, Outside, Ready, Verdict};
use serde_json::json;
use serde_json::value::RawValue;

use super::Shared;
use super::answer::{Rival, Said};
use super::api::Ask;
use super::batch::{Fetched, Group, understand};
use super::decode::{Heard, Own};
use super::patience::Patience;
use super::rival::Rivalry;
use crate::Error;
use crate::clock::{self, Instant};
use crate::json::{brief, number_of, text_of};
use crate::platform::Note;
use crate::session::{Input, Loss, Session};

/// How long the platform may wait for something to say. It raises shorter times to this if they repeat; a
/// longer one would hide for longer that the line died: proxies and address tables forget connections
/// without a word.
const HOLD: Duration = Duration::from_secs(3);
/// An album that has not grown for this long is complete.
const ALBUM: Duration = Duration::from_millis(700);
/// Before what was refused is asked for again.
const REFUSED: Duration = Duration::from_secs(1);
/// Before a token that was good is asked about once more.
const DOUBT: Duration = Duration::from_secs(2);
/// A pause that the platform asks for is told if it is longer.
const NOTABLE: Duration = Duration::from_secs(10);
/// Between the end of a pause that the platform asked for and the next call.
const MARGIN: Duration = Duration::from_millis(300);

/// Hears until the worker is told to stop. An error is only for what a person must mend.
pub(super) async fn run(shared: &Shared) -> Result<(), Error> {
    let mut ear = Ear::new(shared);
    loop {
        let step = async {
            match &ear.own {
                None => ear.learn().await,
                Some(_) => ear.poll().await,
            }
        };
        let Some(pause) = shared.stop.run_until_cancelled(step).await else { return Ok(()) };
        let pause = tokio::time::sleep(pause?);
        if shared.stop.run_until_cancelled(pause).await.is_none() {
            return Ok(());
        }
    }
}

struct Ear<'a> {
    shared: &'a Shared,
    own: Option<Own>,
    session: Session,
    rivalry: Rivalry,
    /// Everything below is settled, and the platform may not know it yet.
    confirm: Option<i64>,
    /// An album that was left in the queue.
    growing: Option<(i64, usize)>,
    patience: Patience,
    ready: bool,
    /// The token was refused just now, after it had been good.
    doubted: bool,
    /// What the supervisor was told.
    down: Option<(String, Option<&'static str>)>,
    works: bool,
}

impl<'a> Ear<'a> {
    fn new(shared: &'a Shared) -> Self {
        Self {
            shared,
            own: None,
            session: Session::new(),
            rivalry: Rivalry::new(shared.conflict),
            confirm: None,
            growing: None,
            patience: Patience::default(),
            ready: false,
            doubted: false,
            down: None,
            works: false,
        }
    }

    /// Finds out who the bot is: mentions cannot be told without.
    async fn learn(&mut self) -> Result<Duration, Error> {
        let said = self.shared.api.ask("getMe", &json!({})).await;
        let Said::Done(me) = said else { return self.fails(said).await };
        let username = text_of(&me, "username").to_owned();
        self.own = number_of(&me, "id").map(|id| Own { id, username });
        match self.own {
            Some(_) => Ok(Duration::ZERO),
            None => self.fails(Said::Unclear("the platform does not say who we are".into())).await,
        }
    }

    async fn poll(&mut self) -> Result<Duration, Error> {
        let began = clock::now();
        // The first one returns at once, so that we know that we are heard.
        let hold = if self.ready { HOLD } else { Duration::ZERO };
        let ask = Ask {
            confirm: self.confirm,
            hold,
            patience: self.patience.next(self.rivalry.is_near(began)),
        };
        match self.shared.api.updates(ask).await {
            Fetched::Updates(updates) => {
                let now = clock::now();
                let waited = updates.is_empty().then_some(hold);
                let took = waited.map(|hold| now.duration_since(began).saturating_sub(hold));
                self.patience.answered(took);
                self.works(now).await;
                Ok(self.take(&updates).await)
            }
            Fetched::Other(said) => self.fails(said).await,
        }
    }

    /// Hands updates in, waits for their verdicts, and decides what may be confirmed.
    async fn take(&mut self, updates: &[Box<RawValue>]) -> Duration {
        let Some(own) = &self.own else { return Duration::ZERO };
        let batch = understand(updates, self.growing, own, clock::unix_ms());
        let mut waiting = Vec::new();
        for group in batch.groups {
            self.aside(&group).await;
            if let Some(event) = group.event() {
                let verdict = self.shared.events.submit(event, None).await;
                waiting.push((group, verdict));
            }
        }
        let mut unsettled = None;
        for (group, verdict) in waiting {
            let settled = match verdict.await {
                Ok(Verdict::Duplicate) => group.updates.len() == 1 || self.singly(&group).await,
                verdict => is_settled(verdict.ok()),
            };
            if !settled && unsettled.is_none() {
                unsettled = Some(group.first);
            }
        }
        self.growing = batch.growing;
        let next = batch.last.map(|last| last.saturating_add(1));
        let (confirm, pause) = match (unsettled, batch.growing) {
            (Some(first), _) => (first, REFUSED),
            (None, Some((first, _))) => (Some(first), ALBUM),
            // Without any id there is nothing to confirm it by.
            (None, None) if next.is_none() && !updates.is_empty() => (None, REFUSED),
            (None, None) => (next, Duration::ZERO),
        };
        self.confirm = confirm.filter(|id| *id > 0);
        pause
    }

    /// A part of an album had been accepted before the rest of it was there: each part speaks for itself.
    async fn singly(&self, group: &Group) -> bool {
        for update in &group.updates {
            if let Heard::Event(event) = &update.heard {
                let verdict = self.shared.events.submit(event.as_ref().clone(), None).await;
                if !is_settled(verdict.await.ok()) {
                    return false;
                }
            }
        }
        true
    }

    /// What an update is besides an event.
    async fn aside(&self, group: &Group) {
        for update in &group.updates {
            match &update.heard {
                Heard::Event(_) => {}
                Heard::Ignored => self.shared.report.tell(Note::Ignored).await,
                Heard::Malformed(why, _) => {
                    tracing::warn!(reason = why, id = update.id, "an update cannot be understood");
                    self.shared.report.tell(Note::Malformed).await;
                }
            }
            if let Some((from, to)) = update.moved {
                self.shared.moved(from, to);
            }
            if let Some(button) = &update.button {
                // Whoever pressed waits for a sign; without room the sign is not worth waiting for.
                let _ = self.shared.pressed.try_send(button.clone());
            }
        }
    }

    /// A poll was answered.
    async fn works(&mut self, now: Instant) {
        self.doubted = false;
        self.shared.set_away(false);
        self.shared.report.tell(Note::Progress).await;
        if !self.works {
            self.works = true;
            self.session.on(Input::Proven, now);
        }
        self.introduce().await;
        self.rivalry.heard();
        if self.rivalry.known(now).is_none() && self.down.take().is_some() {
            tracing::info!("hearing again");
            self.shared.report.tell(Note::Outside(Outside::Up)).await;
        }
    }

    /// The platform knows us: replies can go, whoever hears the updates.
    async fn introduce(&mut self) {
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
            protocol::worker::Unanswered::Report => None,
            protocol::worker::Unanswered::Resend => Some(u64::MAX),
        }
    }

    /// There was no good answer: how long to wait.
    async fn fails(&mut self, said: Said) -> Result<Duration, Error> {
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
                    self.tell(reason, None).await;
                }
                Ok(pause + MARGIN + clock::jitter(MARGIN))
            }
            Said::Away(reason) => {
                self.patience.lost();
                Ok(self.lost(Loss::Outage, reason, now).await)
            }
            Said::Unclear(reason) => {
                self.patience.lost();
                // The line works, only what is at its other end does not: that passes sooner.
                self.session.on(Input::Proven, now);
                Ok(self.lost(Loss::Outage, reason, now).await)
            }
            Said::Refused(reason) => Ok(self.lost(Loss::Refused, reason, now).await),
            Said::Done(_) | Said::Moved(_) => {
                let reason = "the platform answers something else".to_owned();
                Ok(self.lost(Loss::Outage, reason, now).await)
            }
        }
    }

    async fn lost(&mut self, loss: Loss, reason: String, now: Instant) -> Duration {
        self.works = false;
        self.shared.set_away(true);
        let retry = self.session.on(Input::Lost(loss), now);
        let pause = retry.map_or(Duration::ZERO, |retry| {
            retry.at.duration_since(now) + clock::jitter(retry.spread)
        });
        // The first failure after a good time is told when the next attempt fails as well.
        if self.patience.losses() != 1 || !self.ready || loss == Loss::Refused {
            self.tell(reason, None).await;
        }
        pause
    }

    async fn disputed(&mut self, rival: Rival, now: Instant) -> Duration {
        let pause = self.rivalry.met(rival, now);
        let remove = self.shared.api.settings().other_webhook == OtherWebhook::Remove;
        if rival == Rival::Webhook && remove {
            let said = self.shared.api.ask("deleteWebhook", &json!({})).await;
            if matches!(said, Said::Done(_)) {
                tracing::warn!("removed the webhook of another program");
                return Duration::ZERO;
            }
        }
        if let Some(rival) = self.rivalry.known(now) {
            let (reason, remedy) = match rival {
                Rival::Poller => (
                    "conflict: another program reads the updates of this bot".to_owned(),
                    "end the other program, or take its token away with BotFather's /revoke",
                ),
                Rival::Webhook => (
                    format!(
                        "conflict: a webhook reads the updates of this bot ({})",
                        self.hook().await
                    ),
                    "end the program behind it, or set other_webhook = \"remove\"",
                ),
            };
            self.tell(reason, Some(remedy)).await;
        }
        pause + clock::jitter(pause / 4)
    }

    /// Where the webhook leads, as far as people need to know.
    async fn hook(&self) -> String {
        let Said::Done(info) = self.shared.api.ask("getWebhookInfo", &json!({})).await else {
            return "unknown".to_owned();
        };
        let url = brief(text_of(&info, "url"));
        let host = url.split("://").nth(1).and_then(|rest| rest.split(['/', '?']).next());
        host.filter(|host| !host.is_empty()).unwrap_or("unknown").to_owned()
    }

    async fn tell(&mut self, reason: String, remedy: Option<&'static str>) {
        let down = Some((reason, remedy));
        if self.down == down {
            return;
        }
        self.down = down;
        if let Some((reason, remedy)) = self.down.clone() {
            tracing::warn!(reason, "not hearing");
            let remedy = remedy.map(str::to_owned);
            self.shared.report.tell(Note::Outside(Outside::Down { reason, remedy })).await;
        }
    }
}

fn is_settled(verdict: Option<Verdict>) -> bool {
    match verdict {
        Some(Verdict::Accepted(_) | Verdict::Duplicate | Verdict::Denied) => true,
        // No verdict: the worker ends.
        Some(Verdict::Refused) | None => false,
    }
}

//! Hearing by polls, one after another, each of which confirms what the one before brought.
//!
//! The platform keeps what is not confirmed and hands it out again; sending an offset is what deletes.
//! So an offset is sent once, after everything below it is settled, and none otherwise. That is why nothing
//! has to be remembered between two runs: the platform's own queue begins with what we have not confirmed,
//! and an offset of ours could only delete more (its numbers start anew after a week of silence).

use std::time::Duration;

use protocol::worker::Verdict;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::Shared;
use super::api::Ask;
use super::batch::{Fetched, Group, understand};
use super::decode::{Heard, digest};
use super::intake::{aside, is_settled, submit};
use super::line::Line;
use crate::Error;
use crate::clock;

/// How long the platform may wait for something to say. It raises shorter times to this if they repeat; a
/// longer one would hide for longer that the line died: proxies and address tables forget connections
/// without a word.
const HOLD: Duration = Duration::from_secs(3);
/// An album that has not grown for this long is complete.
const ALBUM: Duration = Duration::from_millis(700);
/// Before what was refused, or has come before, is asked for again.
const REFUSED: Duration = Duration::from_secs(1);
/// After an answer that says nothing although there was time left to wait.
const HASTY: Duration = Duration::from_millis(500);

/// Hears until the worker is told to stop. An error is only for what a person must mend.
pub(super) async fn run(shared: &Shared) -> Result<(), Error> {
    let mut ear = Ear::new(shared);
    loop {
        let step = async {
            match ear.line.own {
                None => ear.line.learn().await,
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

/// What is handed in, its chat, and where the verdict comes.
type Waiting = (Group, String, oneshot::Receiver<Verdict>);

struct Ear<'a> {
    shared: &'a Shared,
    line: Line<'a>,
    /// Everything below is settled, and the platform may not know it yet.
    confirm: Option<i64>,
    /// The offset that confirms nothing: 0, or 1, as no update has a lower number. An offset that the platform
    /// was asked from just now, by us or by the life before, is held back.
    nothing: i64,
    /// An album that was left in the queue.
    growing: Option<(i64, usize)>,
    /// The digest of the latest answer, if all of it is settled.
    settled: Option<String>,
}

impl<'a> Ear<'a> {
    fn new(shared: &'a Shared) -> Self {
        Self {
            shared,
            line: Line::new(shared),
            confirm: None,
            nothing: 1,
            growing: None,
            settled: None,
        }
    }

    async fn poll(&mut self) -> Result<Duration, Error> {
        let began = clock::now();
        // The first one returns at once, so that we know that we are heard; or is held back like the others.
        let is_first = !self.line.is_ready();
        let hold = if is_first { Duration::ZERO } else { HOLD };
        let ask = Ask {
            offset: self.confirm.unwrap_or(self.nothing),
            hold,
            patience: HOLD.saturating_sub(hold) + self.line.patience(began),
            whole: hold + self.line.whole(),
            anew: self.line.was_lost(),
        };
        self.nothing = if is_first { 1 - self.nothing } else { 0 };
        match self.shared.api.updates(ask).await {
            Fetched::Updates(updates) => {
                let now = clock::now();
                let took = now.duration_since(began);
                let waited = updates.is_empty() && !is_first;
                self.line.answered(waited.then(|| took.saturating_sub(hold)));
                self.line.works(now).await;
                let pause = self.take(&updates).await;
                Ok(if waited && took < hold / 2 { HASTY } else { pause })
            }
            Fetched::Other(said) => self.line.fails(said).await,
        }
    }

    /// Hands updates in, waits for their verdicts, and decides what may be confirmed. Nothing is handed in before the
    /// verdict on what was said before it in its chat: should that be refused, it must not be overtaken.
    async fn take(&mut self, updates: &[Box<RawValue>]) -> Duration {
        let Some(own) = &self.line.own else { return Duration::ZERO };
        let raw = updates.iter().map(|update| update.get());
        let answer =
            (!updates.is_empty()).then(|| digest(raw.collect::<Vec<_>>().concat().as_bytes()));
        if answer.is_some() && answer == self.settled {
            // Something in it has no id, or nobody there heeds the offset.
            return REFUSED;
        }
        let batch = understand(updates, self.growing, own, clock::unix_ms());
        let (mut wave, mut unsettled) = (Vec::new(), None);
        'all: for group in batch.groups {
            let event = group.event();
            let speaks_again =
                |(_, chat, _): &Waiting| event.as_ref().is_some_and(|event| event.chat_id == *chat);
            if wave.iter().any(speaks_again) {
                unsettled = self.settle(std::mem::take(&mut wave)).await;
                if unsettled.is_some() {
                    break;
                }
            }
            for update in &group.updates {
                if !aside(self.shared, update).await {
                    unsettled = Some(group.first);
                    break 'all;
                }
            }
            if let Some(event) = event {
                let chat = event.chat_id.clone();
                let verdict = submit(self.shared, event).await;
                wave.push((group, chat, verdict));
            }
        }
        // From there on it comes again.
        let unsettled = self.settle(wave).await.or(unsettled);
        self.growing = batch.growing;
        self.settled = answer.filter(|_| unsettled.is_none() && batch.growing.is_none());
        let (confirm, pause) = match (unsettled, batch.growing) {
            (Some(first), _) => (first, REFUSED),
            (None, Some((first, _))) => (Some(first), ALBUM),
            (None, None) if batch.stays => (batch.next, REFUSED),
            (None, None) => (batch.next, Duration::ZERO),
        };
        self.confirm = confirm.filter(|id| *id > 0);
        pause
    }

    /// Waits for the verdicts. The first id of what is not settled.
    async fn settle(&self, wave: Vec<Waiting>) -> Option<Option<i64>> {
        let mut unsettled = None;
        for (group, _, verdict) in wave {
            let settled = match verdict.await {
                Ok(Verdict::Duplicate) => group.updates.len() == 1 || self.singly(&group).await,
                verdict => is_settled(verdict.ok()),
            };
            if !settled && unsettled.is_none() {
                unsettled = Some(group.first);
            }
        }
        unsettled
    }

    /// A part of an album had been accepted before the rest of it was there: each part speaks for itself.
    async fn singly(&self, group: &Group) -> bool {
        for update in &group.updates {
            if let Heard::Event(event) = &update.heard {
                let verdict = submit(self.shared, event.as_ref().clone()).await;
                if !is_settled(verdict.await.ok()) {
                    return false;
                }
            }
        }
        true
    }
}

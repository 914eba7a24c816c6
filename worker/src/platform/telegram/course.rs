//! How far a reply of several steps has come, and what another attempt has to know of that. Pure.
//!
//! Files that the platform refuses keep nothing else from being sent. Who has the reply sent once more wants
//! them, and nothing of what has arrived.

use std::cell::{Cell, RefCell};

use protocol::event::{Outbound, Outcome, Progress, Rest};
use serde::{Deserialize, Serialize};

use super::drafts::hash;
use super::steps::Step;

/// A reply on its way.
#[derive(Default)]
pub(super) struct Course {
    /// Steps that it has, without those that only clear the way.
    of: Cell<usize>,
    /// Those of them that are behind us, in this attempt or an earlier one.
    done: Cell<usize>,
    /// Messages that were sent in them. An album counts as one.
    sent: Cell<usize>,
    /// Those of them whose files did not arrive.
    missed: RefCell<Vec<usize>>,
    /// What did not arrive in this attempt, and why.
    lost: RefCell<Vec<String>>,
    /// The messages that they made.
    ids: RefCell<Vec<String>>,
    /// A call is under way that must not be made twice.
    pub(super) calling: Cell<bool>,
    /// The supervisor knows that it waits in the middle.
    pub(super) waits: Cell<bool>,
}

/// What the next attempt has to know: how many steps are behind us, what they said, and which of them have lost their
/// files.
#[derive(Serialize, Deserialize)]
struct Reached(usize, u32, #[serde(default)] Vec<usize>);

impl Course {
    /// Whether nothing has arrived yet.
    fn is_first(&self) -> bool {
        self.sent.get() == 0
    }

    /// Whether another attempt would not be as far: something has arrived, or it was learned what will not.
    pub(super) fn is_under_way(&self) -> bool {
        !self.is_first() || !self.lost.borrow().is_empty()
    }

    /// Goes on where an earlier attempt has stopped, unless what was sent by then would be cut otherwise now: what is
    /// to be done, with the number of each step.
    pub(super) fn resume(&self, outbound: &Outbound, steps: &[Step]) -> Vec<(usize, Step)> {
        self.of.set(steps.len());
        if let Some((progress, Reached(done, _, missed))) =
            outbound.progress.as_ref().zip(known(outbound, steps))
        {
            let is_silent =
                |n: &&usize| steps.get(**n).is_none_or(|step| step.without_files().is_none());
            self.sent.set(done.saturating_sub(missed.iter().filter(is_silent).count()));
            self.done.set(done);
            self.missed.replace(missed);
            self.ids.replace(progress.message_ids.clone());
        }
        let missed = self.missed.borrow();
        let missing = missed.iter().filter_map(|n| Some((*n, steps.get(*n)?.without_words()?)));
        missing.chain(steps.iter().cloned().enumerate().skip(self.done.get())).collect()
    }

    /// These messages were made or changed.
    pub(super) fn arrived(&self, ids: Vec<String>) {
        self.sent.set(self.sent.get() + 1);
        self.ids.borrow_mut().extend(ids);
    }

    /// The files of the step `n` have arrived.
    pub(super) fn found(&self, n: usize) {
        self.missed.borrow_mut().retain(|missed| *missed != n);
    }

    /// The files of the step `n` have not arrived.
    pub(super) fn miss(&self, n: usize) {
        self.found(n);
        self.missed.borrow_mut().push(n);
    }

    /// Something will not arrive.
    pub(super) fn lose(&self, why: String) {
        self.lost.borrow_mut().push(why);
    }

    /// The step `n` is behind us. What another attempt has to know of that, if there may be one.
    pub(super) fn pass(&self, n: usize, steps: &[Step]) -> Option<Progress> {
        let done = self.done.get().max(n + 1);
        self.done.set(done);
        let missed = self.missed.borrow().clone();
        if self.is_first() || (done == steps.len() && self.lost.borrow().is_empty()) {
            return None;
        }
        let print = print_of(steps.get(..done).unwrap_or_default());
        let note = serde_json::to_vec(&Reached(done, print, missed)).unwrap_or_default();
        Some(Progress { message_ids: self.ids.borrow().clone(), note })
    }

    /// What becomes of the reply when all steps are behind us.
    pub(super) fn end(&self) -> Outcome {
        if self.lost.borrow().is_empty() {
            return Outcome::Sent { message_ids: self.ids.take() };
        }
        self.within(Outcome::Failed { reason: String::new() })
    }

    /// What becomes of the reply if one of its messages came to this.
    pub(super) fn within(&self, outcome: Outcome) -> Outcome {
        let (rest, reason) = match outcome {
            Outcome::Failed { reason } => (Rest::Failed, reason),
            Outcome::Unknown { reason } if !self.is_first() => (Rest::Unknown, reason),
            other => return other,
        };
        let mut reasons = self.lost.take();
        let of = self.sent.get() + reasons.len() + self.of.get() - self.done.get();
        reasons.push(reason);
        reasons.dedup();
        reasons.retain(|reason| !reason.is_empty());
        let reason = reasons.join("; ");
        if self.is_first() {
            return Outcome::Failed { reason };
        }
        let (sent, message_ids) = (self.sent.get(), self.ids.take());
        let ids = message_ids.join(", ");
        let reason = format!("{sent} of {of} messages were sent ({ids}): {reason}");
        Outcome::Partly { message_ids, rest, reason }
    }
}

/// Whether an earlier attempt has sent the first ones of these steps.
pub(super) fn knows(outbound: &Outbound, steps: &[Step]) -> bool {
    known(outbound, steps).is_some()
}

/// What is known of earlier attempts; `None`: nothing, or the steps were others.
fn known(outbound: &Outbound, steps: &[Step]) -> Option<Reached> {
    let note: Reached = serde_json::from_slice(&outbound.progress.as_ref()?.note).ok()?;
    (print_of(steps.get(..note.0)?) == note.1).then_some(note)
}

/// A build of another day may cut a text otherwise.
fn print_of(steps: &[Step]) -> u32 {
    hash(&steps.iter().map(Step::says).collect::<Vec<_>>().join("\0"))
}

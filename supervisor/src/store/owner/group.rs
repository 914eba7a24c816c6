//! A group of operations: one transaction, without what cannot be.
//!
//! A group in which one operation is impossible is rolled back and performed again without it; so the
//! usual path needs no savepoints. A full disk refuses what makes the store larger and tries the rest
//! again: settlements find room in the log, which was grown before.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::step;

use super::Owner;
use super::fault::Fault;
use crate::clock;
use crate::store::answer::{Answer, Done};
use crate::store::op::{Op, Ticket};
use crate::store::schema::PAGE_SIZE;
use crate::store::space;
use crate::store::tables::Outcome;

/// For how long no event is accepted after one that found no room.
const FULL: Duration = Duration::from_secs(1);

impl Owner {
    /// What there is no room for. Events are refused first: a reply lets an event go.
    fn without_room(&mut self, ops: &[Op]) -> Result<BTreeMap<usize, Answer>, Fault> {
        let mut refused = BTreeMap::new();
        if self.full_until.is_some_and(|until| clock::now() < until) {
            refused.extend(accepts(ops).map(|at| (at, Answer::Full)));
        }
        if self.room.is_none() || !ops.iter().any(grows) {
            return Ok(refused);
        }
        // In its table and in indices, and alone on its last page.
        let need = |op: &Op| (size(op) + size(op) / 4) as u64 + 2 * u64::from(PAGE_SIZE);
        let pages = space::pages(&self.tables.db).map_err(|e| Fault::of(&e, None))?;
        let growing: Vec<_> = ops
            .iter()
            .enumerate()
            .filter(|(at, op)| grows(op) && !refused.contains_key(at))
            .collect();
        let all = growing.iter().map(|(_, op)| need(op)).sum();
        if self.has_room(pages, all) {
            return Ok(refused);
        }
        // A log that has grown takes the room that the file could have.
        if self.backup.is_none() {
            self.shrink()?;
            if self.has_room(pages, all) {
                return Ok(refused);
            }
        }
        let Some(room) = &mut self.room else { return Ok(refused) };
        let (mut sum, before) = (0, refused.len());
        for (at, op) in growing {
            let more = sum + need(op);
            let fits =
                if is_reply(op) { room.has_spare(pages, more) } else { room.has(pages, more) };
            if fits {
                sum = more;
            } else {
                refused.insert(at, Answer::Full);
            }
        }
        if refused.len() > before {
            self.refuse_behind(ops, &mut refused);
        }
        Ok(refused)
    }

    /// What comes behind an event that found no room may find some, but must not overtake it in its chat: much of it
    /// was on its way when the worker learns that.
    fn refuse_behind(&mut self, ops: &[Op], refused: &mut BTreeMap<usize, Answer>) {
        let first = accepts(ops).find(|at| matches!(refused.get(at), Some(Answer::Full)));
        let Some(first) = first else { return };
        refused.extend(accepts(ops).filter(|at| *at > first).map(|at| (at, Answer::Full)));
        if self.full_until.is_none_or(|until| until <= clock::now()) {
            self.full_until = Some(clock::now() + FULL);
        }
    }

    fn has_room(&mut self, pages: u64, bytes: u64) -> bool {
        self.room.as_mut().is_none_or(|room| room.has(pages, bytes))
    }

    /// Performs a group and commits it, without what cannot be. On a full disk the log is copied into the
    /// file, for which there is room, and used anew; what still does not fit together is done one by one.
    pub(super) fn group(&mut self, ops: &[Op]) -> Result<Vec<Done>, Fault> {
        // The engine would write behind a cut, and the log be as long as before.
        self.look()?;
        let full_until = self.full_until;
        let mut refused = self.without_room(ops)?;
        let mut full = false;
        loop {
            match self.attempt(ops, &refused) {
                Ok(mut outcomes) => {
                    self.tables.committed();
                    // From when it is told: until then more of it comes, however long the sync takes.
                    if self.full_until != full_until {
                        self.full_until = Some(clock::now() + FULL);
                    }
                    self.look()?;
                    outcomes.extend(refused.into_iter().map(|(at, a)| (at, Outcome::Answer(a))));
                    return Ok(self.tell(ops, outcomes));
                }
                Err(fault) => {
                    self.roll_back()?;
                    match fault {
                        Fault::Own(at, text) => {
                            refused.insert(at, Answer::Failed(text));
                        }
                        Fault::Full if !full => {
                            full = true;
                            self.make_room()?;
                            for (at, op) in ops.iter().enumerate().filter(|(_, op)| grows(op)) {
                                if !refused.contains_key(&at) && ticket(op).is_some() {
                                    refused.insert(at, Answer::Full);
                                }
                            }
                            self.refuse_behind(ops, &mut refused);
                        }
                        Fault::Full if ops.len() > 1 => {
                            let mut done = Vec::new();
                            for op in ops {
                                done.extend(self.group(std::slice::from_ref(op))?);
                            }
                            return Ok(done);
                        }
                        Fault::Full => {
                            let all = ops.iter().enumerate();
                            let none = all.map(|(at, _)| (at, Outcome::Answer(Answer::Full)));
                            return Ok(self.tell(ops, none.collect()));
                        }
                        Fault::Damaged(_) | Fault::Removed(_) | Fault::Fatal(_) => {
                            return Err(fault);
                        }
                    }
                }
            }
        }
    }

    /// Whether what was committed is at its path. What was promised before somebody took it from there is
    /// saved by [`Owner::rescue`]; what comes after that is not promised. A log that was cut has holes, which must
    /// not be copied into the file.
    pub(super) fn look(&self) -> Result<(), Fault> {
        if let Some(path) = self.place.missing() {
            return Err(Fault::Removed(path.to_owned()));
        }
        if self.log_length_on_disk().is_some_and(|length| length < self.log_length) {
            return Err(Fault::Damaged("somebody has cut store.db-wal short".to_owned()));
        }
        Ok(())
    }

    fn attempt(
        &mut self,
        ops: &[Op],
        refused: &BTreeMap<usize, Answer>,
    ) -> Result<Vec<(usize, Outcome)>, Fault> {
        let before = self.tables.db.total_changes();
        self.execute("BEGIN")?;
        let mut outcomes = Vec::with_capacity(ops.len());
        for (at, op) in ops.iter().enumerate() {
            if !refused.contains_key(&at) {
                let outcome = self.tables.perform(op).map_err(|e| Fault::of(&e, Some(at)))?;
                outcomes.push((at, outcome));
            }
        }
        self.tables.flush().map_err(|e| Fault::of(&e, None))?;
        step::at("store", "commit");
        self.execute("COMMIT")?;
        step::at("store", "committed");
        let files = &mut self.tables.tally.files;
        files.groups += 1;
        files.commits += u64::from(self.tables.db.total_changes() != before);
        Ok(outcomes)
    }

    fn execute(&self, sql: &str) -> Result<(), Fault> {
        let run = || self.tables.db.prepare_cached(sql)?.execute([]);
        run().map(|_| ()).map_err(|e| Fault::of(&e, None))
    }

    fn roll_back(&mut self) -> Result<(), Fault> {
        if !self.tables.db.is_autocommit() {
            self.execute("ROLLBACK")?;
        }
        self.tables.rolled_back().map_err(|e| Fault::of(&e, None))
    }

    /// The answers, in the order of the operations.
    fn tell(&mut self, ops: &[Op], mut outcomes: Vec<(usize, Outcome)>) -> Vec<Done> {
        outcomes.sort_by_key(|(at, _)| *at);
        let mut done = Vec::with_capacity(outcomes.len());
        for (at, outcome) in outcomes {
            match (outcome, ops.get(at).and_then(ticket)) {
                (Outcome::Answer(answer), Some(ticket)) => {
                    done.push(Done::Answered { ticket, answer });
                }
                (Outcome::Continue(op), _) => self.again.push(op),
                (Outcome::Answer(_), None) | (Outcome::Silent, _) => {}
            }
        }
        done
    }
}

/// Bytes of payload, roughly.
pub(super) fn size(op: &Op) -> usize {
    match op {
        Op::Accept { arrival, .. } => arrival.body.len() + 64,
        Op::AcceptReply { reply, note, beside, .. } => {
            let note = note.as_ref().map_or(0, |note| note.bytes.len());
            let answers = beside.answers.as_ref().map_or(0, String::len);
            reply.content.text.len() + note + answers + 256
        }
        Op::Remember { note, .. } => note.bytes.len() + 128,
        _ => 64,
    }
}

/// The places of events.
fn accepts(ops: &[Op]) -> impl Iterator<Item = usize> {
    let places = ops.iter().enumerate();
    places.filter(|(_, op)| matches!(op, Op::Accept { .. })).map(|(at, _)| at)
}

/// Whether an operation makes the store larger.
fn grows(op: &Op) -> bool {
    matches!(op, Op::Accept { .. } | Op::Deny { .. } | Op::AcceptReply { .. } | Op::Replay { .. })
}

/// Whether it is a reply that an agent hands in.
fn is_reply(op: &Op) -> bool {
    matches!(op, Op::AcceptReply { .. })
}

fn ticket(op: &Op) -> Option<Ticket> {
    match op {
        Op::Accept { ticket, .. }
        | Op::Deny { ticket, .. }
        | Op::Heads { ticket, .. }
        | Op::NextInLane { ticket, .. }
        | Op::Begin { ticket, .. }
        | Op::Beside { ticket, .. }
        | Op::Settle { ticket, .. }
        | Op::Park { ticket, .. }
        | Op::ListWaiting { ticket, .. }
        | Op::ListParked { ticket, .. }
        | Op::ShowParked { ticket, .. }
        | Op::Replay { ticket, .. }
        | Op::Discard { ticket, .. }
        | Op::AcceptReply { ticket, .. }
        | Op::ReplyHeads { ticket, .. }
        | Op::NextReply { ticket, .. }
        | Op::BeginSend { ticket, .. }
        | Op::FinishSend { ticket, .. }
        | Op::Untold { ticket, .. }
        | Op::Grant { ticket, .. }
        | Op::Account { ticket, .. }
        | Op::Counts { ticket }
        | Op::Backup { ticket, .. }
        | Op::Purge { ticket, .. } => Some(*ticket),
        Op::Refund { .. }
        | Op::Withhold { .. }
        | Op::Fail { .. }
        | Op::Reached { .. }
        | Op::Drafted { .. }
        | Op::Redraft { .. }
        | Op::Remember { .. }
        | Op::Renew { .. }
        | Op::ClockSet(_)
        | Op::Told { .. }
        | Op::Pair(_)
        | Op::RecordExit(_) => None,
        Op::SaveCursor { ticket, .. } => *ticket,
    }
}

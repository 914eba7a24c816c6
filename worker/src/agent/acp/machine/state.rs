//! What is known: of processes, of conversations, of the work in them.

use serde::{Deserialize, Serialize};

use super::ask::Question;
use super::{Able, Delivery, EventId, HashMap, Instant, Lane, Number, Turn, Update, Value};

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    Initialize,
    Probe,
    New(Lane),
    Load(Lane),
    Resume(Lane),
    Fork(Lane),
    Prompt(Lane, EventId),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Introducing itself.
    Starting(Instant),
    /// Showing that it can make a session.
    Probing(Instant),
    Ready,
    Dying,
}

#[derive(Debug)]
pub(super) struct Process {
    pub(super) phase: Phase,
    pub(super) born: Instant,
    pub(super) able: Able,
    pub(super) asked: HashMap<u64, Asked>,
    pub(super) last: u64,
    /// A session that nobody has yet.
    pub(super) spare: Option<String>,
    /// To be replaced: no new turns, and an end at this time.
    pub(super) doomed: Option<Instant>,
    /// Whose turn it is killed for.
    pub(super) culprit: Option<Lane>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Fetching,
    Waiting,
    Opening(Instant),
    Prompting(Instant),
    Answering,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    No,
    /// A person wants it; told to the agent at.
    Wanted {
        at: Instant,
        told: Option<Instant>,
    },
    /// It took too long; told to the agent at.
    Limit {
        told: Instant,
        why: String,
    },
}

/// What a session that is loaded says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Replay {
    pub(super) is_any: bool,
    /// What the user said last.
    pub(super) last: String,
    /// The agent said something behind it.
    pub(super) is_answered: bool,
}

#[derive(Debug)]
pub(super) struct Work {
    pub(super) delivery: Box<Delivery>,
    pub(super) step: Step,
    pub(super) blocks: Vec<Value>,
    pub(super) heard: Instant,
    pub(super) turn: Turn,
    /// When its answer is shown again.
    pub(super) show_at: Option<Instant>,
    pub(super) is_news: bool,
    pub(super) stop: Stop,
    pub(super) questions: Vec<Question>,
    pub(super) replay: Replay,
    /// The session from before is lost.
    pub(super) is_lost: bool,
    /// Something of its answer could not be read.
    pub(super) is_torn: bool,
    pub(super) tries: u32,
}

#[derive(Debug)]
pub(super) struct Talk {
    pub(super) epoch: u64,
    pub(super) kept: Kept,
    /// Where its session is open.
    pub(super) home: Option<Number>,
    pub(super) is_suspect: bool,
    /// Processes that died while nothing was done but to open it.
    pub(super) opens: u32,
    pub(super) used: Instant,
    pub(super) work: Option<Work>,
}

/// What is kept of a conversation.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    pub(super) session: Option<String>,
    /// The event that it was prompted with last.
    pub(super) asked: Option<u64>,
    /// It was prompted with others before.
    pub(super) has_past: bool,
}

impl Kept {
    /// Whether there is something to lose besides this event.
    pub(super) fn is_more_than(&self, id: EventId) -> bool {
        self.has_past || self.asked.is_some_and(|asked| asked != id.0)
    }
}

impl Replay {
    pub(super) fn on(&mut self, update: Update) {
        match update {
            Update::UserSaid(text) => {
                if self.is_answered {
                    self.last.clear();
                }
                self.is_any = true;
                self.is_answered = false;
                self.last.push_str(&text);
                // Only its end is compared.
                let from = self.last.len().saturating_sub(64 * 1024);
                self.last.drain(..self.last.ceil_char_boundary(from));
            }
            Update::Says { .. } => (self.is_any, self.is_answered) = (true, true),
            Update::Tool { .. } => self.is_any = true,
            Update::Alive => {}
        }
    }
}

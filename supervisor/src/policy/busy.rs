//! What becomes of a message that comes while the agent works in its conversation.
//!
//! | wanted ↓, the agent can → | nothing | be interrupted | be told more |
//! |---|---|---|---|
//! | queue | it waits | it waits | it waits |
//! | interrupt | it waits | the work ends, then it is its turn | as before |
//! | steer | it waits | it waits | it goes into the work |
//!
//! In every case it is stored first and acknowledged by the agent alone: what was to go into the work and
//! did not waits like any other.

use std::collections::BTreeMap;

use protocol::event::Abilities;

/// What is wanted, and what is done.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Mode {
    /// It waits until the work is done.
    #[default]
    Queue,
    /// The work ends, and what it has brought so far is its answer.
    Interrupt,
    /// It goes into the work.
    Steer,
}

impl Mode {
    /// The word for what was done.
    pub fn done(self) -> &'static str {
        match self {
            Self::Queue => "queued",
            Self::Interrupt => "interrupted",
            Self::Steer => "steered",
        }
    }

    /// What can be done of it.
    pub fn possible(self, abilities: Abilities) -> Self {
        match self {
            Self::Interrupt if abilities.interrupt => Self::Interrupt,
            Self::Steer if abilities.steer => Self::Steer,
            Self::Queue | Self::Interrupt | Self::Steer => Self::Queue,
        }
    }
}

/// The rules of one platform.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Busy {
    /// In all its chats,
    pub mode: Mode,
    /// except in these.
    pub chats: BTreeMap<String, Mode>,
    /// Whether the chat is told what was done.
    pub tell: bool,
}

impl Busy {
    /// What is wanted in a chat.
    pub fn mode(&self, chat_id: &str) -> Mode {
        self.chats.get(chat_id).copied().unwrap_or(self.mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_agent_cannot_do_is_not_pretended() {
        let able = |interrupt, steer| Abilities { interrupt, steer };
        for (wanted, abilities, done) in [
            (Mode::Queue, able(true, true), Mode::Queue),
            (Mode::Interrupt, able(false, true), Mode::Queue),
            (Mode::Interrupt, able(true, false), Mode::Interrupt),
            (Mode::Steer, able(true, false), Mode::Queue),
            (Mode::Steer, able(false, true), Mode::Steer),
        ] {
            assert_eq!(wanted.possible(abilities), done);
        }
        let chats = [("a".to_owned(), Mode::Steer)].into();
        let busy = Busy { mode: Mode::Interrupt, chats, tell: false };
        assert_eq!((busy.mode("a"), busy.mode("b")), (Mode::Steer, Mode::Interrupt));
    }
}

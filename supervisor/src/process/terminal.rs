//! The terminal of a person.

use std::io;

use rustix::termios::{self, LocalModes, OptionalActions, Termios};

/// What is typed is not shown until this goes.
#[derive(Debug)]
pub struct Hidden(Termios);

impl Hidden {
    /// Standard input no longer shows what is typed, but for the end of each line.
    pub fn begin() -> io::Result<Self> {
        let stdin = io::stdin();
        let before = termios::tcgetattr(&stdin)?;
        let mut now = before.clone();
        now.local_modes.remove(LocalModes::ECHO);
        now.local_modes.insert(LocalModes::ECHONL);
        termios::tcsetattr(&stdin, OptionalActions::Flush, &now)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

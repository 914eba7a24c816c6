//! A program that is asked one thing, and then is to be gone with all that it has started.

use std::os::unix::process::CommandExt;
use std::process::Command;

use protocol::hello::MARK;

use super::kin;
use super::tree::Held;
use crate::identity;

/// What is known of it: the mark that it hands down in its environment.
#[derive(Debug)]
pub struct Errand(String);

impl Errand {
    /// Gives what `command` will start a mark, as workers have one, and a group of its own: what it sends to
    /// its group must not reach us.
    pub fn prepare(command: &mut Command, mark: String) -> Self {
        // Nothing is to be done between fork and exec: where that fails, the library would wait for a child
        // that may have been collected by then.
        command.env(MARK, &mark).process_group(0);
        Self(mark)
    }

    /// Kills what is still there, and tells whether anything was. All below us is looked at, and not only our
    /// children: whoever is about to end bears no mark any more, and what it has started is not ours yet.
    pub fn sweep(&self) -> bool {
        let mut is_there = false;
        for one in identity::descendants(std::process::id()) {
            if kin::mark(one.pid).as_ref() == Some(&self.0) && kin::look(one.pid).is_some() {
                is_there = true;
                if let Some(held) = Held::hold(&one) {
                    held.kill();
                }
            }
        }
        is_there
    }
}

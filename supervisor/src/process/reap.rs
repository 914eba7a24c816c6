//! Collecting the dead. Any child is reaped, also one that was handed to us as process 1.
//!
//! A dead worker is first only looked at: until it is reaped its number, which is also its group's,
//! cannot belong to anybody else, so that is the moment to kill what is left of its group.

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};

use super::tree;
use crate::exit::Ended;

/// A child that is gone; if it was a worker, with its whole group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dead {
    /// Its former number.
    pub pid: u32,
    /// How it ended.
    pub ended: Ended,
}

/// Every child that has died since the last call. `is_worker`: which of them we made.
pub fn reap(is_worker: impl Fn(u32) -> bool) -> Vec<Dead> {
    let mut dead = Vec::new();
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while let Ok(status) = waitid(Id::All, look) {
        let (pid, ended) = match status {
            WaitStatus::Exited(pid, code) => (pid, Ended::Exit(code)),
            WaitStatus::Signaled(pid, signal, _) => (pid, Ended::Signal(signal as i32)),
            _ => break,
        };
        let Ok(number) = u32::try_from(pid.as_raw()) else { break };
        if is_worker(number) {
            tree::kill_all(number);
        }
        if waitpid(pid, None).is_err() {
            break;
        }
        dead.push(Dead { pid: number, ended });
    }
    dead
}

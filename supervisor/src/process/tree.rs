//! Ending what a child is and has started. Only what is ours is ever signalled: a child that is not
//! yet reaped keeps its number, and with it the number of its group.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};

use crate::identity::{self, Identity};

/// A process that is no child of ours, held so that a signal can reach no other one.
#[derive(Debug)]
pub struct Held {
    identity: Identity,
    pidfd: OwnedFd,
}

impl Held {
    /// Holds it, if it is still the one that is meant.
    pub fn hold(identity: &Identity) -> Option<Self> {
        let pid = rustix::process::Pid::from_raw(i32::try_from(identity.pid).ok()?)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Whoever has the number now is held; is it the one that was meant?
        identity::is_alive(identity).then(|| Self { identity: identity.clone(), pidfd })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.identity.pid
    }

    /// Stops it, so that it starts nothing any more.
    pub fn stop(&self) {
        let _ = pidfd_send_signal(&self.pidfd, rustix::process::Signal::STOP);
    }

    /// Has it go on if it is stopped.
    pub fn go_on(&self) {
        let _ = pidfd_send_signal(&self.pidfd, rustix::process::Signal::CONT);
    }

    /// Kills it, and nothing else.
    pub fn kill(&self) {
        let _ = pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
    }

    /// Whether it is meant.
    pub fn is(&self, identity: &Identity) -> bool {
        self.identity == *identity
    }

    /// Whether it still runs. A zombie holds nothing any more.
    pub fn is_running(&self) -> bool {
        identity::is_alive(&self.identity) && !identity::is_zombie(self.identity.pid)
    }
}

/// Asks a child and its group to end. A stopped process hears it too.
pub fn end(pid: u32) {
    signal(pid, Signal::SIGTERM);
    signal(pid, Signal::SIGCONT);
}

/// Kills a child and its group.
pub fn kill_all(pid: u32) {
    signal(pid, Signal::SIGKILL);
}

fn signal(pid: u32, signal: Signal) {
    let Ok(raw) = i32::try_from(pid) else { return };
    let pid = Pid::from_raw(raw);
    // Right after fork the group may not exist yet: then the child itself is all there is.
    if killpg(pid, signal) == Err(Errno::ESRCH) {
        let _ = kill(pid, signal);
    }
}

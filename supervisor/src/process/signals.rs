//! The signals that ask something of us, with who sent them: a service manager's TERM means "stay
//! down", a stranger's does not.
//!
//! They are blocked in every thread and read from a descriptor by one of its own, so they must be
//! blocked before any other thread is made. Children start with nothing blocked: `std` sees to that.

use std::io;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use tokio::sync::mpsc;

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// TERM or INT: leave.
    Leave,
    /// HUP: read the configuration anew.
    Reload,
}

/// A signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    /// What it asks.
    pub wish: Wish,
    /// Its name.
    pub name: &'static str,
    /// Who sent it; 0: somebody outside of our view of processes.
    pub pid: u32,
    /// As which user.
    pub uid: u32,
}

impl Asked {
    /// Whether our parent sent it, or somebody outside of our container.
    pub fn is_from_above(&self) -> bool {
        self.pid == 0 || i32::try_from(self.pid) == Ok(nix::unistd::getppid().as_raw())
    }
}

/// The signals, from a thread that reads them.
#[derive(Debug)]
pub struct Signals(mpsc::Receiver<Asked>);

/// Signals that may wait to be heard; whoever sends more means the same.
const WAITING: usize = 16;

impl Signals {
    /// Blocks them in this thread and all that it makes, and reads them from now on.
    pub fn take() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            set.add(signal);
        }
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC)?;
        let (tell, heard) = mpsc::channel(WAITING);
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            loop {
                match fd.read_signal() {
                    Ok(Some(info)) => {
                        if let Some(asked) = asked(&info) {
                            let _ = tell.try_send(asked);
                        }
                    }
                    Ok(None) | Err(Errno::EINTR) => {}
                    Err(_) => return,
                }
            }
        })?;
        Ok(Self(heard))
    }

    /// The next one.
    pub async fn next(&mut self) -> io::Result<Asked> {
        self.0.recv().await.ok_or_else(|| io::Error::other("signals can no longer be read"))
    }
}

fn asked(info: &siginfo) -> Option<Asked> {
    let (wish, name) = match Signal::try_from(i32::try_from(info.ssi_signo).ok()?) {
        Ok(Signal::SIGTERM) => (Wish::Leave, "SIGTERM"),
        Ok(Signal::SIGINT) => (Wish::Leave, "SIGINT"),
        Ok(Signal::SIGHUP) => (Wish::Reload, "SIGHUP"),
        _ => return None,
    };
    Some(Asked { wish, name, pid: info.ssi_pid, uid: info.ssi_uid })
}

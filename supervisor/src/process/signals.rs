//! The signals that ask something of us, with who sent them: a service manager's TERM means "stay
//! down", a stranger's does not.
//!
//! They are blocked in every thread and read from a descriptor, so they must be blocked before any other
//! thread is made. No thread reads them ahead: an upgrade would lose what it has read. Children start with nothing blocked: `std` sees to that.
#![expect(unsafe_code, reason = "a descriptor of our own for the event loop")]

use std::io;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

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

/// The signals. Those that were not read stay with the process, also when it becomes another program.
#[derive(Debug)]
pub struct Signals {
    /// Until there is an event loop.
    bare: Option<SignalFd>,
    watched: Option<AsyncFd<SignalFd>>,
}

impl Signals {
    /// Blocks them in this thread and all that it makes.
    pub fn take() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            set.add(signal);
        }
        set.thread_block()?;
        // A write beyond the limit of file sizes is to fail like any other. Nobody reads this one.
        SigSet::from(Signal::SIGXFSZ).thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { bare: Some(fd), watched: None })
    }

    /// The next one. Dropped before its end, it has taken none.
    pub async fn next(&mut self) -> io::Result<Asked> {
        if let Some(fd) = self.bare.take() {
            // SAFETY: the descriptor is the signals' own, and open as long as they are.
            self.watched =
                Some(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?);
        }
        let gone = || io::Error::other("signals cannot be read");
        let fd = self.watched.as_ref().ok_or_else(gone)?;
        loop {
            let mut ready = fd.readable().await?;
            match ready.get_inner().read_signal() {
                Ok(Some(info)) => {
                    if let Some(asked) = asked(&info) {
                        return Ok(asked);
                    }
                }
                Ok(None) => ready.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
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

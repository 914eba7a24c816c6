//! Making a child. What is done for it, in this order: a pipe as its standard input (the leash), the
//! lock of its account or nothing as its standard output (a descriptor that cannot be written to), an environment of a few named variables and its mark, a control group of its own
//! where there are such, a session and process group of its own, a signal that wakes it should it be
//! stopped when we die, the user's own umask and limit of descriptors, then `/proc/self/exe`, so that a replaced file on disk
//! cannot mix versions.
//!
//! Every descriptor of ours is close-on-exec; the child gets only those three.
#![expect(unsafe_code, reason = "the code between fork and exec")]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use protocol::hello::{Leash, MARK};
use protocol::step;

use super::birth;
use super::cgroup::{Cgroup, Delegated};
use super::kin::Remains;
use super::limits::Limits;
use super::tree;

/// What a child inherits of our environment: no secret is among them.
const VARIABLES: [&str; 9] = [
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "RUST_BACKTRACE",
    "INVOCATION_ID",
];

/// A child. Dropping it lets the leash go: the child leaves within two seconds.
#[derive(Debug)]
pub struct Child {
    pid: u32,
    leash: Option<ChildStdin>,
    mark: String,
    cgroup: Option<Cgroup>,
}

impl Child {
    /// Its process id, which is ours until it is reaped.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// One that a supervisor before us, in this same process, has made.
    pub fn resumed(pid: u32, leash: OwnedFd, mark: String, cgroup: Option<Cgroup>) -> Self {
        Self { pid, leash: Some(ChildStdin::from(leash)), mark, cgroup }
    }

    /// Its leash, unless that was let go.
    pub fn leash(&self) -> Option<BorrowedFd<'_>> {
        self.leash.as_ref().map(AsFd::as_fd)
    }

    /// Its control group, if it has one.
    pub fn cgroup(&self) -> Option<&Path> {
        self.cgroup.as_ref().map(Cgroup::path)
    }

    /// What it and all that it starts bear in their environment.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// Asks it and its group to end. A stopped process hears it too.
    pub fn end(&self) {
        tree::end(self.pid);
    }

    /// Lets the leash go, and kills it and what it has started, as far as that can be known now.
    pub fn kill(&mut self) {
        self.leash = None;
        tree::kill_all(self.pid);
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
        }
    }

    /// It was reaped: what it may have left.
    pub fn remains(self) -> Remains {
        Remains::new(self.mark, self.cgroup)
    }
}

/// The file mode mask that the user started us with: children get it back.
#[derive(Clone, Copy, Debug)]
pub struct UsersMask(Mode);

impl UsersMask {
    /// Its bits.
    pub fn bits(self) -> u32 {
        self.0.bits()
    }

    /// From its bits.
    pub fn from_bits(bits: u32) -> Self {
        Self(Mode::from_bits_truncate(bits))
    }
}

/// Closes what we make to everybody but its owner, from its birth.
pub fn close_mask() -> UsersMask {
    UsersMask(umask(Mode::from_bits_truncate(0o077)))
}

/// What all children are given.
#[derive(Debug)]
pub struct Ways {
    /// The user's own mask.
    pub mask: UsersMask,
    /// What they may use.
    pub limits: Limits,
    /// Where their control groups are made.
    pub cgroups: Option<Delegated>,
}

/// Whether the system had no room for a further process: nothing is wrong with the one that was to be.
pub fn is_short(e: &io::Error) -> bool {
    use nix::errno::Errno::{EAGAIN, ENOMEM};
    e.raw_os_error().is_some_and(|raw| [EAGAIN as i32, ENOMEM as i32].contains(&raw))
}

/// Makes the child that `leash` describes. `mark` names it and what it starts.
pub fn spawn(leash: &Leash, ways: &Ways, mark: String, lock: Option<File>) -> io::Result<Child> {
    let line = serde_json::to_string(leash)? + "\n";
    let mut command = Command::new("/proc/self/exe");
    command.arg("worker").arg(leash.instance.as_str());
    command.env_clear();
    for name in VARIABLES {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.env(MARK, &mark);
    if let Some(value) = step::inherited() {
        command.env(step::VARIABLE, value);
    }
    command.stdin(Stdio::piped()).stdout(lock.map_or_else(Stdio::null, Stdio::from));
    command.stderr(Stdio::inherit());
    let name = format!("{}-{}", leash.instance, leash.generation);
    let cgroup = ways.cgroups.as_ref().and_then(|cgroups| cgroups.make(&name).ok());
    let door = cgroup.as_ref().and_then(|cgroup| cgroup.door().ok());
    let (mask, limits) = (ways.mask, ways.limits);
    // SAFETY: write, setsid, prctl, umask, sigprocmask and setrlimit are single system calls and touch no
    // memory of others.
    unsafe {
        command.pre_exec(move || {
            if let Some(door) = &door {
                // Outside of its group it is still in a session of its own.
                let _ = nix::unistd::write(door, b"0");
            }
            nix::unistd::setsid()?;
            // The signal comes when the thread that forks ends: it is the one of the event loop.
            nix::sys::prctl::set_pdeathsig(Signal::SIGCONT)?;
            umask(mask.0);
            // Ours reads its signals from a descriptor; a child, and whatever it starts, is to hear them.
            SigSet::empty().thread_set_mask()?;
            limits.apply()?;
            Ok(())
        });
    }
    let mut child = birth::attended(|| command.spawn())?;
    let mut stdin = child.stdin.take().ok_or_else(|| io::Error::other("no standard input"))?;
    // The pipe holds 64 KiB: a line of this size never waits.
    stdin.write_all(line.as_bytes())?;
    Ok(Child { pid: child.id(), leash: Some(stdin), mark, cgroup })
}

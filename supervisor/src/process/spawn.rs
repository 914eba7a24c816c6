//! Making a child. What is done for it, in this order: a pipe as its standard input (the leash), no
//! standard output, an environment of a few named variables, a session and process group of its own,
//! the user's own umask, then `/proc/self/exe`, so that a replaced file on disk cannot mix versions.
//!
//! Every descriptor of ours is close-on-exec; the child gets only those three.
#![expect(unsafe_code, reason = "the code between fork and exec")]

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};

use nix::sys::stat::{Mode, umask};
use protocol::hello::Leash;

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
}

impl Child {
    /// Its process id, which is ours until it is reaped.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Lets the leash go.
    pub fn release(&mut self) {
        self.leash = None;
    }
}

/// The file mode mask that the user started us with: children get it back.
#[derive(Clone, Copy, Debug)]
pub struct UsersMask(Mode);

/// Closes what we make to everybody but its owner, from its birth.
pub fn close_mask() -> UsersMask {
    UsersMask(umask(Mode::from_bits_truncate(0o077)))
}

/// Whether this process was started by the system's service manager.
pub fn is_managed() -> bool {
    std::env::var_os("INVOCATION_ID").is_some() && nix::unistd::getppid().as_raw() == 1
}

/// Makes the child that `leash` describes.
pub fn spawn(leash: &Leash, mask: UsersMask) -> io::Result<Child> {
    let line = serde_json::to_string(leash)? + "\n";
    let mut command = Command::new("/proc/self/exe");
    command.arg("worker").arg(leash.instance.as_str());
    command.env_clear();
    for name in VARIABLES {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::inherit());
    // SAFETY: setsid and umask are async-signal-safe (signal-safety(7)) and touch no memory.
    unsafe {
        command.pre_exec(move || {
            nix::unistd::setsid()?;
            umask(mask.0);
            Ok(())
        });
    }
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().ok_or_else(|| io::Error::other("no standard input"))?;
    // The pipe holds 64 KiB: a line of this size never waits.
    stdin.write_all(line.as_bytes())?;
    Ok(Child { pid: child.id(), leash: Some(stdin) })
}

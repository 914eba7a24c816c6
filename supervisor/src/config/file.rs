//! Files that somebody has named: read without waiting for the other end of a pipe, and never beyond a limit.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::clock;

/// Secrets are short; certificates, of which there may be many in a file, are read the same way.
const SECRET_MAX: u64 = 1 << 20;
const CONFIG_MAX: u64 = 4 << 20;
/// How long a program at the other end of a pipe may take to say the configuration.
const PATIENCE: Duration = Duration::from_secs(5);

/// The text of a secret's file, or why not.
pub(super) fn secret(path: &Path) -> io::Result<String> {
    let file = open(path)?;
    // It is read again with each reload: what is gone once it was read is no place for it.
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    let mut text = String::new();
    file.take(SECRET_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > SECRET_MAX {
        return Err(io::Error::new(ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    Ok(text)
}

/// The bytes of a configuration, which may come out of a pipe.
pub(super) fn config(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = open(path)?.take(CONFIG_MAX + 1);
    let until = clock::now() + PATIENCE;
    let mut bytes = Vec::new();
    loop {
        let left = until.saturating_duration_since(clock::now());
        let mut ready = [PollFd::new(file.get_ref().as_fd(), PollFlags::POLLIN)];
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        match poll(&mut ready, left) {
            Ok(0) => return Err(io::Error::new(ErrorKind::TimedOut, "nobody writes to it")),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        match file.read_to_end(&mut bytes) {
            Ok(_) if bytes.len() as u64 > CONFIG_MAX => {
                return Err(io::Error::new(ErrorKind::FileTooLarge, "it is larger than 4 MiB"));
            }
            Ok(_) => return Ok(bytes),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)
}

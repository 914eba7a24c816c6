//! A copy of the store while it is in use.
//!
//! Between two checkpoints the main file does not change: whatever is written goes to the log. So a
//! backup is a checkpoint, then the bytes of the file in slices between two groups, while checkpoints
//! wait. Nobody waits longer than one slice takes.
//!
//! The file is read through a descriptor of its own that stays open until the process ends: closing any
//! descriptor of a file gives up all locks of the process on it (`fcntl(2)`), the engine's too.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::log;
use super::op::Ticket;

/// Bytes copied at once: about a millisecond.
const SLICE: usize = 1 << 20;

/// A backup under way.
#[derive(Debug)]
pub(super) struct Backup {
    pub(super) ticket: Ticket,
    to: File,
    path: PathBuf,
    at: u64,
    end: u64,
}

/// How far it has come.
#[derive(Debug)]
pub(super) enum Progress {
    More,
    /// Complete and durable: its bytes.
    Done(u64),
}

impl Backup {
    /// The main file must be whole: no frame of the log may be missing in it.
    pub(super) fn start(ticket: Ticket, source: &File, path: &Path) -> std::io::Result<Self> {
        let end = source.metadata()?.len();
        let to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Self { ticket, to, path: path.to_owned(), at: 0, end })
    }

    /// Copies one slice.
    pub(super) fn slice(&mut self, source: &File) -> std::io::Result<Progress> {
        if self.at < self.end {
            let mut source = source;
            source.seek(SeekFrom::Start(self.at))?;
            let length = SLICE.min(usize::try_from(self.end - self.at).unwrap_or(SLICE));
            let mut slice = vec![0; length];
            source.read_exact(&mut slice)?;
            self.to.write_all(&slice)?;
            self.at += length as u64;
            return Ok(Progress::More);
        }
        log::none_in(&self.to)?;
        self.to.sync_all()?;
        if let Some(dir) = self.path.parent() {
            File::open(dir)?.sync_all()?;
        }
        Ok(Progress::Done(self.end))
    }

    /// It came to nothing: what is there of it is removed.
    pub(super) fn give_up(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

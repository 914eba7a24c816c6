//! The journal: what changed and who asked for it, one JSON object a line, for the person who comes
//! afterwards. It is append-only and bounded: a full file becomes `journal.1.jsonl`, and what that
//! held is gone. It decides nothing and is never read back.
//!
//! A thread of its own writes it, so that a disk that hangs delays nobody; what it cannot take is
//! counted, and the next line that can be written says how much is missing.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use protocol::control::Notice;

/// A file that would grow beyond this is set aside.
const MAX: u64 = 4 * 1024 * 1024;
/// Lines that may wait for the disk.
const WAITING: usize = 1024;

/// The run loop's end.
#[derive(Debug)]
pub struct Journal {
    /// Room for as many is taken at once, so it is room for their addresses only.
    lines: SyncSender<Box<Notice>>,
    lost: u64,
    thread: JoinHandle<()>,
}

impl Journal {
    /// Goes on with the journal in `dir`. The caller holds the instance lock. A file that cannot be
    /// written is no reason not to serve.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let mut book = Book::new(dir, MAX);
        let (lines, incoming) = sync_channel::<Box<Notice>>(WAITING);
        let thread = std::thread::Builder::new().name("journal".into()).spawn(move || {
            while let Ok(notice) = incoming.recv() {
                book.put(&notice);
            }
        })?;
        Ok(Self { lines, lost: 0, thread })
    }

    /// Notes it. Never waits.
    pub fn note(&mut self, notice: Notice) {
        let at_ms = notice.at_ms;
        if self.lost > 0 && self.lines.try_send(Box::new(gap(at_ms, self.lost))).is_ok() {
            self.lost = 0;
        }
        if self.lines.try_send(Box::new(notice)).is_err() {
            self.lost += 1;
        }
    }

    /// Waits until everything is written.
    pub fn finish(self) {
        drop(self.lines);
        let _ = self.thread.join();
    }
}

/// Says that `count` lines are missing here.
fn gap(at_ms: i64, count: u64) -> Notice {
    Notice { repeated: Some(count), ..Notice::new("journal", "gap", at_ms) }
}

/// The file, opened when there is something to write.
struct Book {
    path: PathBuf,
    former: PathBuf,
    open: Option<(File, u64)>,
    max: u64,
    lost: u64,
}

impl Book {
    fn new(dir: &Path, max: u64) -> Self {
        let (path, former) = (dir.join("journal.jsonl"), dir.join("journal.1.jsonl"));
        Self { path, former, open: None, max, lost: 0 }
    }

    fn put(&mut self, notice: &Notice) {
        if self.lost > 0 && self.write(&gap(notice.at_ms, self.lost)).is_ok() {
            self.lost = 0;
        }
        if let Err(e) = self.write(notice) {
            if self.lost == 0 {
                tracing::warn!(path = %self.path.display(), error = %e, "cannot write the journal");
            }
            self.lost += 1;
        }
    }

    fn write(&mut self, notice: &Notice) -> io::Result<()> {
        let mut line = serde_json::to_vec(notice)?;
        line.push(b'\n');
        let len = line.len() as u64;
        // Somebody may have moved it away, as programs that rotate logs do.
        let mut open = self.open.take().filter(|(file, _)| is_at(file, &self.path));
        if open.is_none() {
            open = Some(append_to(&self.path)?);
        }
        if open.as_ref().is_some_and(|(_, size)| *size > 0 && size + len > self.max) {
            std::fs::rename(&self.path, &self.former)?;
            open = Some(append_to(&self.path)?);
        }
        let Some((mut file, size)) = open else { return Ok(()) };
        let written = file.write_all(&line);
        if written.is_err() {
            // Half a line would make two of them unreadable.
            let _ = file.set_len(size);
        }
        let size = if written.is_ok() { size + len } else { size };
        self.open = Some((file, size));
        written
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let id = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    let ours = file.metadata().map(id);
    std::fs::metadata(path).map(id).is_ok_and(|there| ours.is_ok_and(|ours| ours == there))
}

/// Opens for appending; a line that the loss of power cut is ended first.
fn append_to(path: &Path) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    let mut file = options.read(true).append(true).create(true).mode(0o600).open(path)?;
    let mut size = file.metadata()?.len();
    if size > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            size += 1;
        }
    }
    Ok((file, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(n: u64) -> Notice {
        Notice { generation: Some(n), ..Notice::new("phase", "ready", 0) }
    }

    fn lines(path: &Path) -> Vec<Option<u64>> {
        let text = std::fs::read_to_string(path).unwrap();
        let parse = |line: &str| serde_json::from_str::<Notice>(line).ok()?.generation;
        text.lines().map(parse).collect()
    }

    #[test]
    fn it_goes_on_where_it_was_and_never_grows_beyond_two_files() {
        let dir = tempfile::tempdir().unwrap();
        let max = 1000;
        for n in 0..100 {
            // Opened anew each time, as after a restart.
            Book::new(dir.path(), max).put(&notice(n));
            let size = std::fs::metadata(dir.path().join("journal.jsonl")).unwrap().len();
            assert!(size <= max, "{size}");
        }
        let mut kept = lines(&dir.path().join("journal.1.jsonl"));
        kept.extend(lines(&dir.path().join("journal.jsonl")));
        assert!(kept.len() > 10);
        let first = kept[0].unwrap();
        assert!(kept.iter().copied().eq((first..100).map(Some)), "{kept:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_torn_line_costs_only_itself_and_a_moved_file_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        std::fs::write(&path, "{\"event\":\"pha").unwrap();
        let mut book = Book::new(dir.path(), MAX);
        book.put(&notice(1));
        assert_eq!(lines(&path), [None, Some(1)]);
        std::fs::rename(&path, dir.path().join("elsewhere")).unwrap();
        book.put(&notice(2));
        assert_eq!(lines(&path), [Some(2)]);
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = Book::new(dir.path(), MAX);
        let path = dir.path().join("journal.jsonl");
        std::fs::create_dir(&path).unwrap();
        book.put(&notice(1));
        book.put(&notice(2));
        std::fs::remove_dir(&path).unwrap();
        book.put(&notice(3));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("{\"event\":\"journal\""), "{text}");
        assert!(text.lines().next().unwrap().contains("\"repeated\":2"), "{text}");
        assert_eq!(lines(&path), [None, Some(3)]);
    }
}

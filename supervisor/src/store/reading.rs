//! What the engine is given to read of a damaged store: the files that were set aside, if it takes them, else
//! files beside them that it takes, made of these and removed afterwards. Those set aside stay as they are.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::frames;
use super::log::{self, Broken, Found};

/// What the head of each of our files says (`fileformat2.html`, section 1.3): where, and what.
const HEAD: [(usize, &[u8]); 5] = [
    (0, b"SQLite format 3\0"),
    // Pages of 4 KiB; written with a log, of format 2; nothing kept free in pages; fractions.
    (16, &[0x10, 0, 2, 2, 0, 64, 32, 32]),
    // Formats of the schema and of texts.
    (44, &[0, 0, 0, 4]),
    (56, &[0, 0, 0, 1]),
    // Not its length: then the engine looks.
    (28, &[0, 0, 0, 0]),
];

/// What is read.
pub(super) struct Reading {
    path: PathBuf,
    /// Parts of its log that are lost.
    missing: u64,
    is_beside: bool,
}

impl Reading {
    /// Of the file `kept` and its log.
    pub(super) fn of(kept: &Path) -> Self {
        let broken = match log::examine(&log_of(kept), kept) {
            Found::Broken(broken) => Some(broken),
            Found::Sound | Found::Void => None,
        };
        let missing = broken.as_ref().map_or(0, Broken::missing);
        let is_empty = fs::metadata(kept).is_ok_and(|file| file.len() == 0);
        let head = if is_empty { None } else { wrong_head(kept) };
        let as_it_is = Self { path: kept.to_owned(), missing, is_beside: false };
        if broken.is_none() && head.is_none() && !is_empty {
            return as_it_is;
        }
        let beside = Self { path: kept.with_extension("reading"), is_beside: true, ..as_it_is };
        beside.clear();
        match beside.make(kept, broken.as_ref(), is_empty, head) {
            Ok(()) => beside,
            Err(_) => Self { path: kept.to_owned(), missing, is_beside: false },
        }
    }

    fn make(
        &self,
        kept: &Path,
        broken: Option<&Broken>,
        is_empty: bool,
        head: Option<Vec<(usize, &[u8])>>,
    ) -> io::Result<()> {
        // The engine writes nothing into it, so that another name is enough where nothing is to be changed.
        if is_empty || head.is_some() || fs::hard_link(kept, &self.path).is_err() {
            fs::copy(kept, &self.path)?;
        }
        match broken {
            Some(broken) if broken.is_empty() => {}
            Some(broken) => broken.write(&log_of(&self.path))?,
            None => drop(fs::copy(log_of(kept), log_of(&self.path))),
        }
        if is_empty {
            // The engine would delete the log of an empty file. The first page may stand in that.
            let page = match broken {
                Some(broken) => broken.first_page(),
                None => frames::first_page(&log_of(kept)),
            };
            fs::write(&self.path, page.unwrap_or_default())?;
        }
        let Some(head) = head else { return Ok(()) };
        let file = File::options().write(true).open(&self.path)?;
        head.into_iter().try_for_each(|(at, right)| file.write_all_at(right, at as u64))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn missing(&self) -> u64 {
        self.missing
    }

    fn clear(&self) {
        if self.is_beside {
            let _ = fs::remove_file(&self.path);
            let _ = fs::remove_file(log_of(&self.path));
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.clear();
    }
}

/// What the head of a file should say, if it does not.
fn wrong_head(path: &Path) -> Option<Vec<(usize, &'static [u8])>> {
    let mut head = [0; 100];
    File::open(path).and_then(|mut file| file.read_exact(&mut head)).ok()?;
    let (_, constant) = HEAD.split_last()?;
    let is = |(at, right): &(usize, &[u8])| head.get(*at..at + right.len()) == Some(*right);
    (!constant.iter().all(is)).then(|| HEAD.to_vec())
}

fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

//! The directory in which workers put files for one another: what is old goes, and when there is too much
//! the oldest goes first. Nobody is waited for: a file that somebody still reads stays readable.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use crate::clock;
use crate::config::Files;

/// A thread cleans.
static CLEANING: AtomicBool = AtomicBool::new(false);

/// Cleans `dir` in a thread of its own, unless one is at it: files may lie on a disk that hangs.
pub fn clean(dir: PathBuf, files: Files) {
    if CLEANING.swap(true, Ordering::AcqRel) {
        return;
    }
    let now = clock::system();
    let work = move || {
        if let Err(e) = sweep(&dir, files, now) {
            tracing::warn!(dir = %dir.display(), error = %e, "cannot clean the exchanged files");
        }
        CLEANING.store(false, Ordering::Release);
    };
    let thread = std::thread::Builder::new().name("files".into()).spawn(work);
    if let Err(e) = thread {
        CLEANING.store(false, Ordering::Release);
        tracing::warn!(error = %e, "cannot clean the exchanged files");
    }
}

fn sweep(dir: &Path, files: Files, now: SystemTime) -> io::Result<()> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        // What vanishes meanwhile needs no cleaning.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_file() {
            found.push((metadata.modified()?, metadata.len(), entry.path()));
        }
    }
    found.sort();
    let mut total: u64 = found.iter().map(|(_, len, _)| len).sum();
    for (modified, len, path) in found {
        let age = now.duration_since(modified).unwrap_or(Duration::ZERO);
        if age < files.keep && total <= files.total_bytes {
            continue;
        }
        match std::fs::remove_file(&path) {
            Ok(()) => total -= len,
            Err(e) if e.kind() == io::ErrorKind::NotFound => total -= len,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_goes_and_then_the_oldest_of_too_much() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        for (name, age_s, len) in [("old", 1000, 1), ("a", 30, 40), ("b", 20, 40), ("c", 10, 40)] {
            let path = dir.path().join(name);
            std::fs::write(&path, vec![0; len]).unwrap();
            let file = std::fs::File::options().write(true).open(path).unwrap();
            file.set_modified(now - Duration::from_secs(age_s)).unwrap();
        }
        let files = Files { max_bytes: 100, total_bytes: 100, keep: Duration::from_secs(900) };
        sweep(dir.path(), files, now).unwrap();
        let mut left: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["b", "c"]);
    }
}

//! Whether a file system keeps what it is given: tried with a small file before the store relies on it.
//!
//! The store overwrites its log in place, syncs it, and reads what it wrote through the same file system.
//! One that cannot do that (some network and overlay mounts, a broken FUSE program) is refused before
//! anything was promised. A full disk is no reason: it serves what it holds.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::Error;
use super::schema::sync_dir;

const NAME: &str = "store.probe";
const PAGE: usize = 4096;

/// Tries the file system below `dir`.
pub(super) fn try_out(dir: &Path) -> Result<(), Error> {
    let path = dir.join(NAME);
    // A crash may have left one.
    let _ = fs::remove_file(&path);
    let tried = keeps(&path);
    let _ = fs::remove_file(&path);
    match tried {
        Ok(true) => sync_dir(dir),
        Ok(false) => {
            let reason = "what is written there is not what is read";
            Err(Error::Unfit { path: dir.to_owned(), reason: reason.to_owned() })
        }
        Err(e) if matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
            Ok(())
        }
        Err(e) => Err(Error::Unfit { path: dir.to_owned(), reason: e.to_string() }),
    }
}

/// Writes two pages, writes over the first, syncs each time, and reads both by another way.
fn keeps(path: &Path) -> io::Result<bool> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all_at(&[b'a'; 2 * PAGE], 0)?;
    file.sync_data()?;
    file.write_all_at(&[b'b'; PAGE], 0)?;
    file.sync_data()?;
    let mut found = Vec::new();
    File::open(path)?.read_to_end(&mut found)?;
    Ok(found == [[b'b'; PAGE], [b'a'; PAGE]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_keeps_things_is_fit_and_nothing_is_left_on_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(NAME), "left by a crash").unwrap();
        try_out(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_place_that_cannot_be_written_to_is_refused_with_its_reason() {
        let missing = Path::new("/proc/self/fdinfo");
        let Err(Error::Unfit { path, reason }) = try_out(missing) else { panic!("it is fit") };
        assert_eq!(path, missing);
        assert!(!reason.is_empty());
    }
}

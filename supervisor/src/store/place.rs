//! Whether the files of the store are still those at their paths, and what becomes of it when they are not.
//!
//! Somebody may remove or replace them under a store that is open (who cleans up, who restores a backup, a
//! disk that is unmounted). The engine notices nothing: it goes on with files that nobody finds again, and
//! everything since would be gone with the process (F102). So the owner looks after each commit, before it
//! answers: nothing is promised that is not at its path by then. Until this process ends the files are still
//! there for it, and with them what was promised earlier: it is copied back.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Seek};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::log;
use super::schema::{Paths, sync_dir};

/// Device and inode. No other file can have them while we have this one open.
pub type Inode = (u64, u64);

/// The main file and its log.
#[derive(Clone, Debug)]
pub(super) struct Place {
    main: (PathBuf, Inode),
    log: (PathBuf, Inode),
}

/// Somebody took files of the store away while it was open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Removed {
    /// The one that showed it.
    pub path: PathBuf,
    /// What became of what they held.
    pub fate: Fate,
    /// Events and replies that waited, if they could be counted.
    pub waiting: Option<(u64, u64)>,
}

/// What became of a store whose files somebody took away.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    /// The main file is where it was, and everything is in it.
    Whole,
    /// It was moved as it is: there, if that can be told, and everything is in it.
    Moved(Option<PathBuf>),
    /// Everything is in this copy.
    Saved(PathBuf),
    /// The copy is in the store's place.
    PutBack,
    /// It could not be saved, for this reason.
    Lost(String),
}

impl Removed {
    /// What a person should know.
    pub fn hint(&self) -> String {
        let leave = "leave its files alone while it runs";
        let held = self.waiting.map_or_else(String::new, |(events, replies)| {
            format!(" ({events} events and {replies} replies waited in it)")
        });
        match &self.fate {
            Fate::Whole | Fate::PutBack => {
                let whole = "nothing is lost, and the next start goes on with it";
                let back = if self.fate == Fate::PutBack { "it was put back: " } else { "" };
                format!("{back}{whole}{held}; {leave}")
            }
            Fate::Moved(to) => {
                let to = to.as_ref().map_or("elsewhere".into(), |to| to.display().to_string());
                format!(
                    "all of it is now {to}{held}: move it back while no supervisor runs, since the \
                     next start begins without it; {leave}"
                )
            }
            Fate::Saved(copy) => format!(
                "something else lies in its place, so all of it was saved as {}{held}: to go on with \
                 it, end the supervisor, move store.db and store.db-wal away and give it the name \
                 store.db; {leave}",
                copy.display()
            ),
            Fate::Lost(why) => format!("what it held could not be saved{held}: {why}; {leave}"),
        }
    }
}

impl Place {
    /// Of a store that was opened just now.
    pub(super) fn of(paths: &Paths) -> io::Result<Self> {
        let known =
            |path: &PathBuf| Ok::<_, io::Error>((path.clone(), inode(&fs::metadata(path)?)));
        Ok(Self { main: known(&paths.file)?, log: known(&paths.wal)? })
    }

    /// Of a store that was opened by another program.
    pub(super) fn known(paths: &Paths, [main, log]: [Inode; 2]) -> Self {
        Self { main: (paths.file.clone(), main), log: (paths.wal.clone(), log) }
    }

    /// What another program would need to know it again.
    pub(super) fn inodes(&self) -> [Inode; 2] {
        [self.main.1, self.log.1]
    }

    /// The first file that is not the one at its path.
    pub(super) fn missing(&self) -> Option<&Path> {
        [&self.main, &self.log]
            .into_iter()
            .find(|file| is_gone(file))
            .map(|(path, _)| path.as_path())
    }

    /// Saves what the main file `open` holds, as far as nobody finds it without our help. The log must
    /// have been copied into it.
    pub(super) fn save(&self, open: &File) -> io::Result<Fate> {
        let (path, _) = &self.main;
        let dir = path.parent().unwrap_or(Path::new("."));
        if !is_gone(&self.main) {
            // What lies in place of the log belongs to another file, and would be taken for a part of this.
            if is_gone(&self.log) {
                set_aside(&self.log.0)?;
                // Nobody is to miss the other one.
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.log.0)?;
            }
            return Ok(Fate::Whole);
        }
        let metadata = open.metadata()?;
        if inode(&metadata) != self.main.1 {
            return Err(io::Error::other("another file was opened in its place"));
        }
        if metadata.nlink() > 0 {
            let to = fs::read_link(format!("/proc/self/fd/{}", open.as_raw_fd())).ok();
            return Ok(Fate::Moved(to.filter(|to| to != path && to.exists())));
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut open = open;
        open.rewind()?;
        let (copy, mut to) = free(dir, "store.db.rescued")?;
        let saved = io::copy(&mut open, &mut to).and_then(|_| log::none_in(&to));
        let saved = saved.and_then(|()| to.sync_all());
        if let Err(e) = saved.and_then(|()| File::open(dir)?.sync_all()) {
            let _ = fs::remove_file(&copy);
            return Err(e);
        }
        Ok(Fate::Saved(copy))
    }
}

/// Puts a saved store in the place of the one that it was, if nothing lies there. The caller holds the lock
/// that is found there, and the store that was saved is closed.
pub fn put_back(copy: &Path) -> io::Result<bool> {
    let dir = copy.parent().unwrap_or(Path::new("."));
    let paths = Paths::new(dir);
    if fs::symlink_metadata(&paths.file).is_ok() {
        return Ok(false);
    }
    set_aside(&paths.wal)?;
    fs::rename(copy, &paths.file)?;
    sync_dir(dir).map_err(io::Error::other)?;
    Ok(true)
}

fn inode(metadata: &fs::Metadata) -> Inode {
    (metadata.dev(), metadata.ino())
}

/// A path that cannot be looked at proves nothing: whether what is written there lasts, syncs tell.
fn is_gone((path, known): &(PathBuf, Inode)) -> bool {
    match fs::metadata(path) {
        Ok(found) => inode(&found) != *known,
        Err(e) => matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    }
}

/// Gives what lies at `path`, if anything does, another name.
fn set_aside(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let dir = path.parent().unwrap_or(Path::new("."));
    let (aside, _) = free(dir, &format!("{name}.strange"))?;
    fs::rename(path, aside)
}

/// A new file with a name that begins so.
fn free(dir: &Path, name: &str) -> io::Result<(PathBuf, File)> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut n = 0;
    loop {
        let path = dir.join(format!("{name}-{n}"));
        match options.open(&path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists && n < 1000 => n += 1,
            made => return Ok((path, made?)),
        }
    }
}

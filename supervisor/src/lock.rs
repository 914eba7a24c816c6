//! The instance lock: one state directory, one supervisor.
//!
//! The proof is the kernel's lock (flock) on a file that is never unlinked: unlinking would let a
//! second owner lock a new file of the same name. The kernel frees it when its owner is gone, however
//! it went. What stands in the file is for people and for `ctl kill --force`, which believes it only
//! while the kernel says that this very process holds the lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::identity::{self, Identity};

/// Who holds a lock, in the holder's own words.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Holder {
    /// Which process, beyond doubt.
    #[serde(flatten)]
    pub identity: Identity,
    /// Its version.
    pub version: String,
    /// When it started, in Unix milliseconds.
    pub started_ms: i64,
    /// Who manages it: `systemd` or `none`.
    pub manager: String,
    /// Where its socket is.
    pub socket: PathBuf,
    /// It has left, and said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Left>,
}

/// The last word of a holder.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Left {
    /// When, in Unix milliseconds.
    pub at_ms: i64,
    /// Why not by its own or somebody's wish, if so.
    pub error: Option<String>,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "pid {}, started {}, version {}, manager {}",
            self.identity.pid,
            crate::text::utc(self.started_ms),
            self.version,
            self.manager
        )
    }
}

/// The lock, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// Why the lock is not ours.
#[derive(Debug)]
pub enum Refused {
    /// Somebody holds it. Who, if the file can be read.
    Held(Option<Box<Holder>>),
    /// The file cannot be made, opened or locked.
    Io(std::io::Error),
}

impl Lock {
    /// Takes the lock at `path` if it is free. Never waits.
    pub fn take(path: &Path) -> Result<Self, Refused> {
        let file = open(path).map_err(Refused::Io)?;
        match file.try_lock() {
            Ok(()) => match open(path).map(|other| other.try_lock()) {
                Ok(Err(TryLockError::WouldBlock)) => Ok(Self { file }),
                Ok(Err(TryLockError::Error(e))) | Err(e) => Err(Refused::Io(e)),
                // Some network and shared file systems grant every lock.
                Ok(Ok(())) => {
                    let why = "this file system keeps no locks: the state needs a local one";
                    Err(Refused::Io(std::io::Error::new(std::io::ErrorKind::Unsupported, why)))
                }
            },
            Err(TryLockError::WouldBlock) => Err(Refused::Held(holder(path).map(Box::new))),
            Err(TryLockError::Error(e)) => Err(Refused::Io(e)),
        }
    }

    /// The lock that a supervisor before us, in this same process, has taken.
    pub fn resumed(file: OwnedFd) -> Self {
        Self { file: File::from(file) }
    }

    /// What holds it.
    pub fn held(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Whether those who look for the lock at `path` find it. A path that cannot be looked at proves nothing.
    pub fn is_at(&self, path: &Path) -> bool {
        let id = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        match (self.file.metadata().map(id), std::fs::metadata(path).map(id)) {
            (Ok(ours), Ok(found)) => ours == found,
            (_, Err(e)) => !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
            (Err(_), _) => true,
        }
    }

    /// Takes the lock at `path` anew, where somebody removed the file, and says in it what that said.
    pub fn renew(&mut self, path: &Path) -> Result<(), Refused> {
        let holder = self.says();
        *self = Self::take(path)?;
        holder.map_or(Ok(()), |holder| self.sign(&holder)).map_err(Refused::Io)
    }

    fn says(&mut self) -> Option<Holder> {
        self.file.rewind().ok()?;
        read(&self.file)
    }

    /// Says in the file that the holder leaves now.
    pub fn sign_off(&mut self, left: Left) -> std::io::Result<()> {
        match self.says() {
            Some(holder) => self.sign(&Holder { left: Some(left), ..holder }),
            None => Ok(()),
        }
    }

    /// Says in the file who holds the lock.
    pub fn sign(&mut self, holder: &Holder) -> std::io::Result<()> {
        let text = serde_json::to_string(holder)? + "\n";
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(text.as_bytes())
    }
}

impl Drop for Lock {
    /// Unlocks by name: a child between fork and exec would otherwise hold it a moment longer.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Whether nobody holds the lock at `path`. It is held for this moment: who starts just then tries again.
pub fn is_free(path: &Path) -> bool {
    Lock::take(path).is_ok()
}

/// Says in the file at `path` that this process, which held it, leaves: where it could not begin to serve.
pub fn give_up(path: &Path, left: Left) {
    let Ok(mut lock) = Lock::take(path) else { return };
    let ours = |holder: Holder| holder.left.is_none() && holder.identity.pid == std::process::id();
    if lock.says().is_some_and(ours) {
        let _ = lock.sign_off(left);
    }
}

/// What the file at `path` says, if it says anything.
pub fn holder(path: &Path) -> Option<Holder> {
    read(&look(path)?)
}

fn look(path: &Path) -> Option<File> {
    // Whatever lies there: to wait for the other end of a pipe helps nobody.
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    OpenOptions::new().read(true).custom_flags(flags).open(path).ok()
}

fn read(file: &File) -> Option<Holder> {
    let mut text = String::new();
    file.take(64 * 1024).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// The holder of the lock at `path`, if the kernel, the file and the process table agree on it.
pub fn proven_holder(path: &Path) -> Option<Holder> {
    let file = look(path)?;
    let holder = read(&file)?;
    let metadata = file.metadata().ok()?;
    let dev = mounted_device(&file).unwrap_or(metadata.dev());
    let locks = proc("locks")?;
    let proven = held_by(&locks, holder.identity.pid, dev, metadata.ino());
    (proven && identity::is_alive(&holder.identity)).then_some(holder)
}

/// Who serves here now, as the file at `path` says. Only while the lock is held: in a copy of a state directory
/// the file names the supervisor of the original.
pub fn serving(path: &Path) -> Option<Holder> {
    let holder = holder(path).filter(|holder| holder.left.is_none())?;
    is_held(path).then_some(holder)
}

/// Whether somebody holds the lock at `path`. One that is free is shared for this moment: who starts just then
/// tries again.
pub fn is_held(path: &Path) -> bool {
    let shared = look(path).map(|file| file.try_lock_shared());
    matches!(shared, Some(Err(TryLockError::WouldBlock)))
}

fn proc(name: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{name}")).ok()
}

/// The device by which the kernel's list names the file system of `file`: the one of its mount. To who looks at
/// the file btrfs and some overlays show another, of the part that it lies in.
fn mounted_device(file: &File) -> Option<u64> {
    let info = proc(&format!("self/fdinfo/{}", file.as_raw_fd()))?;
    let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
    device_of(&proc("self/mountinfo")?, mount.trim())
}

/// Field 3 of the line that begins with this number: `proc_pid_mountinfo(5)`.
fn device_of(mounts: &str, mount: &str) -> Option<u64> {
    let mut words = mounts
        .lines()
        .map(str::split_whitespace)
        .find_map(|mut words| (words.next() == Some(mount)).then_some(words))?;
    let (major, minor) = words.nth(1)?.split_once(':')?;
    Some(nix::sys::stat::makedev(major.parse().ok()?, minor.parse().ok()?))
}

/// Whether the kernel's list says that `pid` holds a flock on this file. A line reads
/// `1: FLOCK  ADVISORY  WRITE 815 fe:00:131 0 EOF` (`proc_locks(5)`).
fn held_by(locks: &str, pid: u32, dev: u64, ino: u64) -> bool {
    let (major, minor) = (nix::sys::stat::major(dev), nix::sys::stat::minor(dev));
    let file = format!("{major:02x}:{minor:02x}:{ino}");
    locks.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        let kind = words.next();
        let mut words = words.skip(2);
        kind == Some("FLOCK")
            && words.next().is_some_and(|word| word.parse() == Ok(pid))
            && words.next() == Some(file.as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_is_read_word_by_word() {
        let dev = nix::sys::stat::makedev(0xfe, 0);
        let locks = "1: POSIX  ADVISORY  WRITE 9 fe:00:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 815 fe:00:131 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 816 fe:00:131 0 EOF\n";
        assert!(held_by(locks, 815, dev, 131));
        assert!(!held_by(locks, 816, dev, 131), "it only waits");
        assert!(!held_by(locks, 9, dev, 77), "another sort of lock");
        assert!(!held_by(locks, 815, dev, 13));
    }

    #[test]
    fn a_file_system_is_named_as_its_mount_is() {
        let mounts = "22 1 254:0 / / rw - ext4 /dev/vda rw\n\
                      31 22 0:41 /@home /home rw - btrfs /dev/vdb rw\n";
        assert_eq!(device_of(mounts, "31"), Some(nix::sys::stat::makedev(0, 41)));
        assert_eq!(device_of(mounts, "1"), None);
    }

    #[test]
    fn left_over_text_never_blocks_and_the_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        for text in ["", "{", "815", "{\"pid\":1}"] {
            std::fs::write(&path, text).unwrap();
            let before = std::fs::metadata(&path).unwrap().ino();
            let lock = Lock::take(&path).unwrap();
            assert!(matches!(Lock::take(&path), Err(Refused::Held(None))));
            drop(lock);
            assert_eq!(std::fs::metadata(&path).unwrap().ino(), before);
        }
    }

    #[test]
    fn the_signature_tells_who_and_is_proven() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let mut lock = Lock::take(&path).unwrap();
        let holder = Holder {
            identity: identity::own().unwrap(),
            version: "1".into(),
            started_ms: 0,
            manager: "none".into(),
            socket: "/s".into(),
            left: None,
        };
        lock.sign(&holder).unwrap();
        let Err(Refused::Held(Some(found))) = Lock::take(&path) else { panic!("not refused") };
        assert_eq!(*found, holder);
        assert_eq!(proven_holder(&path), Some(holder.clone()));
        assert_eq!(serving(&path), Some(holder.clone()));
        let mut elsewhere = holder.clone();
        elsewhere.identity.start += 1;
        lock.sign(&elsewhere).unwrap();
        assert_eq!(proven_holder(&path), None);
        assert_eq!(
            serving(&path),
            Some(elsewhere),
            "who is in a container has another number there"
        );
        lock.sign_off(Left { at_ms: 0, error: None }).unwrap();
        assert!(serving(&path).is_none() && is_held(&path), "it leaves");
        lock.sign(&holder).unwrap();
        drop(lock);
        assert_eq!(proven_holder(&path), None, "the text alone proves nothing");
        assert!(serving(&path).is_none() && !is_held(&path), "nor does it tell where to ask");
    }
}

//! One account, one connection on this host: a lock for each account that a worker logs in with.
//!
//! Two gateways that use the same bot would evict each other or be given half of the messages each,
//! and their state directories know nothing of one another. So before a platform's worker is made, a
//! file is locked that is named by a hash of the account, in a directory that all gateways of the user
//! share. The worker inherits the lock as its standard output: should the supervisor be killed, the
//! account stays taken until the worker, too, is gone. What stands in the file is for people.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::hash::Hasher;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher13};

/// Where a directory of our own is made: the same for a service and for a shell of the same user,
/// which those of a session are not. A container with a read-only root has the last one still.
const PLACES: [&str; 3] = ["/run/lock", "/tmp", "/dev/shm"];
/// What to do where none of them will do.
const NO_PLACE: &str = "let this user write to /run/lock, /tmp or /dev/shm, where a directory of its \
    own is made: by the locks in it an account is used once on this host";

/// The locks of one account, held until they are dropped and nobody has inherited them.
#[derive(Debug)]
pub struct Credential {
    files: Vec<File>,
}

/// Who uses an account.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct User {
    /// The supervisor.
    pub pid: u32,
    /// Its state directory.
    pub state_dir: PathBuf,
    /// The instance.
    pub instance: String,
}

impl std::fmt::Display for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pid {} ({}, {})", self.pid, self.state_dir.display(), self.instance)
    }
}

/// Why the account cannot be used.
#[derive(Debug)]
pub enum Refused {
    /// Somebody uses it. Who, if the file can be read.
    Used(Option<User>),
    /// No directory for the locks can be made or used.
    Io {
        /// Why, of each.
        why: io::Error,
        /// What to do about it.
        remedy: String,
    },
}

impl Credential {
    /// Takes the account for `user`, if it is free. Never waits. Every place that can be used is, so
    /// that two who find different ones still meet.
    pub fn take(account: &str, user: &User) -> Result<Self, Refused> {
        Self::take_in(&PLACES.map(Path::new), account, user)
    }

    fn take_in(places: &[&Path], account: &str, user: &User) -> Result<Self, Refused> {
        let mut hasher = SipHasher13::new();
        hasher.write(account.as_bytes());
        let name = format!("{:032x}", hasher.finish128().as_u128());
        let mut files = Vec::new();
        let (mut whys, mut in_the_way) = (Vec::new(), Vec::new());
        for place in places {
            let dir = place.join(format!("hermes-gw-{}", uid()));
            match lock(&dir, &name, user) {
                Ok(file) => files.push(file),
                Err(No::Used(user)) => return Err(Refused::Used(user)),
                Err(No::Io(e)) => whys.push(format!("{}: {e}", dir.display())),
                Err(No::NotOurs) => {
                    whys.push(format!("{}: it is not ours alone", dir.display()));
                    in_the_way.push(dir.display().to_string());
                }
            }
        }
        if files.is_empty() {
            let why = io::Error::other(whys.join("; "));
            let remedy = if in_the_way.is_empty() {
                NO_PLACE.into()
            } else {
                // One is enough.
                let entry = in_the_way.join(" or ");
                format!(
                    "remove {entry}, which somebody else made or may change: a directory of this user's own, with mode 700, is to be there"
                )
            };
            return Err(Refused::Io { why, remedy });
        }
        Ok(Self { files })
    }

    /// The locks that a supervisor before us, in this same process, has taken.
    pub fn resumed(files: Vec<OwnedFd>) -> Self {
        Self { files: files.into_iter().map(File::from).collect() }
    }

    /// What holds them.
    pub fn held(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.files.iter().map(AsFd::as_fd)
    }

    /// For the worker to inherit.
    pub fn share(&self) -> io::Result<File> {
        self.files.first().ok_or_else(|| io::Error::other("no lock"))?.try_clone()
    }
}

fn uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Why there is no lock in one of the places.
enum No {
    Used(Option<User>),
    Io(io::Error),
    /// What lies where the directory belongs.
    NotOurs,
}

fn lock(dir: &Path, name: &str, user: &User) -> Result<File, No> {
    let made = DirBuilder::new().mode(0o700).create(dir);
    // In a directory that everybody may write to, somebody else may have been there first.
    let found = std::fs::symlink_metadata(dir).map_err(|e| No::Io(made.err().unwrap_or(e)))?;
    if !found.is_dir() || found.uid() != uid() || found.mode() & 0o077 != 0 {
        return Err(No::NotOurs);
    }
    let path = dir.join(name);
    let mut options = OpenOptions::new();
    let writer = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut writer = writer.map_err(No::Io)?;
    // What the worker inherits cannot be written to.
    let file = File::open(&path).map_err(No::Io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(No::Used(read(&path))),
        Err(TryLockError::Error(e)) => return Err(No::Io(e)),
    }
    let text = serde_json::to_string(user).map_err(|e| No::Io(e.into()))? + "\n";
    // The lock is what counts; a text that cannot be written names nobody.
    let _ = writer.set_len(0).and_then(|()| writer.write_all(text.as_bytes()));
    Ok(file)
}

fn read(path: &Path) -> Option<User> {
    let mut text = String::new();
    File::open(path).ok()?.take(64 * 1024).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(pid: u32) -> User {
        User { pid, state_dir: "/state".into(), instance: "feishu".into() }
    }

    #[test]
    fn an_account_has_one_user_until_all_who_hold_it_are_gone() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let missing = one.path().join("missing");
        let places = [missing.as_path(), one.path(), two.path()];
        let held = Credential::take_in(&places, "feishu cli_a", &user(1)).unwrap();
        for places in [&places[..], &places[1..2], &places[2..]] {
            let refused = Credential::take_in(places, "feishu cli_a", &user(2));
            assert!(matches!(refused, Err(Refused::Used(Some(by))) if by == user(1)));
        }
        assert!(Credential::take_in(&places, "feishu cli_b", &user(2)).is_ok());
        let inherited = held.share().unwrap();
        drop(held);
        let refused = Credential::take_in(&places, "feishu cli_a", &user(2));
        assert!(matches!(refused, Err(Refused::Used(_))));
        drop(inherited);
        assert!(Credential::take_in(&places, "feishu cli_a", &user(2)).is_ok());
    }

    /// In a directory that everybody may write to, somebody else may have been there first.
    #[test]
    fn what_lies_in_the_way_is_not_used_and_is_to_be_removed() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        type Put = fn(&Path) -> io::Result<()>;
        let puts: [Put; 4] = [
            |dir| {
                std::fs::create_dir(dir)?;
                std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o777))
            },
            |dir| std::fs::write(dir, ""),
            |dir| symlink("/nowhere", dir),
            |dir| symlink("/tmp", dir),
        ];
        for put in puts {
            let place = tempfile::tempdir().unwrap();
            let dir = place.path().join(format!("hermes-gw-{}", uid()));
            put(&dir).unwrap();
            let missing = place.path().join("missing");
            let refused = Credential::take_in(&[&missing, place.path()], "a", &user(1));
            let Err(Refused::Io { why, remedy }) = refused else { panic!("{refused:?}") };
            assert!(
                why.to_string().contains(&format!("{}: it is not ours alone", dir.display())),
                "{why}"
            );
            assert!(remedy.starts_with(&format!("remove {}, ", dir.display())), "{remedy}");
        }
        let refused = Credential::take_in(&[Path::new("/proc")], "a", &user(1));
        let Err(Refused::Io { remedy, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(remedy, NO_PLACE);
    }
}

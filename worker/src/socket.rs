//! Local sockets: dialling the supervisor, and listening for programs of the same user.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use interprocess::local_socket::tokio::{Listener, Stream, prelude::*};
use interprocess::local_socket::{GenericFilePath, ListenerOptions};
use interprocess::os::unix::local_socket::ListenerOptionsExt;
use tokio::io::{ReadHalf, WriteHalf};

use crate::Error;
use crate::clock::{self, Instant};

/// How often to look whether a socket's file is still there, and how long nobody is let in after that
/// has failed.
const LOOK: Duration = Duration::from_secs(1);

/// The two halves of a connection.
pub type Halves = (Incoming, Outgoing);
/// The half that is read.
pub type Incoming = ReadHalf<Stream>;
/// The half that is written.
pub type Outgoing = WriteHalf<Stream>;

/// Connects to the socket at `path`.
pub async fn dial(path: &Path) -> io::Result<Halves> {
    let stream = Stream::connect(path.to_fs_name::<GenericFilePath>()?).await?;
    Ok(tokio::io::split(stream))
}

/// Whether the socket at `path` is a leftover: nobody takes the connection that ended with `error`. Where a connection is
/// not allowed, because another user made the file, the kernel's list of those who listen tells (`proc_pid_net(5)`).
fn is_leftover(path: &Path, error: &io::Error) -> bool {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => true,
        io::ErrorKind::PermissionDenied => is_listened_at(path).is_ok_and(|listened| !listened),
        _ => false,
    }
}

fn is_listened_at(path: &Path) -> io::Result<bool> {
    /// `__SO_ACCEPTCON`
    const LISTENS: u32 = 1 << 16;
    let table = std::fs::read("/proc/net/unix")?;
    let table = String::from_utf8_lossy(&table);
    // Num RefCount Protocol Flags Type St Inode Path
    Ok(table.lines().skip(1).any(|line| {
        let flags = line.split_whitespace().nth(3);
        let flags = flags.and_then(|flags| u32::from_str_radix(flags, 16).ok());
        let listens = flags.is_some_and(|flags| flags & LISTENS != 0);
        listens && line.strip_suffix(&*path.to_string_lossy()).is_some_and(|l| l.ends_with(' '))
    }))
}

/// A listener for programs of the same user: mode 0600 from birth, peers checked. Its file is made anew
/// when somebody has removed it (F101).
#[derive(Debug)]
pub struct Door {
    listener: Listener,
    path: PathBuf,
    /// Another file at the same path is not ours.
    file: (u64, u64),
    uid: u32,
    look_at: Instant,
}

impl Door {
    /// Listens at `path`. A socket file that nobody answers is a leftover of our own former
    /// generation (the supervisor runs one worker an instance) and is replaced; anything else stays.
    pub async fn open(path: &Path) -> io::Result<Self> {
        if let Ok(found) = std::fs::symlink_metadata(path) {
            if !found.file_type().is_socket() {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "something that is no socket is in the way",
                ));
            }
            match dial(path).await {
                Err(e) if is_leftover(path, &e) => {
                    std::fs::remove_file(path)?;
                }
                _ => {
                    return Err(io::Error::new(
                        io::ErrorKind::AddrInUse,
                        "another program listens there",
                    ));
                }
            }
        }
        let listener = ListenerOptions::new()
            .name(path.to_fs_name::<GenericFilePath>()?)
            .mode(0o600)
            .reclaim_name(false)
            .create_tokio()?;
        let uid = std::fs::symlink_metadata(path)?.uid();
        let (file, look_at) = (file(path)?, clock::now() + LOOK);
        Ok(Self { listener, path: path.into(), file, uid, look_at })
    }

    /// The next connection of our own user or of root, and its process id where the system tells it.
    /// Others are turned away. An error: its file is gone for good, and a new process may do better.
    pub async fn accept(&mut self) -> Result<(Halves, Option<u32>), Error> {
        let mut deaf = false;
        loop {
            let stream = tokio::select! {
                stream = self.listener.accept(), if !deaf => stream,
                () = tokio::time::sleep_until(self.look_at) => {
                    deaf = false;
                    self.look().await?;
                    continue;
                }
            };
            let stream = match stream {
                Ok(stream) => stream,
                Err(e) => {
                    tracing::warn!(error = %e, "cannot accept a connection");
                    deaf = true;
                    continue;
                }
            };
            let Stream::UdSocket(socket) = &stream;
            let Ok(peer) = socket.inner().peer_cred() else { continue };
            if peer.uid() == self.uid || peer.uid() == 0 {
                // One of another container has no number here, which reads as 0.
                let pid =
                    peer.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0);
                return Ok((tokio::io::split(stream), pid));
            }
            tracing::warn!(uid = peer.uid(), "turned away a connection of another user");
        }
    }

    /// Makes the file anew if it is gone. Where even its directory is gone, the supervisor makes that.
    async fn look(&mut self) -> Result<(), Error> {
        self.look_at = clock::now() + LOOK;
        if self.is_there() || !self.path.parent().is_some_and(Path::exists) {
            return Ok(());
        }
        let what = format!("listen anew at {}, which somebody removed", self.path.display());
        *self = Self::open(&self.path).await.map_err(|source| Error::Os { what, source })?;
        tracing::warn!(path = %self.path.display(), "somebody removed the socket: made anew");
        Ok(())
    }

    fn is_there(&self) -> bool {
        file(&self.path).is_ok_and(|found| found == self.file)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if self.is_there() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Device and inode of a socket's file.
fn file(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

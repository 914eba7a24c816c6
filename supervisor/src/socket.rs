//! The supervisor's local socket: made under the instance lock, mode 0600 from birth, and removed only
//! while it is still ours.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

pub use interprocess::local_socket::tokio::Stream;
use interprocess::local_socket::tokio::{Listener, prelude::*};
use interprocess::local_socket::{GenericFilePath, ListenerOptions};
use interprocess::os::unix::local_socket::ListenerOptionsExt;
use interprocess::os::unix::uds_local_socket::tokio::{Listener as UdListener, Stream as UdStream};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::geteuid;

use crate::error::Error;

/// Who is at the other end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its process, where the system tells it.
    pub pid: Option<u32>,
    /// Its user.
    pub uid: u32,
}

/// A listening socket.
#[derive(Debug)]
pub struct Socket {
    listener: Listener,
    path: PathBuf,
    file: Option<File>,
    uid: u32,
}

/// Device and inode of a socket's file: another one at the same path is not ours. No other can have
/// them while we listen, since that keeps the inode.
pub type File = (u64, u64);

fn file(path: &Path) -> io::Result<File> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

impl Socket {
    /// Listens at `path`. A socket that nobody listens at is a leftover; one that somebody does, of
    /// another state directory with the same runtime directory, and anything else, is not ours to
    /// remove. `is_ours`: it lies in the directory whose lock we hold, so that one of another user, which cannot be
    /// asked, is a leftover, too.
    pub async fn listen(path: &Path, is_ours: bool) -> Result<Self, Error> {
        let create = |source| Error::Create { what: "make the socket", path: path.into(), source };
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => {
                // A queue that is full is the queue of somebody who is alive: nobody waits for room in it.
                let asked = dial(path).await.err().map(|e| e.kind());
                let why = match asked {
                    Some(io::ErrorKind::ConnectionRefused) => None,
                    Some(io::ErrorKind::PermissionDenied) if is_ours => None,
                    Some(io::ErrorKind::PermissionDenied) => Some(
                        "a socket of another user lies there: remove it, or name another runtime_dir",
                    ),
                    _ => Some("another supervisor listens there: name another runtime_dir"),
                };
                if let Some(why) = why {
                    return Err(create(io::Error::new(io::ErrorKind::AddrInUse, why)));
                }
                std::fs::remove_file(path).map_err(create)?;
            }
            Ok(_) => {
                let why = "something that is no socket is in the way";
                return Err(create(io::Error::new(io::ErrorKind::AlreadyExists, why)));
            }
            Err(_) => {}
        }
        let name = path.to_fs_name::<GenericFilePath>().map_err(create)?;
        let options = ListenerOptions::new().name(name).mode(0o600).reclaim_name(false);
        let listener = options.create_tokio().map_err(create)?;
        let file = Some(file(path).map_err(create)?);
        Ok(Self { listener, path: path.into(), file, uid: geteuid().as_raw() })
    }

    /// Goes on with the socket at `path` that a supervisor before us, in this same process, listened to.
    /// `known`: its file, if that one could tell; else it is what lies there.
    pub fn resumed(listening: OwnedFd, path: &Path, known: Option<File>) -> Result<Self, Error> {
        let create = |source| Error::Create { what: "keep the socket", path: path.into(), source };
        let listener = Listener::from(UdListener::try_from(listening).map_err(create)?);
        let file = known.or_else(|| file(path).ok());
        Ok(Self { listener, path: path.into(), file, uid: geteuid().as_raw() })
    }

    /// Its file, whether or not that is still there.
    pub fn file(&self) -> Option<File> {
        self.file
    }

    /// Whether those who look for it find it: its file is where it was made.
    pub fn is_there(&self) -> bool {
        self.file.is_some() && self.file == file(&self.path).ok()
    }

    /// What it listens with.
    pub fn listening(&self) -> BorrowedFd<'_> {
        let Listener::UdSocket(listener) = &self.listener;
        listener.as_fd()
    }

    /// The next connection of our own user or of root; others are turned away.
    pub async fn accept(&self) -> io::Result<(Stream, Peer)> {
        loop {
            let stream = self.listener.accept().await?;
            let Ok(peer) = peer(&stream) else { continue };
            if peer.uid == self.uid || peer.uid == 0 {
                return Ok((stream, peer));
            }
            tracing::warn!(uid = peer.uid, pid = ?peer.pid, "turned away a connection of another user");
        }
    }
}

/// Who is at the other end. A process outside of our view of processes, as on the host of a container,
/// has the number 0, which the library takes for no answer.
fn peer(stream: &Stream) -> io::Result<Peer> {
    let Stream::UdSocket(socket) = stream;
    let creds = getsockopt(&socket.inner().as_fd(), PeerCredentials)?;
    Ok(Peer { pid: u32::try_from(creds.pid()).ok(), uid: creds.uid() })
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.is_there() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The user who listens at the other end, if that one turns us away: see [`Socket::accept`].
pub fn foreign(stream: &Stream) -> Option<u32> {
    let (own, theirs) = (geteuid().as_raw(), peer(stream).ok()?.uid);
    (own != 0 && own != theirs).then_some(theirs)
}

/// Another descriptor of a connection.
pub fn spare(stream: &Stream) -> io::Result<OwnedFd> {
    let Stream::UdSocket(socket) = stream;
    socket.inner().as_fd().try_clone_to_owned()
}

/// The connection of a descriptor.
pub fn stream(connection: OwnedFd) -> io::Result<Stream> {
    Ok(Stream::from(UdStream::try_from(connection)?))
}

/// Connects to a socket.
pub async fn dial(path: &Path) -> io::Result<Stream> {
    Stream::connect(path.to_fs_name::<GenericFilePath>()?).await
}

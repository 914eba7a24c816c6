//! Local sockets: dialling the supervisor, and listening for programs of the same user.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use interprocess::local_socket::tokio::{Listener, Stream, prelude::*};
use interprocess::local_socket::{GenericFilePath, ListenerOptions};
use interprocess::os::unix::local_socket::ListenerOptionsExt;
use tokio::io::{ReadHalf, WriteHalf};

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

/// A listener for programs of the same user: mode 0600 from birth, peers checked.
#[derive(Debug)]
pub struct Door {
    listener: Listener,
    uid: u32,
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
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
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
            .create_tokio()?;
        let uid = std::fs::symlink_metadata(path)?.uid();
        Ok(Self { listener, uid })
    }

    /// The next connection of our own user or of root, and its process id where the system tells it.
    /// Others are turned away.
    pub async fn accept(&self) -> io::Result<(Halves, Option<u32>)> {
        loop {
            let stream = self.listener.accept().await?;
            let Ok(peer) = stream.peer_creds() else { continue };
            if peer.euid().is_some_and(|uid| uid == self.uid || uid == 0) {
                let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok());
                return Ok((tokio::io::split(stream), pid));
            }
            tracing::warn!(uid = ?peer.euid(), "turned away a connection of another user");
        }
    }
}

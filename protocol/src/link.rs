//! Frames over any byte stream: what both ends of a worker's link share.
//!
//! Reading is cancel-safe (bytes already read stay in the buffer). Writing collects frames in a buffer
//! that [`Sender::flush`] hands to the stream at once: a burst costs one system call.

use bytes::BytesMut;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::hello::{BuildId, PREAMBLE_LEN, Preamble};
use crate::{Error, frame};

const READ_CHUNK: usize = 16 * 1024;

/// The receiving half of a link.
#[derive(Debug)]
pub struct Receiver<R> {
    stream: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Receiver<R> {
    /// Reads from `stream`, which is past its preamble.
    pub fn new(stream: R) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// Goes on with a stream of which `read` was read before.
    pub fn resumed(stream: R, read: &[u8]) -> Self {
        Self { stream, buffer: BytesMut::from(read) }
    }

    /// What was read and is no whole frame yet.
    pub fn rest(&self) -> &[u8] {
        &self.buffer
    }

    /// The next frame; `None` once the other side has closed between two frames.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        loop {
            if let Some(value) = frame::decode(&mut self.buffer)? {
                return Ok(Some(value));
            }
            self.buffer.reserve(READ_CHUNK);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(Error::Torn) };
            }
        }
    }

    /// A frame that has already arrived, without waiting.
    pub fn ready<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        frame::decode(&mut self.buffer)
    }
}

/// The sending half of a link.
#[derive(Debug)]
pub struct Sender<W> {
    stream: W,
    buffer: BytesMut,
}

impl<W: AsyncWrite + Unpin> Sender<W> {
    /// Writes to `stream`, which is past its preamble.
    pub fn new(stream: W) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// Puts one frame behind those that wait for [`Sender::flush`].
    pub fn feed<T: Serialize>(&mut self, value: &T) -> Result<(), Error> {
        frame::encode(value, &mut self.buffer)
    }

    /// Writes everything that was fed.
    pub async fn flush(&mut self) -> Result<(), Error> {
        while !self.buffer.is_empty() {
            if self.stream.write_buf(&mut self.buffer).await? == 0 {
                return Err(Error::Io(std::io::ErrorKind::WriteZero.into()));
            }
        }
        if self.buffer.capacity() > 4 * READ_CHUNK {
            self.buffer = BytesMut::new();
        }
        Ok(())
    }

    /// [`Sender::feed`] and [`Sender::flush`].
    pub async fn send<T: Serialize>(&mut self, value: &T) -> Result<(), Error> {
        self.feed(value)?;
        self.flush().await
    }
}

/// Sends our preamble.
pub async fn send_preamble<W: AsyncWrite + Unpin>(
    stream: &mut W,
    build: BuildId,
) -> Result<(), Error> {
    stream.write_all(&Preamble::ours(build).to_bytes()).await?;
    Ok(stream.flush().await?)
}

/// Reads the other side's preamble; `first` holds what was already read of it.
pub async fn read_preamble<R: AsyncRead + Unpin>(
    stream: &mut R,
    first: &[u8],
) -> Result<Preamble, Error> {
    let mut bytes = [0; PREAMBLE_LEN];
    let Some((head, rest)) = bytes.split_at_mut_checked(first.len()) else {
        return Err(Error::Magic);
    };
    head.copy_from_slice(first);
    stream.read_exact(rest).await.map_err(|e| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => Error::Torn,
        _ => Error::Io(e),
    })?;
    Preamble::check(&bytes)
}

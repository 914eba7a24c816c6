//! The first bytes of a worker's link. Frozen: they never change, so that any two versions of
//! hermes-gw can at least tell each other apart.
//!
//! ```text
//! 0      4              5          7          8          24
//! | 89 'H' 'G' 'W' | conversation | version LE | 0 | build id |
//! ```
//! Each side sends its own preamble and checks the other's before it sends or reads a frame. A tool's
//! conversation starts with `{` instead: the first byte decides.

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::id::{Generation, Instance, Nonce};

/// Raised whenever a type in `worker` or `event` changes shape.
pub const VERSION: u16 = 6;
/// Bytes of a preamble.
pub const PREAMBLE_LEN: usize = 24;
/// The first byte of every preamble; no JSON text starts with it.
pub const FIRST_BYTE: u8 = 0x89;
const MAGIC: [u8; 4] = [FIRST_BYTE, b'H', b'G', b'W'];
const WORKER: u8 = 1;
/// The environment variable that a worker hands down to everything it starts: whose it is.
pub const MARK: &str = "HERMES_GW_WORKER";

/// The 16 bytes that name a build, for the log of a refused link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BuildId(pub [u8; 16]);

/// Who speaks, before anything is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Preamble {
    /// The speaker's protocol version.
    pub version: u16,
    /// The speaker's build.
    pub build: BuildId,
}

impl Preamble {
    /// The preamble of this build for the worker conversation.
    pub fn ours(build: BuildId) -> Self {
        Self { version: VERSION, build }
    }

    /// Its bytes on the wire.
    pub fn to_bytes(self) -> [u8; PREAMBLE_LEN] {
        let mut out = [0; PREAMBLE_LEN];
        let (head, build) = out.split_at_mut(8);
        let [low, high] = self.version.to_le_bytes();
        let [a, b, c, d] = MAGIC;
        head.copy_from_slice(&[a, b, c, d, WORKER, low, high, 0]);
        build.copy_from_slice(&self.build.0);
        out
    }

    /// Reads a preamble and refuses one that this build cannot talk to.
    pub fn check(bytes: &[u8; PREAMBLE_LEN]) -> Result<Self, Error> {
        let [a, b, c, d, conversation, low, high, _, build @ ..] = *bytes;
        if [a, b, c, d] != MAGIC {
            return Err(Error::Magic);
        }
        if conversation != WORKER {
            return Err(Error::Conversation(conversation));
        }
        let version = u16::from_le_bytes([low, high]);
        if version != VERSION {
            return Err(Error::Version { ours: VERSION, theirs: version });
        }
        Ok(Self { version, build: BuildId(build) })
    }
}

/// The first frame of a worker: which child it is. The rest comes from the supervisor.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// The instance it was spawned for.
    pub instance: Instance,
    /// The incarnation it was spawned as.
    pub generation: Generation,
    /// What it found on its standard input.
    pub nonce: Nonce,
    /// Its own process id, for platforms whose sockets do not tell the peer's.
    pub pid: u32,
}

/// The one line that a child finds on its standard input, which then stays open as the leash.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Leash {
    /// Where to connect.
    pub socket: std::path::PathBuf,
    /// Which instance to be.
    pub instance: Instance,
    /// Which incarnation.
    pub generation: Generation,
    /// The nonce to show, in hexadecimal.
    pub nonce: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preamble_is_frozen() {
        let bytes = Preamble::ours(BuildId(*b"build-id-16bytes")).to_bytes();
        assert_eq!(&bytes, b"\x89HGW\x01\x06\x00\x00build-id-16bytes");
        assert_eq!(Preamble::check(&bytes).unwrap().build, BuildId(*b"build-id-16bytes"));
    }

    #[test]
    fn a_stranger_is_told_apart_from_another_version() {
        let good = Preamble::ours(BuildId([0; 16])).to_bytes();
        let mut other = good;
        other[5] = 9;
        assert!(matches!(Preamble::check(&other), Err(Error::Version { theirs: 9, .. })));
        let mut other = good;
        other[4] = 7;
        assert!(matches!(Preamble::check(&other), Err(Error::Conversation(7))));
        assert!(matches!(Preamble::check(b"GET / HTTP/1.1\r\nHost: x\r"), Err(Error::Magic)));
    }
}

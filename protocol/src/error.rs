//! What can be wrong with bytes that another process sent.

/// A link carried something that it may not carry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a preamble of ours.
    #[error("read preamble: these are not the first bytes of a hermes-gw link")]
    Magic,
    /// Another version of the frame protocol.
    #[error("read preamble: the other side speaks protocol version {theirs}, this one {ours}")]
    Version {
        /// Ours.
        ours: u16,
        /// Theirs.
        theirs: u16,
    },
    /// A conversation that this socket does not hold.
    #[error("read preamble: unknown conversation {0}")]
    Conversation(u8),
    /// A frame that announces more than the limit.
    #[error("read frame: {len} bytes announced, at most {max} are allowed")]
    Oversized {
        /// Bytes announced.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A frame whose bytes are not of its type.
    #[error("decode frame: {0}")]
    Decode(postcard::Error),
    /// Bytes left over after the value.
    #[error("decode frame: {0} bytes too many")]
    Trailing(usize),
    /// A value that cannot be written.
    #[error("encode frame: {0}")]
    Encode(postcard::Error),
    /// The stream ended inside a frame.
    #[error("read frame: the link ended inside a frame")]
    Torn,
    /// The stream failed.
    #[error("use link: {0}")]
    Io(#[from] std::io::Error),
}

//! An event as the bytes of its payload row: one byte of version, then postcard.
//!
//! postcard is positional, so a change of `Inbound` is a new version here, and the former one stays
//! readable as long as a store may hold it.

use protocol::event::Inbound;

const VERSION: u8 = 1;

/// The bytes of `event`.
pub(super) fn encode(event: &Inbound) -> Result<Vec<u8>, postcard::Error> {
    let mut bytes = Vec::with_capacity(256 + event.text.len() + event.raw.len());
    bytes.push(VERSION);
    postcard::to_extend(event, bytes)
}

/// The event in `bytes`, if this version of the program understands them.
pub(super) fn decode(bytes: &[u8]) -> Option<Inbound> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => match postcard::take_from_bytes(rest) {
            Ok((event, [])) => Some(event),
            _ => None,
        },
        _ => None,
    }
}

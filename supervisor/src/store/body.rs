//! An event as the bytes of its payload row: one byte of version, then postcard.
//!
//! postcard is positional, so a change of `Inbound` is a new version here, and the former one stays
//! readable as long as a store may hold it.

use postcard::ser_flavors::Flavor;
use protocol::event::Inbound;

const VERSION: u8 = 1;

/// The bytes of `event`.
pub(super) fn encode(event: &Inbound) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512 + event.text.len() + event.raw.len());
    bytes.push(VERSION);
    postcard::serialize_with_flavor(event, Bytes(bytes))
        .expect("a value whose sequences know their length always fits into a vector")
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

/// Appends: a payload is written byte by byte, and this is the quickest way to do that.
struct Bytes(Vec<u8>);

impl Flavor for Bytes {
    type Output = Vec<u8>;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Vec<u8>> {
        Ok(self.0)
    }
}

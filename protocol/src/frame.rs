//! One message as bytes: a length (u32, little-endian) and that many bytes of postcard.
//!
//! A frame is never trusted: the announced length is checked before anything is kept, the value must
//! use every byte, and any breach ends the link, because after one there is no way to find the start of
//! the next frame. postcard is positional, so both sides must have the same [`crate::hello::VERSION`].

use bytes::{Buf, BufMut, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// The largest payload of a frame, in bytes.
pub const MAX: usize = 1024 * 1024;
/// The largest event or reply. The rest of a frame is for what surrounds it: where it goes, what its agent noted,
/// how far it has come.
pub const CARRIED_MAX: usize = MAX - crate::event::NOTE_MAX - 8192;
const PREFIX: usize = 4;

/// Appends `value` as one frame to `out`. On an error `out` is as it was.
pub fn encode<T: Serialize>(value: &T, out: &mut BytesMut) -> Result<(), Error> {
    let start = out.len();
    out.put_u32_le(0);
    let result = postcard::serialize_with_flavor(value, Appender(out));
    let written = match result {
        Ok(()) => out.len() - start - PREFIX,
        Err(e) => {
            out.truncate(start);
            return Err(Error::Encode(e));
        }
    };
    if written > MAX {
        out.truncate(start);
        return Err(Error::Oversized { len: written, max: MAX });
    }
    let prefix = u32::try_from(written).expect("MAX fits into 32 bits").to_le_bytes();
    if let Some(slot) = out.get_mut(start..start + PREFIX) {
        slot.copy_from_slice(&prefix);
    }
    Ok(())
}

/// Takes the first whole frame out of `buffer`; `None`: more bytes are needed.
pub fn decode<T: DeserializeOwned>(buffer: &mut BytesMut) -> Result<Option<T>, Error> {
    let Some(prefix) = buffer.first_chunk::<PREFIX>() else { return Ok(None) };
    let len = u32::from_le_bytes(*prefix) as usize;
    if len > MAX {
        return Err(Error::Oversized { len, max: MAX });
    }
    if buffer.len() < PREFIX + len {
        buffer.reserve(PREFIX + len - buffer.len());
        return Ok(None);
    }
    buffer.advance(PREFIX);
    let payload = buffer.split_to(len);
    let (value, rest) = postcard::take_from_bytes(&payload).map_err(Error::Decode)?;
    if rest.is_empty() { Ok(Some(value)) } else { Err(Error::Trailing(rest.len())) }
}

/// The bytes that `value` takes in a frame, without its length prefix.
pub fn size<T: Serialize>(value: &T) -> Result<usize, Error> {
    postcard::experimental::serialized_size(value).map_err(Error::Encode)
}

struct Appender<'a>(&'a mut BytesMut);

impl postcard::ser_flavors::Flavor for Appender<'_> {
    type Output = ();
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.put_u8(byte);
        Ok(())
    }
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.put_slice(bytes);
        Ok(())
    }
    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

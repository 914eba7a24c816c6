//! The frame of Feishu's long connection: proto2, package `pbbp2`, one frame a binary message.
//!
//! Four fields of a frame and both fields of a header are *required*: they are on the wire even when they are zero, and
//! a proto2 peer refuses a frame without them. prost writes them because of the `required` attribute, but it reads
//! leniently, so [`decode`] first walks the bytes and refuses what the real platform would refuse.

use prost::Message as _;

/// Control frames carry ping and pong.
pub const CONTROL: i32 = 0;
/// Data frames carry events, and the answers to them.
pub const DATA: i32 = 1;

/// One key and value of a frame. Keys may repeat; the first one counts.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Header {
    #[prost(string, required, tag = "1")]
    pub key: String,
    #[prost(string, required, tag = "2")]
    pub value: String,
}

/// One frame.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Frame {
    #[prost(uint64, required, tag = "1")]
    pub seq_id: u64,
    #[prost(uint64, required, tag = "2")]
    pub log_id: u64,
    #[prost(int32, required, tag = "3")]
    pub service: i32,
    #[prost(int32, required, tag = "4")]
    pub method: i32,
    #[prost(message, repeated, tag = "5")]
    pub headers: Vec<Header>,
    #[prost(string, optional, tag = "6")]
    pub payload_encoding: Option<String>,
    #[prost(string, optional, tag = "7")]
    pub payload_type: Option<String>,
    #[prost(bytes = "vec", optional, tag = "8")]
    pub payload: Option<Vec<u8>>,
    #[prost(string, optional, tag = "9")]
    pub log_id_new: Option<String>,
}

impl Frame {
    /// The value of the first header with this key.
    pub fn header(&self, key: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.key == key).map(|header| header.value.as_str())
    }

    /// Appends a header.
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.headers.push(Header { key: key.to_owned(), value: value.into() });
        self
    }

    /// The bytes of one binary message.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_to_vec()
    }
}

/// Reads one frame as a strict proto2 peer does.
///
/// The error says what is wrong, in words: a missing required field, or bytes that are no frame.
pub fn decode(bytes: &[u8]) -> Result<Frame, String> {
    for (number, name) in [(1, "SeqID"), (2, "LogID"), (3, "service"), (4, "method")] {
        if !has_field(bytes, number)? {
            return Err(format!("the frame lacks the required field {name}"));
        }
    }
    let mut rest = bytes;
    while let Some((number, header)) = next_field(&mut rest)? {
        if number != 5 {
            continue;
        }
        for (number, name) in [(1, "key"), (2, "value")] {
            if !has_field(header, number)? {
                return Err(format!("a header lacks the required field {name}"));
            }
        }
    }
    Frame::decode(bytes).map_err(|error| format!("no frame: {error}"))
}

fn has_field(mut bytes: &[u8], wanted: u64) -> Result<bool, String> {
    while let Some((number, _)) = next_field(&mut bytes)? {
        if number == wanted {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Takes one field off the front: its number, and its content when it is length-delimited.
fn next_field<'a>(bytes: &mut &'a [u8]) -> Result<Option<(u64, &'a [u8])>, String> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let key = varint(bytes)?;
    let content = match key & 7 {
        0 => {
            varint(bytes)?;
            [].as_slice()
        }
        1 => take(bytes, 8)?,
        2 => {
            let length = varint(bytes)?;
            take(bytes, length)?
        }
        5 => take(bytes, 4)?,
        other => return Err(format!("no frame: wire type {other}")),
    };
    Ok(Some((key >> 3, content)))
}

fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8], String> {
    let split = usize::try_from(length).ok().and_then(|length| bytes.split_at_checked(length));
    let Some((taken, rest)) = split else {
        return Err("no frame: it ends inside a field".to_owned());
    };
    *bytes = rest;
    Ok(taken)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let Some((&byte, rest)) = bytes.split_first() else {
            return Err("no frame: it ends inside a number".to_owned());
        };
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("no frame: a number of more than ten bytes".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{CONTROL, Frame, decode};

    #[test]
    fn zeros_are_on_the_wire() {
        assert_eq!(Frame::default().encode(), [8, 0, 16, 0, 24, 0, 32, 0]);
    }

    #[test]
    fn every_required_field_is_required() {
        let whole =
            Frame { seq_id: 7, log_id: u64::MAX, service: -1, method: CONTROL, ..Frame::default() }
                .with("type", "ping");
        assert_eq!(decode(&whole.encode()), Ok(whole));
        for (bytes, name) in [
            (&[16, 0, 24, 0, 32, 0][..], "SeqID"),
            (&[8, 0, 24, 0, 32, 0], "LogID"),
            (&[8, 0, 16, 0, 32, 0], "service"),
            (&[8, 0, 16, 0, 24, 0], "method"),
            (&[8, 0, 16, 0, 24, 0, 32, 0, 42, 3, 10, 1, b'k'], "value"),
            (&[8, 0, 16, 0, 24, 0, 32, 0, 42, 3, 18, 1, b'v'], "key"),
        ] {
            let error = decode(bytes).expect_err(name);
            assert!(error.ends_with(&format!("lacks the required field {name}")), "{error}");
        }
    }

    #[test]
    fn cut_bytes_are_no_frame() {
        let bytes = Frame { payload: Some(b"abc".to_vec()), ..Frame::default() }.encode();
        let optional = Frame::default().encode().len();
        for end in (0..bytes.len()).filter(|end| *end != optional) {
            assert!(decode(&bytes[..end]).is_err(), "{end}");
        }
        assert!(decode(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
    }
}

//! One frame of the long connection: what it looks like on the wire, and the two that we send.
//!
//! The schema is proto2 with required fields, so zero values must be on the wire; a proto3 encoder
//! would leave them out and the platform would refuse the frame. Headers are a list, not a map: their
//! order is kept, and of two with the same key the first counts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use prost::Message as _;

/// A frame of pings, pongs and settings.
pub(super) const CONTROL: i32 = 0;
/// A frame of events and answers.
pub(super) const DATA: i32 = 1;

/// One header of a frame.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Header {
    #[prost(string, required, tag = "1")]
    pub(super) key: String,
    #[prost(string, required, tag = "2")]
    pub(super) value: String,
}

/// One frame. Everything that the platform put into it goes back with the answer.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Frame {
    #[prost(uint64, required, tag = "1")]
    pub(super) seq_id: u64,
    #[prost(uint64, required, tag = "2")]
    pub(super) log_id: u64,
    #[prost(int32, required, tag = "3")]
    pub(super) service: i32,
    #[prost(int32, required, tag = "4")]
    pub(super) method: i32,
    #[prost(message, repeated, tag = "5")]
    pub(super) headers: Vec<Header>,
    #[prost(string, optional, tag = "6")]
    pub(super) payload_encoding: Option<String>,
    #[prost(string, optional, tag = "7")]
    pub(super) payload_type: Option<String>,
    #[prost(bytes = "vec", optional, tag = "8")]
    pub(super) payload: Option<Vec<u8>>,
    #[prost(string, optional, tag = "9")]
    pub(super) log_id_new: Option<String>,
}

/// The required fields once more: prost takes an absent one for zero, and empty bytes for a frame.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Required {
    #[prost(uint64, optional, tag = "1")]
    seq_id: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    log_id: Option<u64>,
    #[prost(int32, optional, tag = "3")]
    service: Option<i32>,
    #[prost(int32, optional, tag = "4")]
    method: Option<i32>,
}

impl Required {
    fn are_in(bytes: &[u8]) -> bool {
        Self::decode(bytes).is_ok_and(|it| {
            it.seq_id.and(it.log_id).is_some() && it.service.and(it.method).is_some()
        })
    }
}

impl Frame {
    /// Reads one; `None` if these bytes are none.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        Self::decode(bytes).ok().filter(|_| Required::are_in(bytes))
    }

    /// The bytes of it.
    pub(super) fn write(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    /// The value of the first header with this key.
    pub(super) fn header(&self, key: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.key == key).map(|header| header.value.as_str())
    }

    /// A ping of the connection that belongs to `service`.
    pub(super) fn ping(service: i32) -> Self {
        let kind = Header { key: "type".to_owned(), value: "ping".to_owned() };
        Self { service, method: CONTROL, headers: vec![kind], ..Self::default() }
    }

    /// The answer that this frame arrived and need not be repeated, after `took_ms`; with `data`, which
    /// is JSON, for what waits for some.
    pub(super) fn into_answer(mut self, took_ms: u128, data: Option<&[u8]>) -> Self {
        self.headers.push(Header { key: "biz_rt".to_owned(), value: took_ms.to_string() });
        self.payload = Some(match data {
            None => br#"{"code":200}"#.to_vec(),
            Some(data) => {
                format!(r#"{{"code":200,"data":"{}"}}"#, BASE64.encode(data)).into_bytes()
            }
        });
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PING: &[u8] = b"\x08\0\x10\0\x18\x07\x20\0\x2a\x0c\x0a\x04type\x12\x04ping";
    const PONG: &[u8] =
        b"\x08\0\x10\0\x18\x07\x20\0\x2a\x0c\x0a\x04type\x12\x04pong\x42\x14{\"PingInterval\":120}";
    const EVENT: &[u8] = b"\x08\x01\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x18\x07\x20\x01\
        \x2a\x0d\x0a\x04type\x12\x05event\x2a\x08\x0a\x03sum\x12\x011\x32\x04json\x42\x02{}\x4a\x03abc";
    const ANSWER: &[u8] = b"\x08\x01\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x18\x07\x20\x01\
        \x2a\x0d\x0a\x04type\x12\x05event\x2a\x08\x0a\x03sum\x12\x011\x2a\x0c\x0a\x06biz_rt\x12\x0212\
        \x32\x04json\x42\x0c{\"code\":200}\x4a\x03abc";

    #[test]
    fn a_ping_has_its_zeros_on_the_wire() {
        assert_eq!(Frame::ping(7).write(), PING);
        assert_eq!(Frame::read(PING), Some(Frame::ping(7)));
    }

    #[test]
    fn a_pong_carries_settings() {
        let pong = Frame::read(PONG).unwrap();
        assert_eq!((pong.method, pong.header("type")), (CONTROL, Some("pong")));
        assert_eq!(pong.payload.as_deref(), Some(&br#"{"PingInterval":120}"#[..]));
        assert_eq!(pong.write(), PONG);
    }

    #[test]
    fn an_answer_is_the_event_with_two_changes() {
        let event = Frame::read(EVENT).unwrap();
        assert_eq!((event.method, event.log_id), (DATA, u64::MAX));
        assert_eq!(event.write(), EVENT);
        assert_eq!(event.into_answer(12, None).write(), ANSWER);
    }

    #[test]
    fn what_waits_for_data_gets_it_in_base64() {
        let answer = Frame::read(EVENT).unwrap().into_answer(12, Some(b"{}"));
        assert_eq!(answer.payload.as_deref(), Some(&br#"{"code":200,"data":"e30="}"#[..]));
    }

    #[test]
    fn the_first_header_of_a_key_counts() {
        let mut frame = Frame::ping(1);
        frame.headers.push(Header { key: "type".to_owned(), value: "later".to_owned() });
        assert_eq!(frame.header("type"), Some("ping"));
        assert_eq!(frame.header("none"), None);
    }

    #[test]
    fn a_frame_without_a_required_field_is_none() {
        assert_eq!(Frame::read(b""), None);
        for field in [0..2, 2..4, 4..6, 6..8] {
            let mut bytes = PING.to_vec();
            bytes.drain(field);
            assert_eq!(Frame::read(&bytes), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Frame::read(&bytes);
        }

        #[test]
        fn nor_do_cut_or_flipped_ones(cut in 0..=EVENT.len(), at in 0..EVENT.len(), flip in 1..=255u8) {
            let _ = Frame::read(&EVENT[..cut]);
            let mut bytes = EVENT.to_vec();
            bytes[at] ^= flip;
            if let Some(frame) = Frame::read(&bytes) {
                let _ = Frame::read(&frame.into_answer(1, None).write()).expect("what we write can be read");
            }
        }
    }
}

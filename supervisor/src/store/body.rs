//! An event as the bytes of its payload row, and what a reply has besides its text: one byte of version,
//! then postcard.
//!
//! postcard is positional, so a change of `Inbound` or `Content` is a new version here, and the former
//! one stays readable as long as a store may hold it.

use postcard::ser_flavors::Flavor;
use protocol::content::{Act, Button, Content, File};
use protocol::event::{ChatType, Inbound, InboundKind, Mention, Part, Sender};
use serde::{Deserialize, Serialize};

const VERSION: u8 = 3;
const REST_VERSION: u8 = 1;

/// What a reply has besides its text: act, files, buttons, card.
type Rest = (Act, Vec<File>, Vec<Vec<Button>>, Option<String>);

/// The bytes of `event`.
pub(super) fn encode(event: &Inbound) -> Vec<u8> {
    let bytes = Vec::with_capacity(512 + event.text.len() + event.raw.len());
    serialize(VERSION, event, bytes)
}

/// The event in `bytes`, if this version of the program understands them.
pub(super) fn decode(bytes: &[u8]) -> Option<Inbound> {
    match bytes.split_first()? {
        (&VERSION, rest) => whole(rest),
        // Version 2 is the same without the last member, which nothing was.
        (2, rest) => {
            let mut padded = rest.to_vec();
            padded.push(0);
            whole(&padded)
        }
        (1, rest) => whole::<First>(rest).map(Inbound::from),
        _ => None,
    }
}

/// What `content` has besides its text; `None`: nothing.
pub(super) fn encode_rest(content: &Content) -> Option<Vec<u8>> {
    let Content { act, text: _, files, buttons, card } = content;
    let rest = (act, files, buttons, card);
    (!content.is_plain()).then(|| serialize(REST_VERSION, &rest, Vec::new()))
}

/// The content that says `text` and has `rest`, if this version of the program understands it.
pub(super) fn decode_rest(text: String, rest: Option<&[u8]>) -> Option<Content> {
    let Some(rest) = rest else { return Some(Content::text(text)) };
    match rest.split_first()? {
        (&REST_VERSION, rest) => {
            let (act, files, buttons, card) = whole::<Rest>(rest)?;
            Some(Content { act, text, files, buttons, card })
        }
        _ => None,
    }
}

fn serialize<T: Serialize>(version: u8, value: &T, mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.push(version);
    postcard::serialize_with_flavor(value, Bytes(bytes))
        .expect("a value whose sequences know their length always fits into a vector")
}

fn whole<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}

/// An event of version 1.
#[derive(Deserialize)]
struct First {
    kind: InboundKind,
    keys: Vec<String>,
    origin_ms: i64,
    chat_id: String,
    chat_type: ChatType,
    thread_id: Option<String>,
    message_id: Option<String>,
    reply_to: Option<String>,
    sender: Sender,
    mention: Mention,
    text: String,
    parts: Vec<FirstPart>,
    #[serde(with = "serde_bytes")]
    raw: Vec<u8>,
}

#[derive(Deserialize)]
struct FirstPart {
    kind: String,
    handle: String,
    name: Option<String>,
}

impl From<First> for Inbound {
    fn from(first: First) -> Self {
        let part =
            |FirstPart { kind, handle, name }| Part { kind, handle, name, size: None, mime: None };
        Self {
            kind: first.kind,
            keys: first.keys,
            origin_ms: first.origin_ms,
            chat_id: first.chat_id,
            chat_type: first.chat_type,
            thread_id: first.thread_id,
            message_id: first.message_id,
            reply_to: first.reply_to,
            sender: first.sender,
            mention: first.mention,
            text: first.text,
            parts: first.parts.into_iter().map(part).collect(),
            raw: first.raw,
            chat_name: None,
            quote: None,
            album: None,
        }
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

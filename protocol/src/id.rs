//! Names and numbers that cross a process boundary, each a type of its own.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest instance name, in bytes. It becomes part of socket paths, which are short.
pub const INSTANCE_MAX: usize = 32;

/// The name of a configured account or endpoint: `feishu`, `telegram-work`, `hermes`.
///
/// Lower-case letters, digits, `-` and `_`, starting with a letter or digit, at most
/// [`INSTANCE_MAX`] bytes: safe in a path, a shell and a log line.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Instance(String);

/// Why a text is no instance name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "an instance name has 1 to 32 characters a-z, 0-9, - or _, and starts with a letter or digit"
)]
pub struct BadInstance;

impl Instance {
    /// Checks `name`.
    pub fn new(name: impl Into<String>) -> Result<Self, BadInstance> {
        let name = name.into();
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let ok = name.len() <= INSTANCE_MAX
            && name.bytes().next().is_some_and(plain)
            && name.bytes().all(|c| plain(c) || c == b'-' || c == b'_');
        if ok { Ok(Self(name)) } else { Err(BadInstance) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for Instance {
    type Error = BadInstance;
    fn try_from(name: String) -> Result<Self, BadInstance> {
        Self::new(name)
    }
}

impl From<Instance> for String {
    fn from(instance: Instance) -> Self {
        instance.0
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize,
        )]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// An accepted event, for as long as its store lives: never reused, the same in every delivery.
    EventId
}
number! {
    /// An accepted reply, likewise.
    OutboundId
}
number! {
    /// One incarnation of a worker. It grows with each spawn of the same instance.
    Generation
}
number! {
    /// What a worker calls something until the supervisor answers. Fresh for each link.
    Seq
}

/// What was set aside until a person decides: an event, `e17`, or a reply, `r5`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ParkedId {
    /// An event that no attempt could hand over.
    Event(EventId),
    /// A reply that failed, or that nobody knows the end of.
    Reply(OutboundId),
}

impl fmt::Display for ParkedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(id) => write!(f, "e{id}"),
            Self::Reply(id) => write!(f, "r{id}"),
        }
    }
}

impl std::str::FromStr for ParkedId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |digits: &str| digits.parse().ok();
        let event = text.strip_prefix('e').and_then(number).map(|n| Self::Event(EventId(n)));
        let reply = || text.strip_prefix('r').and_then(number).map(|n| Self::Reply(OutboundId(n)));
        event.or_else(reply).ok_or_else(|| format!("{text:?} is no id such as e17 or r5"))
    }
}

impl TryFrom<String> for ParkedId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ParkedId> for String {
    fn from(id: ParkedId) -> Self {
        id.to_string()
    }
}

/// What a new worker shows to prove that it is the child that was just spawned. Used once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nonce(pub [u8; 16]);

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce(***)")
    }
}

impl Nonce {
    /// Lower-case hexadecimal, 32 characters.
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }

    /// The reverse of [`Nonce::to_hex`].
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        if text.len() != 32 || !text.is_ascii() {
            return None;
        }
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// Compares in a time that does not depend on where the two differ.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).fold(0, |acc, (a, b)| acc | (a ^ b)) == 0
    }
}

/// Bytes as lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |n: u8| char::from_digit(u32::from(n), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// One conversation: what happens inside it stays in order, what happens in another does not wait.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Lane {
    /// The account that heard it.
    pub instance: Instance,
    /// The platform's own id of the chat.
    pub chat_id: String,
    /// The platform's own id of a thread or topic within the chat.
    pub thread_id: Option<String>,
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.instance, self.chat_id)?;
        match &self.thread_id {
            Some(thread) => write!(f, "/{thread}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instance_names_are_safe_in_paths() {
        for good in ["feishu", "a", "telegram-work_2", "0day"] {
            assert!(Instance::new(good).is_ok(), "{good}");
        }
        let long = "a".repeat(INSTANCE_MAX + 1);
        for bad in ["", "-a", "_a", "A", "a b", "a/b", "..", "ä", long.as_str()] {
            assert!(Instance::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nonces_survive_hex_and_hide_in_debug() {
        let nonce = Nonce(*b"0123456789abcdef");
        assert!(Nonce::from_hex(&nonce.to_hex()).unwrap().matches(&nonce));
        assert!(Nonce::from_hex("zz").is_none());
        assert!(!format!("{nonce:?}").contains("30"));
    }
}

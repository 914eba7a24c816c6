//! How the platform seals what it posts: AES-256 in CBC mode under a hash of the encrypt key, and a
//! signature over the bytes as they are on the wire. Pure.

use aes::Aes256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use cbc::Decryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockDecryptMut as _, KeyIvInit as _};
use protocol::worker::Secret;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};

const BLOCK: usize = 16;

/// What opens it.
pub(super) struct Seal {
    encrypt_key: Secret,
    key: [u8; 32],
}

impl Seal {
    /// With the app's encrypt key.
    pub(super) fn new(encrypt_key: &Secret) -> Self {
        let hash = digest(&SHA256, encrypt_key.expose().as_bytes());
        let mut key = [0; 32];
        key.copy_from_slice(hash.as_ref());
        Self { encrypt_key: encrypt_key.clone(), key }
    }

    /// What is sealed in it; the first block sets the others off. `None`: another key, or nonsense.
    pub(super) fn open(&self, sealed: &str) -> Option<Vec<u8>> {
        let bytes = BASE64.decode(sealed).ok()?;
        let (start, sealed) = bytes.split_at_checked(BLOCK)?;
        if sealed.is_empty() || !sealed.len().is_multiple_of(BLOCK) {
            return None;
        }
        let opener = Decryptor::<Aes256>::new_from_slices(&self.key, start).ok()?;
        opener.decrypt_padded_vec_mut::<Pkcs7>(sealed).ok()
    }

    /// What the signature of a request must be.
    pub(super) fn signature(&self, timestamp: &str, nonce: &str, body: &[u8]) -> String {
        let mut context = Context::new(&SHA256);
        for part in [timestamp, nonce, self.encrypt_key.expose()] {
            context.update(part.as_bytes());
        }
        context.update(body);
        protocol::id::hex(context.finish().as_ref())
    }
}

/// What the signature of a pressed card of old must be.
pub(super) fn old_signature(timestamp: &str, nonce: &str, token: &str, body: &[u8]) -> String {
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    for part in [timestamp, nonce, token] {
        context.update(part.as_bytes());
    }
    context.update(body);
    protocol::id::hex(context.finish().as_ref())
}

/// Whether both are the same, in a time that does not tell how far they are.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    let differ = a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b));
    a.len() == b.len() && std::hint::black_box(differ) == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example in the platform's documentation of events: key `test key`, content `hello world`.
    #[test]
    fn the_documented_example_opens() {
        let seal = Seal::new(&Secret::new("test key"));
        let sealed = "P37w+VZImNgPEO1RBhJ6RtKl7n6zymIbEG1pReEzghk=";
        assert_eq!(seal.open(sealed).as_deref(), Some(&b"hello world"[..]));
        assert_eq!(Seal::new(&Secret::new("another")).open(sealed), None);
    }

    #[test]
    fn signatures_are_over_everything() {
        let seal = Seal::new(&Secret::new("k"));
        let good = seal.signature("1", "n", b"body");
        assert_eq!(good.len(), 64);
        let others = [
            seal.signature("2", "n", b"body"),
            seal.signature("1", "m", b"body"),
            seal.signature("1", "n", b"bodz"),
        ];
        assert!(others.iter().all(|other| !same(good.as_bytes(), other.as_bytes())));
        assert_eq!(old_signature("1", "n", "t", b"").len(), 40);
        assert!(same(b"", b"") && same(b"a", b"a") && !same(b"a", b"b") && !same(b"a", b"ab"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[A-Za-z0-9+/=]{0,200}|\\PC{0,60}") {
            let _ = Seal::new(&Secret::new("k")).open(&text);
        }
    }
}

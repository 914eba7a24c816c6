//! A key of an event as 128 bits: SipHash-2-4 with the store's own random key.
//!
//! Keyed, so that nobody who chooses texts can make two of them equal; 128 bits, so that chance does
//! not either (at a million keys: once in 10²⁶ events).

use std::hash::Hasher;

use protocol::id::{Instance, hex};
use siphasher::sip128::{Hasher128, SipHasher24};

/// The random key of a store.
#[derive(Clone, Copy)]
pub(in super::super) struct HashKey(u64, u64);

impl std::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashKey(***)")
    }
}

impl HashKey {
    pub(super) fn new(bytes: [u8; 16]) -> Self {
        let both = u128::from_le_bytes(bytes);
        Self(low(both), low(both >> 64))
    }

    /// The hash of a key of an event of `instance`, whose name holds no zero.
    pub(in super::super) fn hash(self, instance: &Instance, key: &str) -> u128 {
        self.digest(&[instance.as_str().as_bytes(), &[0], key.as_bytes()])
    }

    /// A name that no instance can have keeps it apart from the keys of events.
    pub(in super::super) fn view_token(self) -> String {
        hex(&self.digest(&[&[0], b"view"]).to_be_bytes())
    }

    fn digest(self, parts: &[&[u8]]) -> u128 {
        let mut state = SipHasher24::new_with_keys(self.0, self.1);
        for part in parts {
            state.write(part);
        }
        state.finish128().as_u128()
    }
}

/// The lower half.
pub(super) fn low(hash: u128) -> u64 {
    u64::try_from(hash & u128::from(u64::MAX)).unwrap_or(0)
}

/// For sets of hashes: they need no further hashing.
#[derive(Default)]
pub(super) struct Ready(u64);

impl Hasher for Ready {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u128(&mut self, hash: u128) {
        self.0 = low(hash);
    }
}

/// Hashes as bytes of a row.
pub(super) fn pack(hashes: &[u128]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.to_le_bytes()).collect()
}

/// The reverse of [`pack`].
pub(super) fn unpack(bytes: &[u8]) -> impl Iterator<Item = u128> {
    bytes.chunks_exact(16).filter_map(|one| one.try_into().ok().map(u128::from_le_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_key_never_changes() {
        let key = HashKey::new(std::array::from_fn(|i| u8::try_from(i).unwrap()));
        // Eight bytes, 0 to 7: a vector of the algorithm's reference (SipHash-2-4, 128 bits). What
        // stores hold would be worth nothing if this changed.
        let eight = key.digest(&[&[0, 1, 2], &[3, 4, 5, 6, 7]]);
        assert_eq!(eight.to_le_bytes()[..4], [0x3b, 0x62, 0xa9, 0xba]);
        let instance = |name: &str| Instance::new(name).unwrap();
        assert_ne!(key.hash(&instance("a"), "a"), key.hash(&instance("b"), "a"));
        assert_ne!(key.hash(&instance("a"), "a"), key.hash(&instance("a"), "a\0"));
        assert_ne!(key.hash(&instance("aa"), "a"), key.hash(&instance("a"), "aa"));
    }

    #[test]
    fn hashes_survive_a_row() {
        let hashes = [1, u128::MAX, 7 << 100];
        assert_eq!(unpack(&pack(&hashes)).collect::<Vec<_>>(), hashes);
    }
}

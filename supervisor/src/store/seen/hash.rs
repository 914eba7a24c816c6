//! A key of an event as 128 bits: SipHash-2-4 with the store's own random key.
//!
//! Keyed, so that nobody who chooses texts can make two of them equal; 128 bits, so that chance does
//! not either (at a million keys: once in 10²⁶ events).

use std::hash::Hasher;

/// The random key of a store.
#[derive(Clone, Copy)]
pub(super) struct HashKey(u64, u64);

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

    /// The hash of a key of an event of `instance`.
    pub(super) fn hash(self, instance: i64, key: &str) -> u128 {
        let mut state = State::new(self);
        state.word(instance.cast_unsigned());
        let mut words = key.as_bytes().chunks_exact(8);
        for word in words.by_ref() {
            state.word(word.try_into().map_or(0, u64::from_le_bytes));
        }
        state.end(words.remainder(), key.len() + 8)
    }
}

struct State([u64; 4]);

impl State {
    fn new(HashKey(k0, k1): HashKey) -> Self {
        Self([
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ])
    }

    fn rounds(&mut self, times: usize) {
        let [mut a, mut b, mut c, mut d] = self.0;
        for _ in 0..times {
            a = a.wrapping_add(b);
            c = c.wrapping_add(d);
            b = b.rotate_left(13) ^ a;
            d = d.rotate_left(16) ^ c;
            a = a.rotate_left(32);
            c = c.wrapping_add(b);
            a = a.wrapping_add(d);
            b = b.rotate_left(17) ^ c;
            d = d.rotate_left(21) ^ a;
            c = c.rotate_left(32);
        }
        self.0 = [a, b, c, d];
    }

    fn word(&mut self, word: u64) {
        let [.., d] = &mut self.0;
        *d ^= word;
        self.rounds(2);
        let [a, ..] = &mut self.0;
        *a ^= word;
    }

    fn end(mut self, rest: &[u8], length: usize) -> u128 {
        let mut last = (length as u64) << 56;
        for (at, byte) in rest.iter().enumerate() {
            last |= u64::from(*byte) << (8 * at);
        }
        self.word(last);
        let [_, _, c, _] = &mut self.0;
        *c ^= 0xee;
        self.rounds(4);
        let first = self.fold();
        let [_, b, ..] = &mut self.0;
        *b ^= 0xdd;
        self.rounds(4);
        u128::from(first) | u128::from(self.fold()) << 64
    }

    fn fold(&self) -> u64 {
        self.0.iter().fold(0, |sum, word| sum ^ word)
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
    fn it_is_siphash_2_4_of_128_bits() {
        let key = HashKey::new(std::array::from_fn(|i| u8::try_from(i).unwrap()));
        // The reference's vectors: of no byte, and of the bytes 0 to 14.
        let empty = State::new(key).end(&[], 0);
        assert_eq!(empty.to_le_bytes()[..4], [0xa3, 0x81, 0x7f, 0x04]);
        assert_eq!(empty.to_le_bytes()[12..], [0xc7, 0x55, 0x02, 0x93]);
        assert_ne!(key.hash(1, "a"), key.hash(2, "a"));
        assert_ne!(key.hash(1, "a"), key.hash(1, "a\0"));
    }

    #[test]
    fn hashes_survive_a_row() {
        let hashes = [1, u128::MAX, 7 << 100];
        assert_eq!(unpack(&pack(&hashes)).collect::<Vec<_>>(), hashes);
    }
}

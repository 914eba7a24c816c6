//! Whether a part may hold a hash: *no* is certain, *yes* is wrong for fewer than 1 in 100.
//!
//! A Bloom filter of 12 bits a key and 6 places. The hashes are uniform already, so their halves give
//! the places.

use super::hash::low;

const BITS_PER_KEY: usize = 12;
const PLACES: u64 = 6;

#[derive(Debug)]
pub(super) struct Filter(Box<[u64]>);

impl Filter {
    pub(super) fn of(hashes: &[u128]) -> Self {
        let words = (hashes.len() * BITS_PER_KEY).div_ceil(64).max(1);
        let mut filter = Self(vec![0; words].into_boxed_slice());
        for hash in hashes {
            for (word, bit) in filter.places(*hash) {
                if let Some(word) = filter.0.get_mut(word) {
                    *word |= bit;
                }
            }
        }
        filter
    }

    pub(super) fn may_hold(&self, hash: u128) -> bool {
        self.places(hash).all(|(word, bit)| self.0.get(word).is_none_or(|word| word & bit != 0))
    }

    fn places(&self, hash: u128) -> impl Iterator<Item = (usize, u64)> + use<> {
        let bits = u64::try_from(self.0.len()).unwrap_or(1) * 64;
        let (first, step) = (low(hash), low(hash >> 64) | 1);
        (0..PLACES).map(move |n| {
            // The upper bits of a product spread over the range without a division.
            let at = first.wrapping_add(n.wrapping_mul(step));
            let place = low((u128::from(at) * u128::from(bits)) >> 64);
            (usize::try_from(place / 64).unwrap_or(0), 1 << (place % 64))
        })
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Bytes of no filter make one that says *maybe* to everything.
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        Self(
            bytes
                .chunks_exact(8)
                .filter_map(|w| w.try_into().ok().map(u64::from_le_bytes))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_denies_what_it_holds_and_seldom_claims_what_it_does_not() {
        let mix = |n: u128| {
            let n = n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            (n ^ (n >> 61)).wrapping_mul(0xd6e8_feb8_6659_fd93_a076_1d64_78bd_642f)
        };
        let hashes: Vec<u128> = (1..20_000).map(mix).collect();
        let filter = Filter::from_bytes(&Filter::of(&hashes).to_bytes());
        assert!(hashes.iter().all(|hash| filter.may_hold(*hash)));
        let wrong = (20_000..40_000).filter(|n| filter.may_hold(mix(*n))).count();
        assert!(wrong < 200, "{wrong} of 20000");
        assert!(Filter::from_bytes(&[]).may_hold(7));
    }
}

//! Which parts may hold a hash: *no* is certain, *yes* is wrong for fewer than 1 in 200.
//!
//! A Bloom filter of 12 bits a key and 6 places for each part. They are held bit-sliced: a word has the
//! bits of one place of 8 filters, so that one look at a few words answers for 8 parts, and a new key
//! costs nearly the same with a hundred parts as with one.

use super::hash::low;

/// Bits of a filter, for parts of about 26 000 keys.
const BITS: usize = 311_808;
const PLACES: u64 = 6;
/// Filters side by side in a word.
const ABREAST: usize = 8;

/// The filter of one part.
#[derive(Debug)]
pub(super) struct Filter(Box<[u64]>);

impl Filter {
    pub(super) fn of(hashes: &[u128]) -> Self {
        let mut filter = Self(vec![0; BITS / 64].into_boxed_slice());
        for place in hashes.iter().flat_map(|hash| places(*hash)) {
            if let Some(word) = filter.0.get_mut(place / 64) {
                *word |= 1 << (place % 64);
            }
        }
        filter
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Bytes of no filter make one that says *maybe* to everything.
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        if bytes.len() != BITS / 8 {
            return Self(vec![u64::MAX; BITS / 64].into_boxed_slice());
        }
        let words = bytes.chunks_exact(8).filter_map(|word| word.try_into().ok());
        Self(words.map(u64::from_le_bytes).collect())
    }
}

/// The filters of all parts, which are known by their numbers.
#[derive(Debug, Default)]
pub(super) struct Filters(Vec<Sheet>);

#[derive(Debug)]
struct Sheet {
    parts: [Option<i64>; ABREAST],
    words: Box<[u8]>,
}

impl Filters {
    pub(super) fn add(&mut self, part: i64, filter: &Filter) {
        let free = |sheet: &Sheet| sheet.parts.iter().position(Option::is_none);
        let found = self.0.iter_mut().find_map(|sheet| free(sheet).map(|at| (at, sheet)));
        let Some((at, sheet)) = found else {
            let words = vec![0; BITS].into_boxed_slice();
            self.0.push(Sheet { parts: [None; ABREAST], words });
            return self.add(part, filter);
        };
        for (group, bits) in sheet.words.chunks_exact_mut(64).zip(&filter.0) {
            for (n, word) in group.iter_mut().enumerate() {
                *word = *word & !(1 << at) | u8::from(bits >> n & 1 == 1) << at;
            }
        }
        if let Some(place) = sheet.parts.get_mut(at) {
            *place = Some(part);
        }
    }

    pub(super) fn remove(&mut self, part: i64) {
        for place in self.0.iter_mut().flat_map(|sheet| &mut sheet.parts) {
            if *place == Some(part) {
                *place = None;
            }
        }
        self.0.retain(|sheet| sheet.parts.iter().any(Option::is_some));
    }

    /// The parts that may hold a hash.
    pub(super) fn may_hold(&self, hash: u128) -> impl Iterator<Item = i64> {
        self.0.iter().flat_map(move |sheet| {
            let mut maybe = u8::MAX;
            for place in places(hash) {
                maybe &= sheet.words.get(place).copied().unwrap_or(u8::MAX);
                if maybe == 0 {
                    break;
                }
            }
            let parts = sheet.parts.iter().enumerate();
            parts.filter(move |(at, _)| maybe >> at & 1 == 1).filter_map(|(_, part)| *part)
        })
    }
}

/// Where the bits of a hash are. Hashes are uniform already, so their halves give the places.
fn places(hash: u128) -> impl Iterator<Item = usize> {
    let (first, step) = (low(hash), low(hash >> 64) | 1);
    (0..PLACES).map(move |n| {
        // The upper bits of a product spread over the range without a division.
        let at = first.wrapping_add(n.wrapping_mul(step));
        usize::try_from((u128::from(at) * BITS as u128) >> 64).unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mix(n: u128) -> u128 {
        let n = n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        (n ^ (n >> 61)).wrapping_mul(0xd6e8_feb8_6659_fd93_a076_1d64_78bd_642f)
    }

    fn part(no: i64) -> Vec<u128> {
        let first = u128::try_from(no).unwrap() * 26_000;
        (first..first + 26_000).map(mix).collect()
    }

    #[test]
    fn they_never_deny_what_a_part_holds_and_seldom_claim_what_none_does() {
        let mut filters = Filters::default();
        for no in 1..20 {
            let filter = Filter::from_bytes(&Filter::of(&part(no)).to_bytes());
            filters.add(no, &filter);
        }
        for no in 1..20 {
            for hash in part(no).into_iter().step_by(100) {
                assert!(filters.may_hold(hash).any(|found| found == no));
            }
        }
        let wrong: usize = (1_000_000..1_010_000).map(|n| filters.may_hold(mix(n)).count()).sum();
        assert!(wrong < 19 * 50, "{wrong} of 19 times 10000");
    }

    #[test]
    fn a_removed_part_is_forgotten_and_its_place_is_clean_for_the_next() {
        let mut filters = Filters::default();
        for no in 1..=3 {
            filters.add(no, &Filter::of(&part(no)));
        }
        filters.remove(2);
        assert!(part(2).iter().all(|hash| filters.may_hold(*hash).all(|no| no != 2)));
        filters.add(4, &Filter::of(&part(4)));
        let former = part(2);
        let claimed = former.iter().filter(|hash| filters.may_hold(**hash).any(|no| no == 4));
        assert!(claimed.count() < 26_000 / 100);
        assert!(part(4).iter().all(|hash| filters.may_hold(*hash).any(|no| no == 4)));
        for no in [1, 3, 4] {
            filters.remove(no);
        }
        assert!(filters.0.is_empty());
    }

    #[test]
    fn bytes_that_are_no_filter_deny_nothing() {
        let mut filters = Filters::default();
        filters.add(1, &Filter::from_bytes(&[]));
        assert_eq!(filters.may_hold(7).collect::<Vec<_>>(), [1]);
    }
}

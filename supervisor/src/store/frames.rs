//! The write-ahead log as it lies on the disk (`fileformat2.html`, section 4): a head, then frames. A frame is
//! a page with its number, a mark if a commit ends with it, the salts of the head, and a sum over all that
//! stands before it.
//!
//! The sum of a frame goes on from the one that stands in the frame before it. So each frame can be checked
//! alone, and where one byte of it is wrong, the two words of the sum mostly tell which, and what it was.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::schema::PAGE_SIZE;

const PAGE: usize = PAGE_SIZE as usize;
const HEAD: usize = 32;
const FRAME_HEAD: usize = 24;
const FRAME: usize = FRAME_HEAD + PAGE;

/// The lowest bit: words are summed with their high byte first.
const MAGIC: u32 = 0x377f_0682;
const VERSION: u32 = 3_007_000;

/// Tells the frames of one log from what is left of the one before it.
pub(super) type Salts = [u8; 8];

/// A running sum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sum(u32, u32);

impl Sum {
    fn read(bytes: &[u8], at: usize) -> Self {
        Self(word(bytes, at), word(bytes, at + 4))
    }

    fn bytes(self) -> [u8; 8] {
        (u64::from(self.0) << 32 | u64::from(self.1)).to_be_bytes()
    }

    /// Whether only one byte tells them apart.
    fn is_nearly(self, other: Self) -> bool {
        self.bytes().iter().zip(other.bytes()).filter(|(a, b)| **a != *b).count() == 1
    }
}

/// Which byte of a word comes first in what is summed. Everything else has the high one first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    Low,
    High,
}

impl Order {
    /// Of logs that this machine writes.
    pub(super) const OWN: Self = if cfg!(target_endian = "big") { Self::High } else { Self::Low };

    fn word(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Low => u32::from_le_bytes(bytes),
            Self::High => u32::from_be_bytes(bytes),
        }
    }

    fn sum(self, bytes: &[u8], from: Sum) -> Sum {
        let Sum(mut first, mut second) = from;
        for [a, b, c, d, e, f, g, h] in bytes.as_chunks().0 {
            let (even, odd) = (self.word([*a, *b, *c, *d]), self.word([*e, *f, *g, *h]));
            first = first.wrapping_add(even).wrapping_add(second);
            second = second.wrapping_add(odd).wrapping_add(first);
        }
        Sum(first, second)
    }

    /// The bytes of which any one would have to be another for `bytes` to come to the sum `right`: where, and
    /// which. They may be several: the highest bytes of words that are 1536 bytes apart change the sum alike,
    /// and so does the highest bit below them, at twice that distance. That one fits by chance is about as
    /// likely as one in 2^44.
    fn wrong_bytes(self, bytes: &[u8], from: Sum, right: Sum) -> Vec<(usize, u8)> {
        let is = self.sum(bytes, from);
        let off = (right.0.wrapping_sub(is.0), right.1.wrapping_sub(is.1));
        // What each of the sums would grow by if the even, or the odd, word of a pair were one more: from
        // the last pair to the first.
        let (mut even, mut odd) = ((1_u32, 1_u32), (0_u32, 1_u32));
        let one_more_pair =
            |(a, b): (u32, u32)| (a.wrapping_add(b), a.wrapping_add(b).wrapping_add(b));
        let words = bytes.as_chunks::<4>().0;
        let mut found = Vec::new();
        for (n, pair) in words.chunks_exact(2).enumerate().rev() {
            for ((word, grows), at) in pair.iter().zip([even, odd]).zip([8 * n, 8 * n + 4]) {
                let Some(more) = solved(grows, off) else { continue };
                let right = self.word(*word).wrapping_add(more);
                let right = match self {
                    Self::Low => right.to_le_bytes(),
                    Self::High => right.to_be_bytes(),
                };
                let mut others = word.iter().zip(right).enumerate().filter(|(_, (a, b))| **a != *b);
                if let (Some((n, (_, byte))), None) = (others.next(), others.next()) {
                    found.push((at + n, byte));
                }
            }
            (even, odd) = (one_more_pair(even), one_more_pair(odd));
        }
        found
    }
}

/// What has to be multiplied with both to come to both.
fn solved(factors: (u32, u32), products: (u32, u32)) -> Option<u32> {
    // One of two neighbours of Fibonacci's row is odd, and so has an inverse.
    let (factor, product) =
        if factors.0 % 2 == 1 { (factors.0, products.0) } else { (factors.1, products.1) };
    let mut inverse = factor;
    for _ in 0..4 {
        inverse = inverse.wrapping_mul(2_u32.wrapping_sub(factor.wrapping_mul(inverse)));
    }
    let found = product.wrapping_mul(inverse);
    let fits =
        found.wrapping_mul(factors.0) == products.0 && found.wrapping_mul(factors.1) == products.1;
    fits.then_some(found)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn put(bytes: &mut [u8], at: usize, new: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + new.len()) {
        place.copy_from_slice(new);
    }
}

/// The head of a log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head([u8; HEAD]);

impl Head {
    /// A new one.
    pub(super) fn new(order: Order, salts: Salts) -> Self {
        let mut bytes = [0; HEAD];
        put(&mut bytes, 0, &(MAGIC | u32::from(order == Order::High)).to_be_bytes());
        put(&mut bytes, 4, &VERSION.to_be_bytes());
        put(&mut bytes, 8, &PAGE_SIZE.to_be_bytes());
        put(&mut bytes, 16, &salts);
        let sum = order.sum(&bytes[..24], Sum(0, 0));
        put(&mut bytes, 24, &sum.bytes());
        Self(bytes)
    }

    #[cfg(test)]
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn order(&self) -> Order {
        if self.0[3] & 1 == 1 { Order::High } else { Order::Low }
    }

    pub(super) fn salts(&self) -> Salts {
        let mut salts = [0; 8];
        salts.copy_from_slice(&self.0[16..24]);
        salts
    }

    /// What the sum of the first frame goes on from.
    pub(super) fn sum(&self) -> Sum {
        Sum::read(&self.0, 24)
    }

    /// Whether none was ever written.
    pub(super) fn is_blank(&self) -> bool {
        self.0 == [0; HEAD]
    }

    /// Whether it is one as it was written.
    pub(super) fn is_intact(&self) -> bool {
        word(&self.0, 0) & !1 == MAGIC && self.order().sum(&self.0[..24], Sum(0, 0)) == self.sum()
    }

    /// Whether it is one of ours as it was written.
    pub(super) fn is_right(&self) -> bool {
        self.is_intact() && word(&self.0, 4) == VERSION && word(&self.0, 8) == PAGE_SIZE
    }

    /// The one that it was before one of its bytes became another, if the frame behind it proves that.
    pub(super) fn mended(&self, first: &Frame) -> Option<Self> {
        let mended = |order: Order| {
            let sum = order.sum(&self.0[..24], Sum(0, 0));
            let is_it = |head: &Self| {
                let fits = head.is_right() && first.fits(order, head.sum());
                fits && head.salts() == first.salts()
            };
            let with = |at, new: &[u8]| {
                let mut head = *self;
                put(&mut head.0, at, new);
                head
            };
            let wrong = order.wrong_bytes(&self.0[..24], Sum(0, 0), self.sum());
            let others = wrong.into_iter().map(|(at, byte)| with(at, &[byte]));
            std::iter::once(with(24, &sum.bytes())).chain(others).find(is_it)
        };
        mended(Order::Low).or_else(|| mended(Order::High))
    }
}

/// A frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Frame(Vec<u8>);

impl Frame {
    #[cfg(test)]
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// Of a page that is nothing.
    pub(super) fn empty(number: u32) -> Self {
        let mut bytes = vec![0; FRAME];
        put(&mut bytes, 0, &number.to_be_bytes());
        Self(bytes)
    }

    /// The number of its page.
    pub(super) fn number(&self) -> u32 {
        word(&self.0, 0)
    }

    /// How many pages the main file has after the commit that ends here; 0: none does.
    pub(super) fn mark(&self) -> u32 {
        word(&self.0, 4)
    }

    pub(super) fn salts(&self) -> Salts {
        self.0.get(8..16).and_then(|salts| salts.try_into().ok()).unwrap_or_default()
    }

    /// The sum that stands in it.
    pub(super) fn stored(&self) -> Sum {
        Sum::read(&self.0, 16)
    }

    pub(super) fn page(&self) -> &[u8] {
        self.0.get(FRAME_HEAD..).unwrap_or_default()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn sum(&self, order: Order, from: Sum) -> Sum {
        order.sum(self.page(), order.sum(self.0.get(..8).unwrap_or_default(), from))
    }

    /// Whether its sum is right.
    pub(super) fn fits(&self, order: Order, from: Sum) -> bool {
        self.number() != 0 && self.sum(order, from) == self.stored()
    }

    /// Whether the engine takes it behind what comes to this sum.
    pub(super) fn is_of(&self, head: &Head, sum: Sum) -> bool {
        self.salts() == head.salts() && self.fits(head.order(), sum)
    }

    /// The one that it was before one of its bytes became another, as far as that can be told, also from the
    /// one behind it. The sum does not cover the salts.
    pub(super) fn mended(&self, order: Order, from: Sum, next: Option<&Self>) -> Option<Self> {
        let mut frame = self.clone();
        let (sum, stored) = (self.sum(order, from), self.stored());
        let goes_on = |sum| next.is_some_and(|next| next.fits(order, sum));
        if sum != stored && goes_on(sum) {
            put(&mut frame.0, 16, &sum.bytes());
        } else if sum != stored {
            // The wrong byte may be one of the sum, which looks like one of the last word.
            if sum.is_nearly(stored) && !goes_on(stored) {
                return None;
            }
            let [(at, byte)] = self.wrong_bytes(order, from)[..] else { return None };
            put(&mut frame.0, if at < 8 { at } else { at + FRAME_HEAD - 8 }, &[byte]);
        }
        (frame.number() != 0).then_some(frame)
    }

    /// Whether no more than one byte of it is wrong, and it may still be read as a page of a tree.
    pub(super) fn is_nearly_right(&self, order: Order, from: Sum) -> bool {
        let [kind, _, _, cells @ .., _] = self.page().first_chunk::<8>().unwrap_or(&[0; 8]);
        let [a, b, c, d] = cells.map(usize::from);
        let upto = a * 512 + b * 2 + if matches!(kind, 2 | 5) { 12 } else { 8 };
        let is_tree = matches!(kind, 2 | 5 | 10 | 13) && (upto..=PAGE).contains(&(c * 256 + d));
        is_tree && !self.wrong_bytes(order, from).is_empty()
    }

    fn wrong_bytes(&self, order: Order, from: Sum) -> Vec<(usize, u8)> {
        let summed = [self.0.get(..8).unwrap_or_default(), self.page()].concat();
        order.wrong_bytes(&summed, from, self.stored())
    }

    pub(super) fn set_salts(&mut self, salts: Salts) {
        put(&mut self.0, 8, &salts);
    }

    /// The same with another page.
    pub(super) fn with_page(&self, page: &[u8]) -> Self {
        let mut frame = self.clone();
        put(&mut frame.0, FRAME_HEAD, page);
        frame
    }

    /// The same at another place of another log.
    pub(super) fn placed(mut self, head: &Head, mark: u32, from: Sum) -> Self {
        put(&mut self.0, 4, &mark.to_be_bytes());
        self.set_salts(head.salts());
        let sum = self.sum(head.order(), from);
        put(&mut self.0, 16, &sum.bytes());
        self
    }
}

/// The log of a store.
#[derive(Debug)]
pub(super) struct Frames {
    file: File,
    count: u64,
}

impl Frames {
    /// None: there is no frame.
    pub(super) fn open(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        let count = file.metadata().ok()?.len().checked_sub(HEAD as u64)? / FRAME as u64;
        (count > 0).then_some(Self { file, count })
    }

    /// How many fit into its length.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn head(&self) -> Head {
        let mut bytes = [0; HEAD];
        self.read(&mut bytes, 0);
        Head(bytes)
    }

    /// The one at this place, from 0.
    pub(super) fn get(&self, at: u64) -> Option<Frame> {
        if at >= self.count {
            return None;
        }
        let mut bytes = vec![0; FRAME];
        self.read(&mut bytes, HEAD as u64 + at * FRAME as u64);
        Some(Frame(bytes))
    }

    /// The salts of the one at this place.
    pub(super) fn salts(&self, at: u64) -> Salts {
        let mut salts = [0; 8];
        self.read(&mut salts, HEAD as u64 + at * FRAME as u64 + 8);
        salts
    }

    /// What cannot be read is as damaged as what is wrong.
    fn read(&self, bytes: &mut [u8], at: u64) {
        if self.file.read_exact_at(bytes, at).is_err() {
            bytes.fill(0);
        }
    }

    /// Those that seem to be of this log.
    fn current(&self) -> impl Iterator<Item = Frame> {
        let salts = self.head().salts();
        let is_log = word(self.head().bytes(), 0) & !1 == MAGIC;
        let all = (0..self.count).map_while(|at| self.get(at));
        all.take_while(move |frame| is_log && frame.salts() == salts)
    }
}

/// Whether anything was ever written to the log.
pub(super) fn has_frames(log: &Path) -> bool {
    Frames::open(log).is_some_and(|frames| frames.current().next().is_some())
}

/// A version of the main file's first page that stands in the log.
pub(super) fn first_page(log: &Path) -> Option<Vec<u8>> {
    let frames = Frames::open(log)?;
    let first = frames.current().find(|frame| frame.number() == 1)?;
    Some(first.page().to_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Frames of a log that follow one another.
    fn two(order: Order, page: &[u8]) -> (Head, Frame, Frame) {
        let head = Head::new(order, *b"somesalt");
        let new = Frame(vec![9; FRAME]);
        let one = new.with_page(page).placed(&head, 12, head.sum());
        let next = new.placed(&head, 0, one.stored());
        (head, one, next)
    }

    const ORDER: [Order; 2] = [Order::Low, Order::High];

    proptest! {
        /// Any byte but the salts, which the sum does not cover. In words it may be one of the high bits.
        #[test]
        fn a_wrong_byte_is_found_and_mended_or_given_up(
            seed: u64, order in 0..2_usize, at in 0..FRAME - 8, flip in 1..=255_u8,
        ) {
            let order = ORDER[order];
            let mut page = vec![0; PAGE];
            fastrand::Rng::with_seed(seed).fill(&mut page);
            let (head, right, next) = two(order, &page);
            prop_assert!(right.fits(order, head.sum()) && next.fits(order, right.stored()));
            let at = if at < 8 { at } else { at + 8 };
            let mut wrong = right.clone();
            wrong.0[at] ^= flip;
            prop_assert!(!wrong.fits(order, head.sum()));
            let is_high = if order == Order::Low { at % 4 >= 2 } else { at % 4 < 2 };
            let mended = wrong.mended(order, head.sum(), Some(&next));
            prop_assert!(mended == Some(right.clone()) || (mended.is_none() && is_high));
            // Nothing wrong comes of it either when nothing behind it helps.
            let alone = wrong.mended(order, head.sum(), None);
            prop_assert!(alone.is_none() || alone == Some(right));
        }

        #[test]
        fn a_wrong_byte_of_the_head_is_found_and_mended(
            order in 0..2_usize, at in 0..HEAD, flip in 1..=255_u8,
        ) {
            let (right, first, _) = two(ORDER[order], &[5; PAGE]);
            prop_assert!(right.is_right());
            let mut wrong = right;
            wrong.0[at] ^= flip;
            prop_assert!(!wrong.is_right());
            prop_assert_eq!(wrong.mended(&first).map(|head| head.0), Some(right.0));
        }

        #[test]
        fn what_has_two_wrong_bytes_is_given_up(at in 100..2000_usize, flip in 1..=255_u8) {
            let (head, right, next) = two(Order::Low, &[1; PAGE]);
            let mut wrong = right;
            wrong.0[at] ^= flip;
            wrong.0[at + 1000] ^= flip;
            prop_assert_eq!(wrong.mended(Order::Low, head.sum(), Some(&next)), None);
        }
    }
}

//! Putting together events that the platform cut into several frames.
//!
//! Parts arrive in any order and are cuts of bytes, not of characters. Everything the platform says
//! about them is checked, and what is kept is bounded in number, size and age: a lost part costs a
//! repetition by the platform, never memory. An event that was put together is remembered for a moment,
//! so that a repeated last part does not make it a second one; not for longer, because a repetition of
//! the whole event after 15 s may well come under the same id and must be heard. Such a repetition may be cut
//! elsewhere than what is left of a delivery that broke off: the newest of each part counts, and what is no event
//! when put together is not final.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::clock::Instant;

/// Since the latest part. Parts 12 s apart were seen to be accepted elsewhere.
const LIFE: Duration = Duration::from_secs(14);
const DONE_LIFE: Duration = Duration::from_secs(10);
const DONE_MAX: usize = 256;
const PARTS_MAX: usize = 1024;
const MESSAGES_MAX: usize = 64;
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// What became of a part.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// It was the last one missing: the whole payload.
    Whole(Vec<u8>),
    /// None is missing, and yet it is no event: parts of two deliveries, or something that nobody can read.
    Doubtful(Vec<u8>),
    /// More are missing.
    Kept,
    /// It belongs to an event that was complete a moment ago.
    Repeated,
    /// It makes no sense, or there is no room for it. The platform will repeat it.
    Refused(&'static str),
}

/// The incomplete events of one connection.
pub(super) struct Chunks {
    /// Whether bytes can be an event.
    reads: fn(&[u8]) -> bool,
    open: HashMap<String, Open>,
    bytes: usize,
    done: VecDeque<(Instant, String)>,
}

struct Open {
    parts: Vec<Option<Vec<u8>>>,
    missing: usize,
    bytes: usize,
    latest: Instant,
}

impl Chunks {
    /// None yet.
    pub(super) fn new(reads: fn(&[u8]) -> bool) -> Self {
        Self { reads, open: HashMap::new(), bytes: 0, done: VecDeque::new() }
    }

    /// Takes part `seq` of `sum` of event `id`. The headers are as they came; absent ones mean a whole
    /// event.
    pub(super) fn on(
        &mut self,
        id: Option<&str>,
        sum: Option<&str>,
        seq: Option<&str>,
        payload: Vec<u8>,
        now: Instant,
    ) -> Part {
        let number = |text: Option<&str>, absent| text.map_or(Some(absent), |t| t.parse().ok());
        let (Some(sum), Some(seq)) = (number(sum, 1usize), number(seq, 0usize)) else {
            return Part::Refused("sum or seq is no number");
        };
        if sum == 0 || sum > PARTS_MAX || seq >= sum {
            return Part::Refused("sum or seq is out of range");
        }
        if sum == 1 {
            return Part::Whole(payload);
        }
        let Some(id) = id.filter(|id| !id.is_empty()) else {
            return Part::Refused("a part without message_id");
        };
        self.expire(now);
        if self.done.iter().any(|(_, done)| done == id) {
            return Part::Repeated;
        }
        self.keep(id, sum, seq, payload, now)
    }

    /// Forgets what is too old.
    pub(super) fn expire(&mut self, now: Instant) {
        let bytes = &mut self.bytes;
        self.open.retain(|_, open| {
            let young = now.duration_since(open.latest) < LIFE;
            if !young {
                *bytes -= open.bytes;
            }
            young
        });
        while self.done.front().is_some_and(|(at, _)| now.duration_since(*at) >= DONE_LIFE) {
            self.done.pop_front();
        }
    }

    fn keep(&mut self, id: &str, sum: usize, seq: usize, payload: Vec<u8>, now: Instant) -> Part {
        let known = self.open.get(id);
        if known.is_some_and(|open| open.parts.len() != sum) {
            return Part::Refused("sum differs from that of earlier parts");
        }
        if payload.len() + known.map_or(0, |open| open.bytes) > BYTES_MAX {
            self.drop_open(id);
            return Part::Refused("the event is too large");
        }
        self.make_room(id, payload.len());
        let open = self.open.entry(id.to_owned()).or_insert_with(|| Open {
            parts: vec![None; sum],
            missing: sum,
            bytes: 0,
            latest: now,
        });
        open.latest = now;
        let Some(place) = open.parts.get_mut(seq) else { return Part::Kept };
        if place.as_ref() == Some(&payload) {
            return Part::Kept;
        }
        let added = payload.len();
        let before = place.replace(payload);
        let replaced = before.as_ref().map_or(0, Vec::len);
        open.missing -= usize::from(before.is_none());
        open.bytes = open.bytes + added - replaced;
        self.bytes = self.bytes + added - replaced;
        if open.missing > 0 {
            return Part::Kept;
        }
        let whole = open.parts.iter().flatten().flatten().copied().collect::<Vec<u8>>();
        if !(self.reads)(&whole) {
            return Part::Doubtful(whole);
        }
        if self.done.len() == DONE_MAX {
            self.done.pop_front();
        }
        self.done.push_back((now, id.to_owned()));
        self.drop_open(id);
        Part::Whole(whole)
    }

    /// Drops those that have waited longest until `bytes` more for `id` are bearable.
    fn make_room(&mut self, id: &str, bytes: usize) {
        while self.bytes + bytes > BYTES_MAX
            || (self.open.len() >= MESSAGES_MAX && !self.open.contains_key(id))
        {
            let others = self.open.iter().filter(|(other, _)| *other != id);
            let oldest = others.min_by_key(|(_, open)| open.latest).map(|(other, _)| other.clone());
            let Some(oldest) = oldest else { return };
            self.drop_open(&oldest);
        }
    }

    fn drop_open(&mut self, id: &str) {
        if let Some(open) = self.open.remove(id) {
            self.bytes -= open.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock;

    fn put(
        chunks: &mut Chunks,
        id: &str,
        sum: usize,
        seq: usize,
        part: &[u8],
        now: Instant,
    ) -> Part {
        let (sum, seq) = (sum.to_string(), seq.to_string());
        chunks.on(Some(id), Some(&sum), Some(&seq), part.to_vec(), now)
    }

    #[test]
    fn a_whole_event_passes_whatever_is_missing() {
        let mut chunks = Chunks::new(|_| true);
        let whole = Part::Whole(b"x".to_vec());
        assert_eq!(chunks.on(None, None, None, b"x".to_vec(), clock::now()), whole);
        assert_eq!(put(&mut chunks, "a", 1, 0, b"x", clock::now()), whole);
        assert_eq!(put(&mut chunks, "a", 1, 0, b"x", clock::now()), whole, "ids are not judged");
    }

    #[test]
    fn nonsense_is_refused() {
        let mut chunks = Chunks::new(|_| true);
        let now = clock::now();
        for (sum, seq) in [(0, 0), (2, 2), (2, 7), (PARTS_MAX + 1, 0), (1, 1)] {
            assert!(matches!(put(&mut chunks, "a", sum, seq, b"", now), Part::Refused(_)));
        }
        for (sum, seq) in [("-1", "0"), ("2", "x"), ("", "0")] {
            let part = chunks.on(Some("a"), Some(sum), Some(seq), Vec::new(), now);
            assert!(matches!(part, Part::Refused(_)));
        }
        assert!(matches!(chunks.on(None, Some("2"), None, Vec::new(), now), Part::Refused(_)));
        assert_eq!(put(&mut chunks, "a", 2, 0, b"", now), Part::Kept);
        assert!(matches!(put(&mut chunks, "a", 3, 1, b"", now), Part::Refused(_)));
        assert_eq!(put(&mut chunks, "a", 2, 1, b"z", now), Part::Whole(b"z".to_vec()));
    }

    #[test]
    fn a_repeated_last_part_is_not_a_second_event() {
        let mut chunks = Chunks::new(|_| true);
        let now = clock::now();
        put(&mut chunks, "a", 2, 1, b"y", now);
        assert_eq!(put(&mut chunks, "a", 2, 0, b"x", now), Part::Whole(b"xy".to_vec()));
        assert_eq!(put(&mut chunks, "a", 2, 0, b"x", now), Part::Repeated);
        let later = now + DONE_LIFE;
        assert_eq!(put(&mut chunks, "a", 2, 0, b"x", later), Part::Kept, "a repetition in full");
        assert_eq!(put(&mut chunks, "a", 2, 1, b"y", later), Part::Whole(b"xy".to_vec()));
    }

    /// A delivery broke off, and its repetition under the same id is cut elsewhere.
    #[test]
    fn a_repetition_that_is_cut_elsewhere_is_whole() {
        let mut chunks = Chunks::new(|whole| whole == b"abcdef");
        let now = clock::now();
        put(&mut chunks, "a", 3, 2, b"bcdef", now);
        put(&mut chunks, "a", 3, 1, b"x", now);
        assert_eq!(put(&mut chunks, "a", 3, 0, b"ab", now), Part::Doubtful(b"abxbcdef".to_vec()));
        assert_eq!(put(&mut chunks, "a", 3, 0, b"ab", now), Part::Kept, "nothing new");
        let doubtful = put(&mut chunks, "a", 3, 1, b"cd", now);
        assert_eq!(doubtful, Part::Doubtful(b"abcdbcdef".to_vec()));
        assert_eq!(put(&mut chunks, "a", 3, 2, b"ef", now), Part::Whole(b"abcdef".to_vec()));
        assert_eq!((chunks.open.len(), chunks.bytes), (0, 0));
    }

    #[test]
    fn parts_live_from_the_latest_one() {
        let mut chunks = Chunks::new(|_| true);
        let start = clock::now();
        let step = Duration::from_secs(12);
        put(&mut chunks, "a", 3, 0, b"x", start);
        put(&mut chunks, "a", 3, 1, b"y", start + step);
        assert_eq!(
            put(&mut chunks, "a", 3, 2, b"z", start + 2 * step),
            Part::Whole(b"xyz".to_vec())
        );
        put(&mut chunks, "b", 2, 0, b"x", start);
        assert_eq!(
            put(&mut chunks, "b", 2, 1, b"y", start + LIFE),
            Part::Kept,
            "the first is gone"
        );
        chunks.expire(start + 3 * LIFE);
        assert_eq!((chunks.open.len(), chunks.bytes, chunks.done.len()), (0, 0, 0));
    }

    #[test]
    fn number_and_size_are_bounded() {
        let mut chunks = Chunks::new(|_| true);
        let start = clock::now();
        for i in 0..200u32 {
            let now = start + Duration::from_millis(u64::from(i));
            put(&mut chunks, &i.to_string(), 2, 0, &vec![0; 100_000], now);
            assert!(chunks.open.len() <= MESSAGES_MAX && chunks.bytes <= BYTES_MAX);
        }
        assert!(chunks.open.contains_key("199"), "the newest is kept");
        let much = vec![0; BYTES_MAX];
        assert_eq!(put(&mut chunks, "big", 2, 0, &much, start), Part::Kept);
        assert!(matches!(put(&mut chunks, "big", 2, 1, b"x", start), Part::Refused(_)));
        assert_eq!((chunks.open.len(), chunks.bytes), (0, 0));
    }

    proptest! {
        #[test]
        fn any_cuts_in_any_order_make_the_same_event(
            payload in prop::collection::vec(any::<u8>(), 0..300),
            cuts in prop::collection::vec(0usize..300, 1..8),
            order in any::<prop::sample::Index>(),
            twice in any::<bool>(),
        ) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(payload.len())).collect();
            cuts.sort_unstable();
            let edges = std::iter::once(0).chain(cuts.iter().copied());
            let parts: Vec<_> = edges
                .zip(cuts.iter().copied().chain([payload.len()]))
                .map(|(from, to)| &payload[from..to])
                .collect();
            let mut sequence: Vec<_> = (0..parts.len()).collect();
            sequence.rotate_left(order.index(parts.len()));
            sequence.reverse();
            let mut chunks = Chunks::new(|_| true);
            let now = clock::now();
            let mut found = Vec::new();
            for seq in sequence {
                for _ in 0..=usize::from(twice) {
                    if let Part::Whole(whole) = put(&mut chunks, "a", parts.len(), seq, parts[seq], now) {
                        found.push(whole);
                    }
                }
            }
            prop_assert_eq!(found, vec![payload]);
            prop_assert_eq!(chunks.bytes, 0);
        }

        #[test]
        fn nothing_makes_it_panic(inputs in prop::collection::vec(
            (prop::option::of("[ab]?"), prop::option::of("[0-3x-]{0,2}"), prop::option::of("[0-3x-]{0,2}"), 0usize..40),
            0..60,
        )) {
            let mut chunks = Chunks::new(|_| true);
            let mut now = clock::now();
            for (id, sum, seq, size) in inputs {
                now += Duration::from_secs(size as u64 / 4);
                chunks.on(id.as_deref(), sum.as_deref(), seq.as_deref(), vec![0; size], now);
                let kept: usize = chunks.open.values().map(|open| open.bytes).sum();
                prop_assert_eq!(kept, chunks.bytes);
            }
        }
    }
}

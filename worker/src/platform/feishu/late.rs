//! Events that are not answered in time, told once for each row of them and not once for each event. Pure.

use std::time::Duration;

use crate::clock::Instant;

/// A row is over when for so long every event was answered in time.
const QUIET: Duration = Duration::from_secs(10);

/// The row that is going on.
#[derive(Debug, Default)]
pub(super) struct Late {
    /// How many, and when the last one.
    row: Option<(u64, Instant)>,
}

/// What is to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Told {
    /// The first one of a row.
    Begins,
    /// There were so many.
    Ended(u64),
}

impl Late {
    /// An event was answered in time, or not.
    pub(super) fn on(&mut self, in_time: bool, now: Instant) -> Option<Told> {
        match self.row {
            None if in_time => None,
            None => {
                self.row = Some((1, now));
                Some(Told::Begins)
            }
            Some((count, _)) if !in_time => {
                self.row = Some((count + 1, now));
                None
            }
            Some((count, last)) if now.duration_since(last) >= QUIET => {
                self.row = None;
                Some(Told::Ended(count))
            }
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_row_is_told_twice_however_long_it_is() {
        let (mut late, now) = (Late::default(), clock::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(late.on(true, now), None);
        for round in [0, 100] {
            assert_eq!(late.on(false, at(round)), Some(Told::Begins));
            for second in 1..20 {
                assert_eq!(late.on(false, at(round + second)), None);
                assert_eq!(late.on(true, at(round + second)), None);
            }
            assert_eq!(late.on(true, at(round + 28)), None);
            assert_eq!(late.on(true, at(round + 29)), Some(Told::Ended(20)));
            assert_eq!(late.on(true, at(round + 30)), None);
        }
    }
}

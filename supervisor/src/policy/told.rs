//! Who was told of in the log as turned away: each once. In a busy group strangers come without end, so what
//! is remembered is bounded, and so is what is said: once as many are known, that is said and the rest is only
//! counted; an hour later all may be told of again.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::access::Denial;

/// Who is remembered at once, for each reason apart.
const KNOWN: usize = 256;
/// How long nobody else is told of once so many are known.
const FULL: Duration = Duration::from_secs(3600);

/// Senders of one platform instance.
#[derive(Debug, Default)]
pub struct Told {
    known: HashSet<(String, Denial)>,
    full_since: Option<Instant>,
}

/// What to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    /// This sender was turned away.
    Sender,
    /// There are more than are told of.
    More,
    /// Nothing.
    Nothing,
}

impl Told {
    /// `user` is turned away for this reason.
    pub fn on(&mut self, user: &str, denial: Denial, now: Instant) -> Word {
        if self.full_since.is_some_and(|since| now.saturating_duration_since(since) >= FULL) {
            *self = Self::default();
        }
        let who = (user.to_owned(), denial);
        if self.known.contains(&who) || self.full_since.is_some() {
            Word::Nothing
        } else if self.known.len() < KNOWN {
            self.known.insert(who);
            Word::Sender
        } else {
            self.full_since = Some(now);
            Word::More
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_of_once_and_a_crowd_does_not_fill_the_log() {
        let start = crate::clock::now();
        let mut told = Told::default();
        let mut on = |user: usize, denial, at| told.on(&user.to_string(), denial, start + at);
        assert_eq!(on(1, Denial::Stranger, Duration::ZERO), Word::Sender);
        assert_eq!(on(1, Denial::Refused, Duration::ZERO), Word::Sender, "for another reason");
        assert_eq!(on(1, Denial::Stranger, 9 * FULL), Word::Nothing, "however late");
        let mut said = [0, 0];
        for _ in 0..3 {
            for user in 0..10 * KNOWN {
                match on(user, Denial::Stranger, 9 * FULL) {
                    Word::Sender => said[0] += 1,
                    Word::More => said[1] += 1,
                    Word::Nothing => {}
                }
            }
        }
        assert_eq!(said, [KNOWN - 2, 1]);
        assert_eq!(on(1, Denial::Stranger, 10 * FULL), Word::Sender, "an hour later");
    }
}

//! What the platform takes of us while it is heard. Pure.
//!
//! A reply may be refused as if the token were good for nothing while polls succeed with the same token: servers
//! that are being mended and proxies say such things for a moment. So that is doubted: the reply is tried again
//! soon, later each time, and if it lasts a person is told. A token that is good for nothing ends the polls, too.

use std::time::Duration;

use protocol::worker::Outside;

use crate::clock::Instant;

/// Before the first other attempt.
const SOON: Duration = Duration::from_secs(2);
/// And before each after many.
const LATE: Duration = Duration::from_mins(1);
/// Refusals in a row, each after a pause, of which a person is told.
const TOLD: u32 = 2;

/// How we stand with the platform.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// The person knows that nothing is heard, and why, which matters more.
    deaf: bool,
    /// Pauses since a call for a reply was taken, and when the latest is over.
    refused: Option<(u32, Instant)>,
    /// Why, once it lasts.
    why: Option<String>,
}

impl Standing {
    /// The person was told that nothing is heard.
    pub(super) fn deaf(&mut self) {
        self.deaf = true;
    }

    /// It is heard again: what the person is to know now.
    pub(super) fn hears(&mut self) -> Outside {
        self.deaf = false;
        self.outside()
    }

    /// A call for a reply was refused as by a wrong token: how long to wait, and what the person is to know now.
    /// Several within one pause are refused once.
    pub(super) fn refused(&mut self, why: &str, now: Instant) -> (Duration, Option<Outside>) {
        if let Some((_, until)) = self.refused
            && let Some(left) = until.checked_duration_since(now)
            && !left.is_zero()
        {
            return (left, None);
        }
        let times = self.refused.map_or(0, |(times, _)| times);
        let pause = (SOON * 2_u32.saturating_pow(times.min(8))).min(LATE);
        let times = times.saturating_add(1);
        self.refused = Some((times, now + pause));
        if times < TOLD {
            return (pause, None);
        }
        self.why = Some(why.to_owned());
        (pause, (!self.deaf).then(|| self.outside()))
    }

    /// A call for a reply was not: what the person is to know now.
    pub(super) fn taken(&mut self) -> Option<Outside> {
        self.refused = None;
        self.why.take().filter(|_| !self.deaf).map(|_| Outside::Up)
    }

    fn outside(&self) -> Outside {
        let Some(why) = &self.why else { return Outside::Up };
        let remedy = "it is tried again each minute; if it lasts, see what stands between the gateway and the platform, or \
                      put a new token from BotFather in place and `hermes-gw ctl reload`";
        Outside::Limited {
            reason: format!("replies are refused while messages are heard: {why}"),
            remedy: Some(remedy.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const WHY: &str = "401 Unauthorized";

    #[test]
    fn it_is_tried_again_soon_and_then_later_and_told_when_it_lasts() {
        let mut now = clock::now();
        let mut standing = Standing::default();
        let mut pauses = Vec::new();
        for times in 1..=8 {
            let (pause, told) = standing.refused(WHY, now);
            assert_eq!(told.is_some(), times >= TOLD);
            let other = standing.refused("404 Not Found", now + SOON / 2);
            assert_eq!(
                other,
                (pause.saturating_sub(SOON / 2), None),
                "another reply of that moment"
            );
            pauses.push(pause.as_secs());
            now += pause;
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(standing.taken(), Some(Outside::Up));
        assert_eq!((standing.taken(), standing.refused(WHY, now)), (None, (SOON, None)));
    }

    #[test]
    fn that_nothing_is_heard_matters_more() {
        let now = clock::now();
        let mut standing = Standing::default();
        standing.refused(WHY, now);
        standing.deaf();
        assert_eq!(standing.refused(WHY, now + SOON).1, None);
        let limited = standing.hears();
        assert!(matches!(&limited, Outside::Limited { reason, .. } if reason.contains(WHY)));
        assert_eq!(standing.refused(WHY, now + LATE).1, Some(limited));
        standing.deaf();
        assert_eq!((standing.taken(), standing.hears()), (None, Outside::Up));
    }
}

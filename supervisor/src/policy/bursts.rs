//! What people say in one go: short messages in a row become one turn.
//!
//! A lane in which somebody just spoke is held until it is quiet for a while, and for a bounded time at
//! most, however steadily they speak. Nothing is joined before it is stored, and nothing here is needed
//! to know what belongs together: that follows from when each event was accepted, so a crash within the
//! pause loses nothing and doubles nothing.
//!
//! Joined is what one person says to the agent in messages of their own: an answer to another message, a
//! quotation, a pressed button, an edit stay whole and end the row.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use protocol::event::{Inbound, InboundKind};
use protocol::id::Lane;

/// Events that become one, at most.
pub const MOST: usize = 50;
/// Bytes of what becomes one, at most.
pub const BYTES: usize = 256 * 1024;
/// Lanes that are held at once; more are not.
const LANES: usize = 10_000;

/// How long to wait for more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Until nothing was said for so long.
    pub quiet: Duration,
    /// And for so long at most, from the first word on.
    pub most: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Burst {
    first: Instant,
    until: Instant,
}

/// The lanes in which somebody just spoke.
#[derive(Debug, Default)]
pub struct Bursts {
    lanes: HashMap<Lane, Burst>,
}

impl Bursts {
    /// Something was said.
    pub fn said(&mut self, lane: &Lane, rule: Rule, now: Instant) {
        if self.lanes.len() >= LANES {
            self.lanes.retain(|_, burst| burst.until > now);
        }
        let known = self.lanes.get(lane).filter(|burst| burst.until > now);
        let first = known.map_or(now, |burst| burst.first);
        let until = (now + rule.quiet).min(first + rule.most);
        if known.is_some() || self.lanes.len() < LANES {
            self.lanes.insert(lane.clone(), Burst { first, until });
        }
    }

    /// Until when a lane is held; `None`: it is not.
    pub fn held(&mut self, lane: &Lane, now: Instant) -> Option<Instant> {
        let until = self.lanes.get(lane)?.until;
        if until <= now {
            self.lanes.remove(lane);
            return None;
        }
        Some(until)
    }
}

/// Whether `next` continues what `first` began.
pub fn continues(first: &Inbound, next: &Inbound) -> bool {
    let plain = |event: &Inbound| event.kind == InboundKind::Message;
    plain(first)
        && plain(next)
        && first.sender.user_id == next.sender.user_id
        && next.quote.is_none()
        && (next.reply_to.is_none() || next.reply_to == first.reply_to)
}

/// `first` with what `next` says behind it.
pub fn join(first: &mut Inbound, next: Inbound) {
    if !next.text.is_empty() {
        if !first.text.is_empty() {
            first.text.push('\n');
        }
        first.text.push_str(&next.text);
    }
    first.parts.extend(next.parts);
    if next.mention == protocol::event::Mention::Me {
        first.mention = next.mention;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(chat: &str) -> Lane {
        let instance = protocol::id::Instance::new("p").unwrap();
        Lane { instance, chat_id: chat.into(), thread_id: None }
    }

    /// F99: a steady stream is held for a bounded time, and a lane holds no other.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "an arbitrary instant to count from")]
    fn a_lane_is_held_until_it_is_quiet_and_never_for_ever() {
        let start = Instant::now();
        let at = |tenths: u64| start + Duration::from_millis(100 * tenths);
        let rule = Rule { quiet: Duration::from_secs(1), most: Duration::from_secs(3) };
        let mut bursts = Bursts::default();
        bursts.said(&lane("a"), rule, at(0));
        assert_eq!(bursts.held(&lane("a"), at(5)), Some(at(10)));
        assert_eq!(bursts.held(&lane("b"), at(5)), None);
        for tenths in [5, 10, 15, 20, 25] {
            bursts.said(&lane("a"), rule, at(tenths));
        }
        assert_eq!(bursts.held(&lane("a"), at(26)), Some(at(30)), "the bound from the first on");
        assert_eq!(bursts.held(&lane("a"), at(30)), None);
        bursts.said(&lane("a"), rule, at(31));
        assert_eq!(bursts.held(&lane("a"), at(31)), Some(at(41)), "a burst of its own");
    }
}

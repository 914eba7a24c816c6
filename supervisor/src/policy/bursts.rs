//! What people say in one go: short messages in a row become one turn.
//!
//! A lane in which somebody just spoke is held until it is quiet for a while, and for a bounded time at
//! most, however steadily they speak. Nothing is joined before it is stored, and nothing here is needed
//! to know what belongs together: that follows from when each event was accepted, so a crash within the
//! pause loses nothing and doubles nothing. It is decided once, by the store, when the row is handed out for the
//! first time: who knows the event by its id would not hear what a later attempt took along besides.
//!
//! A message that came in parts, an album, is always joined, and held just long enough for its parts.
//!
//! Joined is what one person says to the agent in messages of their own: an answer to another message, a
//! quotation, a pressed button, an edit, a command of the agent's own stay whole and end the row.
//!
//! A command to the gateway finds a row as what it is to the person who gave it: said already.
//!
//! | command | what is held |
//! |---|---|
//! | `/status` | stays held |
//! | `/new` | goes at once, to the conversation that begins |
//! | `/stop`, and nothing is at work | is not begun any more, nor what waits for another attempt: set aside, with its payload |

use std::collections::HashMap;
use std::time::{Duration, Instant};

use protocol::event::{Inbound, InboundKind};
use protocol::id::Lane;

use super::commands::{self, Commands};

/// Events that become one, at most.
pub const MOST: usize = 50;
/// Bytes of what becomes one, at most.
pub const BYTES: usize = 256 * 1024;
/// Why an event was set aside that was held when somebody commanded `/stop`,
pub const WITHDRAWN: &str = "stopped in the chat before the agent began with it";
/// or that waited for another attempt.
pub const GIVEN_UP: &str = "stopped in the chat while it waited for another attempt";
/// Lanes that are held at once; more are not.
const LANES: usize = 10_000;

/// For the parts of an album. The platform brings the next when it knows that the one before is stored.
pub const ALBUM: Rule = Rule { quiet: Duration::from_millis(1200), most: Duration::from_secs(10) };

/// How long to wait for more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Until nothing was said for so long.
    pub quiet: Duration,
    /// And for so long at most, from the first word on.
    pub most: Duration,
}

#[derive(Clone, Debug)]
struct Burst {
    first: Instant,
    until: Instant,
    /// What was said in it.
    ids: Vec<u64>,
}

/// The lanes in which somebody just spoke.
#[derive(Debug, Default)]
pub struct Bursts {
    lanes: HashMap<Lane, Burst>,
}

impl Bursts {
    /// Something was said.
    pub fn said(&mut self, id: u64, lane: &Lane, rule: Rule, now: Instant) {
        if self.lanes.len() >= LANES {
            self.lanes.retain(|_, burst| burst.until > now);
        }
        let is_full = self.lanes.len() >= LANES;
        let known = self.lanes.remove(lane).filter(|burst| burst.until > now);
        if known.is_none() && is_full {
            return;
        }
        let new = || Burst { first: now, until: now, ids: Vec::new() };
        let mut burst = known.unwrap_or_else(new);
        burst.until = (now + rule.quiet).min(burst.first + rule.most);
        // More than become one turn are no row.
        if burst.ids.len() < MOST {
            burst.ids.push(id);
        }
        self.lanes.insert(lane.clone(), burst);
    }

    /// A lane is not held any more: what was, in its order.
    pub fn end(&mut self, lane: &Lane, now: Instant) -> Vec<u64> {
        let burst = self.lanes.remove(lane).filter(|burst| burst.until > now);
        burst.map(|burst| burst.ids).unwrap_or_default()
    }

    /// An event of a lane is held no more; what else was said there is.
    pub fn leaves(&mut self, id: u64, lane: &Lane) {
        if let Some(burst) = self.lanes.get_mut(lane) {
            burst.ids.retain(|other| *other != id);
            if burst.ids.is_empty() {
                self.lanes.remove(lane);
            }
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

    /// The same for one event: what was there before the row is not held with it.
    pub fn holds(&mut self, id: u64, lane: &Lane, now: Instant) -> Option<Instant> {
        let is_before = |burst: &Burst| burst.ids.first().is_some_and(|first| id < *first);
        let until = self.held(lane, now)?;
        (!self.lanes.get(lane).is_some_and(is_before)).then_some(until)
    }
}

impl Rule {
    /// For what is said where `own` holds, and is a part of an album besides.
    pub fn of_album(own: Option<Self>) -> Self {
        own.map_or(ALBUM, |own| Self {
            quiet: own.quiet.max(ALBUM.quiet),
            most: own.most.max(ALBUM.most),
        })
    }
}

/// Whether `next` is a part of the same album as `first`.
pub fn is_same(first: &Inbound, next: &Inbound) -> bool {
    first.album.is_some() && first.album == next.album && first.sender == next.sender
}

/// Whether it is never one of several: whoever answers or quotes means one message with another. In a topic
/// every message answers the first one.
pub fn is_alone(event: &Inbound) -> bool {
    let answers = event.reply_to.is_some() && event.thread_id.is_none();
    let is_said = event.kind == InboundKind::Message && !commands::is_one(event);
    !is_said || answers || event.quote.is_some()
}

/// Whether `next` continues what `first` began.
pub fn continues(first: &Inbound, next: &Inbound) -> bool {
    !is_alone(first)
        && !is_alone(next)
        && first.sender.user_id == next.sender.user_id
        && first.reply_to == next.reply_to
}

/// Whether `next` goes with `first`; `in_one_go`: not only as a part of the same album.
pub fn joins(first: &Inbound, next: &Inbound, in_one_go: bool, commands: &Commands) -> bool {
    let is_command = |event| commands.find(event).is_some();
    let belongs = (in_one_go && continues(first, next)) || is_same(first, next);
    belongs && !is_command(first) && !is_command(next)
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
    use protocol::event::Mention;

    use super::*;

    fn lane(chat: &str) -> Lane {
        let instance = protocol::id::Instance::new("p").unwrap();
        Lane { instance, chat_id: chat.into(), thread_id: None }
    }

    /// F99: a steady stream is held for a bounded time, and a lane holds no other.
    #[test]
    fn a_lane_is_held_until_it_is_quiet_and_never_for_ever() {
        let start = crate::clock::now();
        let at = |tenths: u64| start + Duration::from_millis(100 * tenths);
        let rule = Rule { quiet: Duration::from_secs(1), most: Duration::from_secs(3) };
        let mut bursts = Bursts::default();
        bursts.said(1, &lane("a"), rule, at(0));
        assert_eq!(bursts.held(&lane("a"), at(5)), Some(at(10)));
        assert_eq!(bursts.held(&lane("b"), at(5)), None);
        for tenths in [5, 10, 15, 20, 25] {
            bursts.said(tenths, &lane("a"), rule, at(tenths));
        }
        assert_eq!(bursts.held(&lane("a"), at(26)), Some(at(30)), "the bound from the first on");
        assert_eq!(bursts.held(&lane("a"), at(30)), None);
        bursts.said(31, &lane("a"), rule, at(31));
        bursts.said(32, &lane("a"), rule, at(32));
        assert_eq!(bursts.held(&lane("a"), at(32)), Some(at(42)), "a burst of its own");
        assert_eq!(bursts.end(&lane("a"), at(33)), [31, 32]);
        assert_eq!(bursts.held(&lane("a"), at(33)), None);
        assert!(bursts.end(&lane("a"), at(33)).is_empty());
        bursts.said(40, &lane("a"), rule, at(40));
        assert_eq!(bursts.holds(39, &lane("a"), at(40)), None, "it was there before the row");
        assert_eq!(bursts.holds(40, &lane("a"), at(40)), Some(at(50)));
    }

    #[test]
    fn an_answer_is_one_thing_whatever_stands_before_or_behind_it() {
        let said = |text: &str, answers: Option<&str>, thread: Option<&str>| Inbound {
            reply_to: answers.map(str::to_owned),
            thread_id: thread.map(str::to_owned),
            ..commands::tests::said(text, Mention::None)
        };
        let plain = said("a", None, None);
        assert!(continues(&plain, &plain));
        for alone in [
            said("a", Some("om_1"), None),
            said("/help", None, None),
            Inbound { quote: Some("b".into()), ..plain.clone() },
            Inbound { kind: InboundKind::Button, ..plain.clone() },
        ] {
            assert!(!continues(&plain, &alone) && !continues(&alone, &plain), "{alone:?}");
        }
        let in_topic = said("a", Some("om_root"), Some("omt_1"));
        assert!(continues(&in_topic, &in_topic));
    }
}

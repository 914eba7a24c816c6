//! When a message may be sent. Pure.
//!
//! The platform publishes no thresholds, only guidance: about one message a second in a chat, twenty a
//! minute in a group, thirty a second of a bot, short bursts tolerated. It enforces them by 429 with a time
//! to wait, and calls within that time make it longer. A limit of one chat stops no other chat; limits of
//! several at once mean the bot as a whole.
//!
//! Who has to wait is given a turn, which nobody else takes, and need not be here meanwhile: what is here when the
//! worker is killed may have left, for all that anybody knows.

use std::collections::HashMap;
use std::time::Duration;

use crate::clock::Instant;

/// Chats that are remembered; what is over is forgotten first.
const CHATS_MAX: usize = 1024;
/// Turns that are remembered likewise, and for how long after they have come.
const TURNS_MAX: usize = 4096;
const MISSED: Duration = Duration::from_secs(60);
/// Who comes so early for a turn need not come again.
const EARLY: Duration = Duration::from_millis(5);
/// So many chats under a limit at once mean the bot.
const WIDESPREAD: usize = 3;

/// A steady pace with room for a burst: each message moves `due` on by `step`, and may go while `due` is
/// at most `burst` ahead of now.
#[derive(Clone, Copy, Debug)]
struct Steady {
    step: Duration,
    burst: Duration,
}

const DIRECT: Steady = Steady { step: Duration::from_secs(1), burst: Duration::from_millis(3000) };
const GROUP: Steady = Steady { step: Duration::from_secs(3), burst: Duration::from_secs(15) };
/// Signs of work, which nobody misses much: few beside what is said.
const SIGN: Steady = Steady { step: Duration::from_millis(200), burst: Duration::from_millis(600) };
/// So far ahead messages may be while a sign goes: it delays none.
const AHEAD: Duration = Duration::from_millis(250);
const BOT: Steady = Steady { step: Duration::from_millis(34), burst: Duration::from_millis(500) };

#[derive(Clone, Copy, Debug)]
struct Chat {
    due: Instant,
    limited: Option<Instant>,
}

/// The pace of one bot.
#[derive(Debug)]
pub(super) struct Pace {
    chats: HashMap<i64, Chat>,
    bot: Chat,
    signs: Chat,
    /// When whose turn is: it counts as sent.
    turns: HashMap<u64, Instant>,
}

impl Pace {
    /// Nothing sent yet.
    pub(super) fn new(now: Instant) -> Self {
        let idle = Chat { due: now, limited: None };
        Self { chats: HashMap::new(), bot: idle, signs: idle, turns: HashMap::new() }
    }

    /// May a call of `whose` that makes `messages` of them go to `chat` now? Then they count as sent. Otherwise: how
    /// long to wait, and then it is its turn, unless the platform wants a pause by then.
    pub(super) fn ask(
        &mut self,
        whose: u64,
        chat: i64,
        messages: u32,
        now: Instant,
    ) -> Result<(), Duration> {
        let turn = self.turns.remove(&whose);
        if let Some(until) = self.limit(chat, now) {
            return Err(until - now);
        }
        if let Some(at) = turn {
            if at <= now + EARLY {
                return Ok(());
            }
            self.turns.insert(whose, at);
            return Err(at - now);
        }
        let (own, steady) = self.chat(chat, now);
        let wait = own.wait(steady, now).max(self.bot.wait(BOT, now));
        self.count(chat, messages, now);
        if wait.is_zero() {
            return Ok(());
        }
        self.turns.insert(whose, now + wait);
        Err(wait)
    }

    /// The same for what may as well be left out: it goes only where nothing has been sent of late, so that
    /// no message ever waits for it.
    pub(super) fn spare(&mut self, chat: i64, now: Instant) -> Result<(), Duration> {
        let (own, _) = self.chat(chat, now);
        let idle = Steady { step: Duration::ZERO, burst: Duration::ZERO };
        let wait = own.wait(idle, now);
        let wait = wait.max(self.bot.wait(idle, now));
        if !wait.is_zero() {
            return Err(wait);
        }
        self.count(chat, 1, now);
        Ok(())
    }

    /// May a sign of work be shown now? Then it counts as a call of the bot. Otherwise: how long to wait.
    pub(super) fn sign(&mut self, now: Instant) -> Result<(), Duration> {
        let spare = Steady { step: Duration::ZERO, burst: AHEAD };
        let wait = self.signs.wait(SIGN, now).max(self.bot.wait(spare, now));
        if !wait.is_zero() {
            return Err(wait);
        }
        self.signs.sent(SIGN, 1, now);
        self.bot.sent(BOT, 1, now);
        Ok(())
    }

    /// Whether the platform wants nothing for this chat now.
    pub(super) fn is_limited(&self, chat: i64, now: Instant) -> bool {
        self.limit(chat, now).is_some()
    }

    fn limit(&self, chat: i64, now: Instant) -> Option<Instant> {
        let own = self.chats.get(&chat).and_then(|chat| chat.limited);
        own.max(self.bot.limited).filter(|until| *until > now)
    }

    fn chat(&mut self, chat: i64, now: Instant) -> (&mut Chat, Steady) {
        self.forget(now);
        let own = self.chats.entry(chat).or_insert(Chat { due: now, limited: None });
        (own, if chat > 0 { DIRECT } else { GROUP })
    }

    fn count(&mut self, chat: i64, messages: u32, now: Instant) {
        let (own, steady) = self.chat(chat, now);
        own.sent(steady, messages, now);
        self.bot.sent(BOT, messages, now);
    }

    /// The platform wants no message for this chat for a while.
    pub(super) fn limited(&mut self, chat: i64, pause: Duration, now: Instant) {
        let until = now + pause;
        let own = self.chats.entry(chat).or_insert(Chat { due: now, limited: None });
        own.limited = own.limited.max(Some(until));
        let limited: Vec<_> = self.chats.values().filter_map(|chat| chat.limited).collect();
        if limited.iter().filter(|until| **until > now).count() >= WIDESPREAD {
            self.bot.limited = self.bot.limited.max(Some(until));
        }
    }

    fn forget(&mut self, now: Instant) {
        if self.chats.len() >= CHATS_MAX {
            self.chats
                .retain(|_, chat| chat.due > now || chat.limited.is_some_and(|until| until > now));
        }
        if self.turns.len() >= TURNS_MAX {
            self.turns.retain(|_, at| *at + MISSED > now);
        }
    }
}

impl Chat {
    fn wait(&self, steady: Steady, now: Instant) -> Duration {
        let limited = self
            .limited
            .map_or(Duration::ZERO, |until| until.checked_duration_since(now).unwrap_or_default());
        let ahead = self.due.checked_duration_since(now).unwrap_or_default();
        limited.max((ahead + steady.step).saturating_sub(steady.burst))
    }

    fn sent(&mut self, steady: Steady, messages: u32, now: Instant) {
        self.due = self.due.max(now) + steady.step * messages;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const SECOND: Duration = Duration::from_secs(1);

    /// When each of `times` messages goes, in seconds.
    fn run(pace: &mut Pace, chat: i64, times: usize, start: Instant) -> Vec<u64> {
        let mut now = start;
        (0..times)
            .map(|_| {
                while let Err(wait) = pace.ask(1, chat, 1, now) {
                    assert!(!wait.is_zero(), "a wait has an end");
                    now += wait;
                }
                (now - start).as_secs()
            })
            .collect()
    }

    #[test]
    fn a_chat_has_a_burst_and_then_a_pace() {
        let now = clock::now();
        assert_eq!(run(&mut Pace::new(now), 9, 6, now), [0, 0, 0, 1, 2, 3]);
        assert_eq!(run(&mut Pace::new(now), -9, 7, now), [0, 0, 0, 0, 0, 3, 6]);
    }

    /// One message of somebody new.
    fn ask(pace: &mut Pace, chat: i64, now: Instant) -> Result<(), Duration> {
        let whose = pace.turns.keys().max().map_or(0, |last| last + 1);
        pace.ask(whose, chat, 1, now)
    }

    /// Nobody waits here, and nobody comes in vain.
    #[test]
    fn the_bot_has_a_pace_over_all_chats_and_each_that_waits_a_turn() {
        let start = clock::now();
        let mut pace = Pace::new(start);
        let mut turns = Vec::new();
        for n in 0..300 {
            let chat = i64::try_from(n).unwrap();
            turns.push((pace.ask(n, chat, 1, start).err().unwrap_or_default(), n, chat));
        }
        let at_once = turns.iter().filter(|(wait, ..)| wait.is_zero()).count();
        assert!((10..=30).contains(&at_once), "{at_once}");
        let waits: Vec<_> = turns.iter().map(|(wait, ..)| *wait).skip(at_once).collect();
        assert!(waits.windows(2).all(|two| two[0] + BOT.step == two[1]), "{waits:?}");
        for (wait, n, chat) in turns.into_iter().skip(at_once) {
            assert_eq!(pace.ask(n, chat, 1, start), Err(wait), "it is not its turn yet");
            assert!(ask(&mut pace, 1000 + chat, start + wait).is_err(), "it is nobody else's");
            assert_eq!(pace.ask(n, chat, 1, start + wait), Ok(()));
        }
    }

    #[test]
    fn a_limit_stops_its_own_chat_and_several_stop_all() {
        let now = clock::now();
        let mut pace = Pace::new(now);
        pace.limited(1, 30 * SECOND, now);
        assert_eq!(ask(&mut pace, 1, now), Err(30 * SECOND));
        assert_eq!(ask(&mut pace, 2, now), Ok(()));
        pace.limited(1, 5 * SECOND, now);
        assert_eq!(ask(&mut pace, 1, now), Err(30 * SECOND), "the longer wish counts");
        pace.limited(2, 10 * SECOND, now);
        assert_eq!(ask(&mut pace, 3, now), Ok(()));
        pace.limited(3, 10 * SECOND, now);
        assert_eq!(ask(&mut pace, 4, now), Err(10 * SECOND));
        assert_eq!(ask(&mut pace, 4, now + 10 * SECOND), Ok(()));
        assert!(ask(&mut pace, 1, now + 29 * SECOND).is_err());
    }

    #[test]
    fn what_may_be_left_out_never_delays_a_message() {
        let now = clock::now();
        let mut pace = Pace::new(now);
        assert_eq!(pace.spare(-9, now), Ok(()));
        assert_eq!(pace.spare(-9, now), Err(3 * SECOND));
        assert_eq!(ask(&mut pace, -9, now), Ok(()), "a message may go at once");
        assert_eq!(pace.spare(-9, now + 3 * SECOND), Err(3 * SECOND));
        assert_eq!(pace.spare(-9, now + 6 * SECOND), Ok(()));
        pace.limited(-9, 30 * SECOND, now);
        assert!(pace.is_limited(-9, now) && !pace.is_limited(9, now));
        assert!(pace.spare(-9, now + 29 * SECOND).is_err());
    }

    #[test]
    fn signs_are_few_and_delay_no_message() {
        let start = clock::now();
        let mut pace = Pace::new(start);
        let mut signs = 0;
        for ms in 0..10_000 {
            let now = start + Duration::from_millis(ms);
            signs += u32::from(pace.sign(now).is_ok());
            if ms % 40 == 0 {
                assert_eq!(ask(&mut pace, i64::try_from(ms).unwrap(), now), Ok(()), "{ms}");
            }
        }
        assert!((20..=53).contains(&signs), "{signs}");
        while ask(&mut pace, 9, start + 10 * SECOND).is_ok()
            || ask(&mut pace, -9, start + 10 * SECOND).is_ok()
        {}
        for chat in 1000..1100 {
            let _ = ask(&mut pace, chat, start + 10 * SECOND);
        }
        assert!(pace.sign(start + 10 * SECOND).is_err(), "replies go first");
        pace.limited(1, 5 * SECOND, start + 20 * SECOND);
        pace.limited(2, 5 * SECOND, start + 20 * SECOND);
        pace.limited(3, 5 * SECOND, start + 20 * SECOND);
        assert_eq!(pace.sign(start + 20 * SECOND), Err(5 * SECOND));
    }

    #[test]
    fn an_album_counts_as_its_pictures() {
        let now = clock::now();
        let mut pace = Pace::new(now);
        assert_eq!(pace.ask(1, 9, 10, now), Ok(()));
        assert_eq!(ask(&mut pace, 9, now), Err(8 * SECOND));
    }

    #[test]
    fn it_stays_small() {
        let start = clock::now();
        let mut pace = Pace::new(start);
        for n in 0..5000 {
            let _ = ask(&mut pace, i64::from(n), start + SECOND * n);
        }
        assert!(pace.chats.len() <= CHATS_MAX && pace.turns.len() <= TURNS_MAX);
    }
}

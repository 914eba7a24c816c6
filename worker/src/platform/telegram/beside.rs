//! What is done besides hearing and replying: drafts, signs of work, files that an agent wants, and what a
//! person orders. None of it is kept, and none of it waits for another.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use protocol::content::Busy;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::answer::Said;
use super::encode::To;
use super::pace::Pace;
use super::{Shared, drafts, fetch, orders};
use crate::clock;
use crate::platform::{Ask, Note};

/// Things under way at once.
const AT_ONCE: usize = 64;
/// A sign of work lasts five seconds with the people who see it.
const AGAIN: Duration = Duration::from_secs(4);
/// Chats with a sign of work at once.
const SIGNS: usize = 256;
/// Signs under way at once: so many connections are kept for them and for polls.
const SHOWING: usize = 3;
/// An agent that is at work for longer than this has been forgotten.
const LONGEST: Duration = Duration::from_hours(1);

type Task<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Does what it is asked until the worker is told to stop.
pub(super) async fn run(shared: &Shared, mut asks: mpsc::Receiver<Ask>) {
    let mut tasks: FuturesUnordered<Task<'_, ()>> = FuturesUnordered::new();
    let mut showing: FuturesUnordered<Task<'_, Option<To>>> = FuturesUnordered::new();
    let mut signs = Signs::default();
    loop {
        let due = signs.due().filter(|_| showing.len() < SHOWING);
        tokio::select! {
            () = shared.stop.cancelled() => return,
            ask = asks.recv() => match ask {
                Some(Ask::Busy(busy)) => signs.on(&busy, clock::now()),
                Some(ask) if tasks.len() < AT_ONCE => tasks.push(Box::pin(task(shared, ask))),
                Some(ask) => shared.report.tell(refusal(ask)).await,
                None => return,
            },
            Some(()) = tasks.next() => {}
            Some(refused) = showing.next() => {
                if let Some(to) = refused {
                    signs.forget(to);
                }
            }
            () = sleep_until(due.unwrap_or_else(clock::now)), if due.is_some() => {
                let room = SHOWING.saturating_sub(showing.len());
                let places = signs.show(room, &mut shared.pace(), clock::now());
                for to in places {
                    showing.push(Box::pin(sign(shared, to)));
                }
            }
        }
    }
}

async fn task(shared: &Shared, ask: Ask) {
    let note = match ask {
        Ask::Draft(draft) => {
            let message_id = drafts::show(shared, &draft).await;
            Note::Drafted(draft.key, message_id)
        }
        Ask::Fetch(ticket, fetch) => Note::Fetched(ticket, fetch::fetch(shared, &fetch).await),
        Ask::Order(ticket, order) => Note::Ordered(ticket, orders::perform(shared, order).await),
        // It is no task.
        Ask::Busy(_) => return,
    };
    shared.report.tell(note).await;
}

/// Too much is under way.
fn refusal(ask: Ask) -> Note {
    let why = "too much is under way: try again".to_owned();
    match ask {
        Ask::Draft(draft) => Note::Drafted(draft.key, None),
        Ask::Fetch(ticket, _) => Note::Fetched(ticket, Err(why)),
        Ask::Order(ticket, _) => Note::Ordered(ticket, Err(why)),
        Ask::Busy(_) => Note::Progress,
    }
}

/// Shows that somebody is at work; where that is refused, it says where.
async fn sign(shared: &Shared, to: To) -> Option<To> {
    let chat = shared.now_at(to.chat);
    // Whatever goes there now is a better sign, and may be told of a limit.
    let turn = shared.turn(chat);
    let Ok(_turn) = turn.try_lock() else { return None };
    if shared.is_away() || shared.pace().is_limited(chat, clock::now()) {
        return None;
    }
    if drafts::again(shared, chat).await {
        return None;
    }
    let mut body = json!({"action": "typing"});
    To { chat, ..to }.address(&mut body, true);
    match shared.api.ask("sendChatAction", &body).await {
        Said::Limited(pause) => {
            drafts::limited(shared, chat, pause);
            None
        }
        Said::Refused(_) => Some(to),
        _ => None,
    }
}

/// Where an agent is at work.
#[derive(Default)]
struct Signs {
    at: HashMap<To, Sign>,
    /// When the latest sign of each chat was shown, as long as it can be seen, also where that work is done.
    seen: HashMap<i64, Instant>,
    /// Before that there is no room for more.
    room: Option<Instant>,
}

struct Sign {
    /// The messages that are worked on.
    messages: HashSet<Option<String>>,
    since: Instant,
    due: Instant,
    shown: Option<Instant>,
}

impl Signs {
    fn on(&mut self, busy: &Busy, now: Instant) {
        let Ok(to) = To::at(&busy.chat_id, busy.thread_id.as_deref(), None) else { return };
        if busy.on {
            if self.at.len() >= SIGNS && !self.at.contains_key(&to) {
                return;
            }
            let fresh = || Sign { messages: HashSet::new(), since: now, due: now, shown: None };
            let sign = self.at.entry(to).or_insert_with(fresh);
            sign.messages.insert(busy.message_id.clone());
            sign.since = now;
        } else if let Some(sign) = self.at.get_mut(&to) {
            sign.messages.remove(&busy.message_id);
            if sign.messages.is_empty() {
                self.at.remove(&to);
            }
        }
    }

    fn due(&self) -> Option<Instant> {
        let due = self.at.values().map(|sign| sign.due).min()?;
        Some(self.room.map_or(due, |room| due.max(room)))
    }

    /// Where to show a sign now, at `most` so many: first where none was shown for longest.
    fn show(&mut self, most: usize, pace: &mut Pace, now: Instant) -> Vec<To> {
        self.at.retain(|_, sign| now.duration_since(sign.since) < LONGEST);
        self.seen.retain(|_, at| now.duration_since(*at) < AGAIN);
        self.room = None;
        let mut due: Vec<_> = self.at.iter_mut().filter(|(_, sign)| sign.due <= now).collect();
        due.sort_by_key(|(_, sign)| sign.shown);
        let mut places = Vec::new();
        for (to, sign) in due {
            if let Some(at) = self.seen.get(&to.chat) {
                sign.due = *at + AGAIN;
                continue;
            }
            if places.len() >= most {
                break;
            }
            if let Err(wait) = pace.sign(now) {
                self.room = Some(now + wait);
                break;
            }
            self.seen.insert(to.chat, now);
            (sign.due, sign.shown) = (now + AGAIN, Some(now));
            places.push(*to);
        }
        places
    }

    fn forget(&mut self, to: To) {
        self.at.remove(&to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(message: &str, on: bool) -> Busy {
        Busy {
            chat_id: "9".into(),
            thread_id: Some("7".into()),
            message_id: Some(message.into()),
            on,
        }
    }

    /// Where signs are shown, with all the room that there is.
    fn show(signs: &mut Signs, now: Instant) -> Vec<To> {
        signs.show(usize::MAX, &mut Pace::new(now), now)
    }

    #[test]
    fn a_sign_is_shown_until_all_work_is_done() {
        let start = clock::now();
        let mut signs = Signs::default();
        signs.on(&busy("1", true), start);
        signs.on(&busy("2", true), start);
        let to = To { chat: 9, topic: Some(7), reply: None };
        assert_eq!(show(&mut signs, start), [to]);
        assert!(show(&mut signs, start + AGAIN / 2).is_empty());
        signs.on(&busy("1", false), start);
        assert_eq!(
            (show(&mut signs, start + AGAIN), signs.due()),
            (vec![to], Some(start + AGAIN * 2))
        );
        signs.on(&busy("2", false), start);
        assert_eq!(signs.due(), None);
    }

    #[test]
    fn a_chat_has_one_sign_at_a_time_however_often_work_begins() {
        let start = clock::now();
        let mut signs = Signs::default();
        signs.on(&busy("1", true), start);
        assert_eq!(show(&mut signs, start).len(), 1);
        signs.on(&busy("1", false), start);
        let other = Busy { thread_id: Some("8".into()), ..busy("3", true) };
        for busy in [busy("2", true), other] {
            signs.on(&busy, start);
        }
        assert!(show(&mut signs, start + AGAIN / 2).is_empty());
        assert_eq!(signs.due(), Some(start + AGAIN));
        // In turns, where it has topics.
        let turns = [1, 2, 3].map(|n| show(&mut signs, start + AGAIN * n));
        assert_eq!(turns.each_ref().map(Vec::len), [1, 1, 1]);
        assert!(turns[0] != turns[1] && turns[0] == turns[2]);
    }

    #[test]
    fn where_many_are_at_work_each_is_shown_in_turn_and_few_in_a_second() {
        let start = clock::now();
        let (mut signs, mut pace) = (Signs::default(), Pace::new(start));
        for chat in 1..=100 {
            signs.on(&Busy { chat_id: chat.to_string(), ..busy("1", true) }, start);
        }
        let mut shown: HashMap<To, u32> = HashMap::new();
        let mut now = start;
        while let Some(due) = signs.due() {
            now = now.max(due);
            if now >= start + Duration::from_secs(30) {
                break;
            }
            let places = signs.show(SHOWING, &mut pace, now);
            assert!(places.len() <= SHOWING);
            for to in places {
                *shown.entry(to).or_default() += 1;
            }
        }
        let all: u32 = shown.values().sum();
        assert!((145..=153).contains(&all), "{all}");
        assert!(shown.len() == 100 && shown.values().all(|times| *times <= 2), "{shown:?}");
    }

    #[test]
    fn nobody_works_for_ever() {
        let start = clock::now();
        let mut signs = Signs::default();
        signs.on(&busy("1", true), start);
        assert!(show(&mut signs, start + LONGEST).is_empty());
        assert_eq!(signs.due(), None);
    }
}

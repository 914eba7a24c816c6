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
use super::{Shared, drafts, fetch, orders};
use crate::clock;
use crate::platform::{Ask, Note};

/// Things under way at once.
const AT_ONCE: usize = 64;
/// A sign of work lasts five seconds with the people who see it.
const AGAIN: Duration = Duration::from_secs(4);
/// Chats with a sign of work at once.
const SIGNS: usize = 256;
/// An agent that is at work for longer than this has been forgotten.
const LONGEST: Duration = Duration::from_hours(1);

type Task<'a> = Pin<Box<dyn Future<Output = Option<To>> + 'a>>;

/// Does what it is asked until the worker is told to stop.
pub(super) async fn run(shared: &Shared, mut asks: mpsc::Receiver<Ask>) {
    let mut tasks: FuturesUnordered<Task<'_>> = FuturesUnordered::new();
    let mut signs = Signs::default();
    loop {
        let due = signs.due();
        tokio::select! {
            () = shared.stop.cancelled() => return,
            ask = asks.recv() => match ask {
                Some(Ask::Busy(busy)) => signs.on(&busy, clock::now()),
                Some(ask) if tasks.len() < AT_ONCE => tasks.push(Box::pin(task(shared, ask))),
                Some(ask) => shared.report.tell(refusal(ask)).await,
                None => return,
            },
            Some(refused) = tasks.next() => {
                if let Some(to) = refused {
                    signs.forget(to);
                }
            }
            () = sleep_until(due.unwrap_or_else(clock::now)), if due.is_some() => {
                for to in signs.show(clock::now()) {
                    tasks.push(Box::pin(sign(shared, to)));
                }
            }
        }
    }
}

async fn task(shared: &Shared, ask: Ask) -> Option<To> {
    let note = match ask {
        Ask::Draft(draft) => {
            let message_id = drafts::show(shared, &draft).await;
            Note::Drafted(draft.key, message_id)
        }
        Ask::Fetch(ticket, fetch) => Note::Fetched(ticket, fetch::fetch(shared, &fetch).await),
        Ask::Order(ticket, order) => Note::Ordered(ticket, orders::perform(shared, order).await),
        // It is no task.
        Ask::Busy(_) => return None,
    };
    shared.report.tell(note).await;
    None
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
    let mut body = json!({"action": "typing"});
    To { chat, ..to }.address(&mut body, true);
    match shared.api.ask("sendChatAction", &body).await {
        Said::Limited(pause) => {
            shared.pace().limited(chat, pause, clock::now());
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
}

struct Sign {
    /// The messages that are worked on.
    messages: HashSet<Option<String>>,
    since: Instant,
    due: Instant,
}

impl Signs {
    fn on(&mut self, busy: &Busy, now: Instant) {
        let Some(to) = To::at(&busy.chat_id, busy.thread_id.as_deref(), None) else { return };
        if busy.on {
            if self.at.len() >= SIGNS && !self.at.contains_key(&to) {
                return;
            }
            let fresh = || Sign { messages: HashSet::new(), since: now, due: now };
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
        self.at.values().map(|sign| sign.due).min()
    }

    /// Where a sign is due now.
    fn show(&mut self, now: Instant) -> Vec<To> {
        self.at.retain(|_, sign| now.duration_since(sign.since) < LONGEST);
        let due = self.at.iter_mut().filter(|(_, sign)| sign.due <= now);
        due.map(|(to, sign)| {
            sign.due = now + AGAIN;
            *to
        })
        .collect()
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

    #[test]
    fn a_sign_is_shown_until_all_work_is_done() {
        let start = clock::now();
        let mut signs = Signs::default();
        signs.on(&busy("1", true), start);
        signs.on(&busy("2", true), start);
        let to = To { chat: 9, topic: Some(7), reply: None };
        assert_eq!(signs.show(start), [to]);
        assert!(signs.show(start + AGAIN / 2).is_empty());
        signs.on(&busy("1", false), start);
        assert_eq!((signs.show(start + AGAIN), signs.due()), (vec![to], Some(start + AGAIN * 2)));
        signs.on(&busy("2", false), start);
        assert_eq!(signs.due(), None);
    }

    #[test]
    fn nobody_works_for_ever() {
        let start = clock::now();
        let mut signs = Signs::default();
        signs.on(&busy("1", true), start);
        assert!(signs.show(start + LONGEST).is_empty());
        assert_eq!(signs.due(), None);
    }
}

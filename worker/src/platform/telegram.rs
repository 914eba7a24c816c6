//! Platform `telegram`: the Bot API, by long polling or by a webhook.
//!
//! Three things run side by side and never wait for each other: hearing (`hear`, or `hook`), replying (`send`)
//! and what is done besides (`beside`). All try for ever; only a token that is good for nothing, or a port that
//! cannot be had, ends the worker.

mod amend;
mod answer;
mod api;
mod batch;
mod beside;
mod buttons;
mod content;
mod course;
mod decode;
mod drafts;
mod encode;
mod fetch;
mod hear;
mod hook;
mod intake;
mod labels;
mod line;
mod markup;
mod memory;
mod menu;
mod orders;
mod pace;
mod patience;
mod rich;
mod rival;
mod send;
mod standing;
mod steps;
mod tables;
mod things;
mod units;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::event::Inbound;
use protocol::worker::TelegramSettings;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use self::api::Api;
use self::drafts::Drafts;
use self::encode::To;
use self::memory::Memory;
use self::pace::Pace;
use self::standing::Standing;
use crate::Error;
use crate::clock::{self, Instant};
use crate::exchange::Exchange;
use crate::platform::{Context, Events, Note, Platform, Report};

/// Chats whose turns are remembered.
const TURNS: usize = 1024;
/// Pressed buttons that wait for a sign.
const PRESSED: usize = 64;
/// For so long messages wait for polls to succeed again.
const AWAY: Duration = Duration::from_mins(1);
/// The platform slows down all but the first 409 by three seconds more.
const CONFLICT: Duration = Duration::from_secs(1);

/// The platform takes a preview away after 30 s.
const PREVIEW: Duration = Duration::from_secs(20);

/// For the whole answer to a poll, besides waiting.
const WHOLE: Duration = Duration::from_secs(20);

/// The adapter.
#[derive(Debug)]
pub struct Telegram {
    settings: TelegramSettings,
    /// The pause after a first conflict with another poll.
    conflict: Duration,
    /// A preview is shown again when it is so old.
    preview: Duration,
    /// The whole answer to a poll may take so long, besides waiting.
    whole: Duration,
}

impl Telegram {
    /// For the bot in `settings`.
    pub fn new(settings: TelegramSettings) -> Self {
        Self { settings, conflict: CONFLICT, preview: PREVIEW, whole: WHOLE }
    }
}

impl Platform for Telegram {
    async fn run(self, context: Context) -> Result<(), Error> {
        let base_url = crate::http::base_url(&self.settings.base_url)?;
        let (press, pressed) = mpsc::channel(PRESSED);
        let shared = Shared {
            api: Api::new(TelegramSettings { base_url, ..self.settings }, &context.network)?,
            events: context.events,
            report: context.report,
            stop: context.stop.child_token(),
            pace: Mutex::new(Pace::new(clock::now())),
            pressed: press,
            conflict: self.conflict,
            preview: self.preview,
            whole: self.whole,
            away: Mutex::default(),
            standing: Mutex::default(),
            exchange: context.exchange,
            drafts: Drafts::default(),
            turns: Mutex::default(),
            doubt: Notify::new(),
            heard: Notify::new(),
            memory: Mutex::new(Memory::read(context.cursor.as_ref())),
        };
        let webhook = shared.api.settings().webhook.clone();
        let hearing = async {
            let heard = match &webhook {
                Some(webhook) => hook::run(&shared, webhook).await,
                None => hear::run(&shared).await,
            };
            // Without a token that is good, replies cannot go either.
            shared.stop.cancel();
            heard
        };
        let replying = send::run(&shared, context.outbound);
        let beside = beside::run(&shared, context.asks);
        let signs = send::notice(&shared, pressed);
        let (heard, (), (), (), ()) =
            tokio::join!(hearing, replying, signs, beside, menu::run(&shared));
        heard
    }
}

/// What everything here shares.
struct Shared {
    api: Api,
    events: Events,
    report: Report,
    stop: CancellationToken,
    pace: Mutex<Pace>,
    pressed: mpsc::Sender<String>,
    conflict: Duration,
    preview: Duration,
    whole: Duration,
    /// Since when polls fail.
    away: Mutex<Option<Instant>>,
    standing: Mutex<Standing>,
    exchange: Exchange,
    drafts: Drafts,
    /// One call at a time for each chat: what a call is told of a limit, the next one must know.
    turns: Mutex<HashMap<i64, Arc<tokio::sync::Mutex<()>>>>,
    /// A reply had no answer: somebody may want to look whether the platform is there.
    doubt: Notify,
    /// The platform is heard.
    heard: Notify,
    memory: Mutex<Memory>,
}

impl Shared {
    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the platform takes of us while it is heard.
    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A poll failed, or was answered.
    fn set_away(&self, is_away: bool) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        *away = is_away.then(|| away.unwrap_or_else(clock::now));
    }

    /// Whether a message sent now would probably be lost. After a while it is tried nevertheless: polling
    /// alone may be what fails.
    fn is_away(&self) -> bool {
        let away = *self.away.lock().unwrap_or_else(PoisonError::into_inner);
        away.is_some_and(|since| clock::now().duration_since(since) < AWAY)
    }

    /// The turn of calls for a chat.
    fn turn(&self, chat: i64) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.len() >= TURNS {
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        }
        turns.entry(chat).or_default().clone()
    }

    /// The webhook that is ours.
    fn remembered(&self) -> Option<String> {
        self.memory().webhook.clone()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers it beyond this life.
    async fn remember(&self, url: Option<&str>) {
        let url = url.map(str::to_owned);
        let cursor = {
            let mut memory = self.memory();
            if memory.webhook == url {
                return;
            }
            memory.webhook = url;
            memory.cursor()
        };
        self.report.tell(Note::Cursor(cursor)).await;
    }

    /// A group goes on under another id, a refused call says. Should it be forgotten, the next one says it again.
    fn moved(&self, from: i64, to: i64) {
        let mut memory = self.memory();
        memory.moved(from, to);
        self.report.hint(Note::Cursor(memory.cursor()));
    }

    /// The same, said only once: whether it is remembered for ever.
    async fn keep_moved(&self, from: i64, to: i64) -> bool {
        let cursor = {
            let mut memory = self.memory();
            memory.moved(from, to);
            memory.cursor()
        };
        self.events.keep(cursor).await
    }

    /// Under which id a chat goes on.
    fn now_at(&self, chat: i64) -> i64 {
        self.memory().now_at(chat)
    }

    /// The same of a place: where a chat goes on under another id its messages of before have other numbers.
    fn now_to(&self, to: To) -> To {
        let chat = self.now_at(to.chat);
        To { chat, reply: to.reply.filter(|_| chat == to.chat), ..to }
    }

    /// The id that the chat of `event` had before.
    fn former(&self, event: &Inbound) -> Option<String> {
        let chat = event.chat_id.parse().ok()?;
        self.memory().former(chat).map(|id| id.to_string())
    }
}

#[cfg(test)]
mod tests;

//! Platform `feishu`: Feishu and Lark, over the platform's long connection and its open API.
//!
//! Four things run side by side and never wait for each other: hearing (`socket`, `receive`), replying
//! (`send`), what is shown or fetched beside replies (`asks`), and finding out who the bot is. The connection is tried for ever; what a person must mend is
//! said, and probed slowly. Where a reply goes is found out in `place`.

mod absence;
mod accounts;
mod answer;
mod api;
mod asks;
mod chunks;
mod compose;
mod connect;
mod content;
mod decode;
mod discovery;
mod drafts;
mod edit;
mod encode;
mod fetch;
mod fill;
mod frame;
mod health;
mod late;
mod live;
mod markdown;
mod memory;
mod order;
mod place;
mod react;
mod receive;
mod rival;
mod seal;
mod send;
mod socket;
mod tags;
mod token;
mod topics;
mod upload;
mod webhook;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::worker::{FeishuSettings, Outside, Ready};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::absence::Absence;
use self::api::{Api, Bot};
use self::discovery::{Endpoint, Failure};
use self::drafts::Drafts;
use self::late::{Late, Told};
use self::memory::Memory;
use self::order::Order;
use self::react::Working;
use self::send::Unfinished;
use self::socket::Ended;
use crate::Error;
use crate::clock::{self, Instant};
use crate::exchange::Exchange;
use crate::http::{self, Http};
use crate::platform::{Context, Events, Note, Platform, Report};
use crate::session::{Input, Session};

/// The platform knows a `uuid` for an hour; the rest is for the way there.
const IDEMPOTENT_MS: u64 = 55 * 60_000;
/// What real connections are given. A black hole is noticed after 13 s at most.
const LIMITS: Limits = Limits {
    discovery: Duration::from_secs(8),
    handshake: Duration::from_secs(8),
    live: live::Limits {
        silence: Duration::from_secs(5),
        insist: Duration::from_secs(3),
        patience: Duration::from_secs(8),
        frame: Duration::from_secs(12),
    },
    rival: rival::Limits { every: Duration::from_mins(1), settled: Duration::from_secs(45) },
    absence: absence::Limits {
        least: Duration::from_secs(15),
        save: Duration::from_secs(8),
        again: Duration::from_secs(30),
        soon: Duration::from_millis(500),
    },
    turn: Duration::from_secs(15),
    asking: Duration::from_secs(12),
    reply: Duration::from_secs(15),
    file: Duration::from_mins(5),
};
const BOT_FIRST: Duration = Duration::from_secs(1);
const BOT_MOST: Duration = Duration::from_mins(1);

/// The adapter.
#[derive(Debug)]
pub struct Feishu {
    settings: FeishuSettings,
    limits: Limits,
}

/// How long each step towards a working connection may take, and each attempt at a reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Limits {
    /// The call that says where the connection is.
    discovery: Duration,
    /// Opening it, from the name to the end of the handshake.
    handshake: Duration,
    /// Silence on it.
    live: live::Limits,
    /// Looking for others who are connected as this app.
    rival: rival::Limits,
    /// What was said while nobody listened.
    absence: absence::Limits,
    /// What comes and cannot be told yet, or waits for what was said before it in its chat. A chat is not to stand
    /// still for longer because an interface of the platform does.
    turn: Duration,
    /// All questions about one event; less than what others wait for it.
    asking: Duration,
    /// All parts of a reply but its files; what is not done by then goes on in the next attempt.
    reply: Duration,
    /// Fetching a file.
    file: Duration,
}

impl Feishu {
    /// For the app in `settings`.
    pub fn new(settings: FeishuSettings) -> Self {
        Self { settings, limits: LIMITS }
    }
}

impl Platform for Feishu {
    async fn run(self, context: Context) -> Result<(), Error> {
        let base_url = http::base_url(&self.settings.base_url)?;
        let settings = FeishuSettings { base_url, ..self.settings };
        let hook = settings.webhook.clone();
        let http = Http::over(&settings.base_url, &context.network)?;
        let absence = Absence::recall(context.cursor.as_ref());
        let mut memory = Memory::default();
        for (user, chat) in absence.people() {
            memory.speaks(&user, &chat);
        }
        let shared = Shared {
            limits: self.limits,
            api: Api::new(http, settings, self.limits.file),
            events: context.events,
            exchange: context.exchange,
            report: context.report,
            stop: context.stop,
            bot: watch::Sender::new(None),
            memory: Mutex::new(memory),
            order: Order::new(self.limits.turn),
            late: Mutex::default(),
            quiet: Mutex::default(),
            drafts: Drafts::default(),
            unfinished: Unfinished::default(),
            working: Working::default(),
            absence,
        };
        let hearing = async {
            match &hook {
                Some(hook) => webhook::hear(&shared, hook).await,
                None => hear(&shared).await,
            }
        };
        tokio::join!(
            hearing,
            send::run(&shared, context.outbound),
            asks::run(&shared, context.asks),
            shared.stop.run_until_cancelled(learn(&shared)),
            shared.stop.run_until_cancelled(tell(&shared)),
            shared.stop.run_until_cancelled(rival::watch(&shared)),
            shared.stop.run_until_cancelled(absence::catch_up(&shared)),
            absence::remember(&shared),
        );
        Ok(())
    }
}

/// What everything here shares.
struct Shared {
    limits: Limits,
    api: Api,
    events: Events,
    exchange: Exchange,
    report: Report,
    stop: CancellationToken,
    bot: watch::Sender<Option<Bot>>,
    memory: Mutex<Memory>,
    order: Order,
    late: Mutex<Late>,
    /// Parts of the API that need not be asked for a while, and why.
    quiet: Mutex<HashMap<&'static str, (Instant, String)>>,
    drafts: Drafts,
    unfinished: Unfinished,
    working: Working,
    absence: Absence,
}

impl Shared {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bot(&self) -> Option<Bot> {
        self.bot.borrow().clone()
    }

    /// Waits until the bot knows itself.
    async fn known(&self) {
        // The sender is ours, so this cannot fail.
        let _ = self.bot.subscribe().wait_for(Option::is_some).await;
    }

    /// An event was answered in time, or not.
    fn late(&self, in_time: bool) -> Option<Told> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner).on(in_time, clock::now())
    }

    /// Why asking this part of the API is of no use just now.
    fn quiet(&self, api: &'static str) -> Option<String> {
        let mut quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::now();
        quiet.retain(|_, (until, _)| *until > now);
        quiet.get(api).map(|(_, why)| why.clone())
    }

    fn be_quiet(&self, api: &'static str, span: Duration, why: &str) {
        let mut quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        quiet.insert(api, (clock::now() + span, why.to_owned()));
    }

    fn account(&self) -> String {
        let app = &self.api.settings.app_id;
        match self.bot() {
            Some(bot) => format!("{app} ({}, {})", bot.name, bot.open_id),
            None => app.clone(),
        }
    }
}

/// Finds out who the bot is, however long that takes.
async fn learn(shared: &Shared) {
    let mut pause = BOT_FIRST;
    let mut told = String::new();
    loop {
        match shared.api.bot().await {
            Ok(bot) => {
                shared.bot.send_replace(Some(bot));
                return;
            }
            Err(why) if why == told => {}
            Err(why) => {
                tracing::warn!(reason = why, "mentions in groups cannot be recognised yet");
                told = why;
            }
        }
        tokio::time::sleep(pause + clock::jitter(pause / 4)).await;
        pause = (pause * 2).min(BOT_MOST);
    }
}

/// Tells what works less than it should, whenever that changes.
async fn tell(shared: &Shared) {
    loop {
        shared.api.health.changed.notified().await;
        if let Some(outside) = shared.api.health.outside() {
            shared.report.tell(Note::Outside(outside)).await;
        }
    }
}

/// Keeps a connection until the worker is told to stop.
async fn hear(shared: &Shared) {
    let mut state =
        State { shared, session: Session::new(), ready: false, down: None, works: false };
    loop {
        let failure =
            match shared.stop.run_until_cancelled(Box::pin(open(shared, &state.session))).await {
                None => return,
                Some(Ok((connection, endpoint))) => {
                    match socket::serve(shared, &mut state, connection, &endpoint).await {
                        Ended::Stopped => return,
                        Ended::Lost(failure) => failure,
                    }
                }
                Some(Err(failure)) => failure,
            };
        let pause = state.fails(failure).await;
        if shared.stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
    }
}

async fn open(
    shared: &Shared,
    session: &Session,
) -> Result<(connect::Connection, Endpoint), Failure> {
    let (api, limits) = (&shared.api, shared.limits);
    api.http.set_slow(session.is_slow());
    let limit = session.limit(limits.discovery);
    let endpoint = discovery::discover(&api.http, &api.settings, limit).await?;
    shared.absence.told(endpoint.date_ms);
    let connection = connect::connect(&api.http, &endpoint, session, limits.handshake).await?;
    Ok((connection, endpoint))
}

/// What is known of the connection, and what the supervisor was told of it.
struct State<'a> {
    shared: &'a Shared,
    session: Session,
    ready: bool,
    works: bool,
    down: Option<(String, Option<&'static str>)>,
}

impl State<'_> {
    /// A frame of the platform arrived: the connection works.
    async fn works(&mut self) {
        self.shared.absence.alive(self.shared);
        if self.works {
            return;
        }
        self.works = true;
        self.down = None;
        self.session.on(Input::Proven, clock::now());
        let health = &self.shared.api.health;
        health.connected(true);
        tracing::info!("connected");
        if !self.ready {
            self.ready = true;
            let account = self.shared.account();
            let ready = Ready { account, idempotent_ms: Some(IDEMPOTENT_MS) };
            self.shared.report.tell(Note::Ready(ready)).await;
        }
        if let Some(outside) = health.outside() {
            self.shared.report.tell(Note::Outside(outside)).await;
        }
    }

    /// There is no connection: how long to wait before the next attempt.
    async fn fails(&mut self, failure: Failure) -> Duration {
        self.works = false;
        self.shared.absence.gone();
        self.shared.api.health.connected(false);
        let now = clock::now();
        let Failure { loss, reason, remedy, conflict } = failure;
        let pause = self.session.on(Input::Lost(loss), now).map_or(Duration::ZERO, |retry| {
            retry.at.duration_since(now) + clock::jitter(retry.spread)
        });
        let down = Some((reason, remedy));
        if self.down != down {
            self.down = down;
            if let Some((reason, remedy)) = self.down.clone() {
                tracing::warn!(reason, delay_ms = pause.as_millis(), "not connected");
                let remedy = remedy.map(str::to_owned);
                let outside = match remedy {
                    Some(remedy) if conflict => Outside::Conflict { reason, remedy },
                    remedy => Outside::Down { reason, remedy },
                };
                self.shared.report.tell(Note::Outside(outside)).await;
            }
        }
        pause
    }
}

#[cfg(test)]
mod tests;

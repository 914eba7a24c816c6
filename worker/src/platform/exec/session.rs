//! One program from its first line to its last: what it tells, and for how long it is waited for.
//!
//! A resume point covers everything that was told before it. So it waits for the verdicts of all that, and is refused
//! while something of it is not stored and has not been told again: a program that was careless with the order would
//! else lose what its platform never says again.

mod asking;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::FuturesUnordered;
use protocol::content;
use protocol::rpc::platform::{self as rpc, Delivered, Initialize, Initialized};
use protocol::rpc::{
    BUSY, INVALID_PARAMS, INVALID_REQUEST, LEASE_MS, LEASE_RANGE, Leased, Line, METHOD_NOT_FOUND,
    NOT_INITIALIZED, PROTOCOL,
};
use protocol::worker::{ExecPlatformSettings, Outside, Ready, Verdict};
use serde_json::{Value, json as object};
use tokio::io::{AsyncRead, AsyncWrite};

use super::course::{Course, Manner};
use super::news::News;
use super::owed::{Mark, Owed};
use super::params::{Called, Told, What, event, json, read, read_required, resume_point};
use crate::clock::{self, Instant};
use crate::connection::{Connection, Read, meant};
use crate::json::brief;
use crate::platform::{Context, Note};

/// How long an answer to one of our requests may take.
const ANSWER: Duration = Duration::from_secs(300);
/// A limit that is met so late was slept through: we were stopped, and the program may have been, too.
const OVERSLEPT: Duration = Duration::from_secs(5);
/// For messages under way when we are told to end.
const LAST: Duration = Duration::from_secs(2);
/// The program is heard until so much of what it told has no verdict yet: bytes, and events and resume points.
const UNSETTLED: usize = 4 * 1024 * 1024;
const TURNS: usize = 256;
/// Drafts and wishes for bytes under way at once.
const ASKS: usize = 256;

/// How a session ended.
pub(super) enum Ended {
    /// We are told to end.
    Stopped,
    /// The program is gone, and why.
    Gone(String),
}

/// Something has its verdict.
struct Turn {
    id: Value,
    bytes: usize,
    /// Of an event: what it is known by.
    event: Option<Mark>,
    /// `None`: nobody will say.
    verdict: Option<Verdict>,
}

/// What it is asked.
enum Asked {
    Send(Box<Course>),
    Draft(String),
    Fetch(u64, Box<content::Fetch>),
}

/// One program.
pub(super) struct Session<'a, R, W> {
    connection: Connection<R, W>,
    settings: &'a ExecPlatformSettings,
    manner: Manner,
    name: Option<String>,
    initialized: bool,
    /// It has said once that it hears.
    was_ready: bool,
    pub(super) news: News,
    /// What it has said about that holds until then.
    until: Instant,
    heard: Instant,
    waiting: VecDeque<Told>,
    turns: FuturesUnordered<BoxFuture<'static, Turn>>,
    /// Of what has no verdict, in bytes.
    unsettled: usize,
    /// What was not stored and has not been told again.
    owed: Owed,
    /// Requests without an answer, by number, when they were made, and where their lines end.
    asked: BTreeMap<u64, (Instant, u64, Asked)>,
    last: u64,
    /// How often it said what cannot be taken.
    mistakes: u64,
    /// We are told to end: until when.
    leaving: Option<Instant>,
}

impl<'a, R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Session<'a, R, W> {
    pub(super) fn new(connection: Connection<R, W>, settings: &'a ExecPlatformSettings) -> Self {
        Self {
            connection,
            settings,
            manner: Manner::default(),
            name: None,
            initialized: false,
            was_ready: false,
            news: News::new(clock::now()),
            until: clock::now(),
            heard: clock::now(),
            waiting: VecDeque::new(),
            turns: FuturesUnordered::new(),
            unsettled: 0,
            owed: Owed::default(),
            asked: BTreeMap::new(),
            last: 0,
            mistakes: 0,
            leaving: None,
        }
    }

    /// Serves the program to its end. One that is silent for `patience` beyond what it promised is at its end.
    pub(super) async fn serve(&mut self, context: &mut Context, patience: Duration) -> Ended {
        let mut heard_before = true;
        loop {
            if self.leaving.is_none() {
                self.hand_in(context).await;
            }
            if self.leaving.is_some() && !self.is_sending() {
                return Ended::Stopped;
            }
            let hears = self.unsettled < UNSETTLED && self.waiting.len() + self.turns.len() < TURNS;
            let begins_again = !std::mem::replace(&mut heard_before, hears);
            if !hears || begins_again {
                // It may have spoken, and we did not listen.
                self.heard = clock::now();
            }
            let silent = self.until.max(self.heard) + patience;
            let late = self.asked.values().next().map(|(since, ..)| *since + ANSWER);
            let (is_up, due, now) = (self.news.is_up(), self.news.due(), clock::now());
            tokio::select! {
                () = context.stop.cancelled(), if self.leaving.is_none() => {
                    self.leaving = Some(clock::now() + LAST);
                    context.outbound.close();
                }
                () = tokio::time::sleep_until(self.leaving.unwrap_or(now)), if self.leaving.is_some() => {
                    return Ended::Stopped;
                }
                Some(turn) = self.turns.next() => {
                    if let Some(ended) = self.settle(turn) {
                        return ended;
                    }
                }
                Some(outbound) = context.outbound.recv() => self.send(outbound, context).await,
                Some(ask) = context.asks.recv(), if self.asked.len() < ASKS => self.ask(ask, context).await,
                () = tokio::time::sleep_until(self.until), if is_up => {
                    let why = "the program does not say any more that it hears its platform";
                    self.tell(context, down(why)).await;
                }
                () = tokio::time::sleep_until(due.unwrap_or(now)), if due.is_some() => {
                    self.inform(context).await;
                }
                () = tokio::time::sleep_until(silent), if hears => {
                    if self.overslept(silent) {
                        continue;
                    }
                    return Ended::Gone("it fell silent".into());
                }
                () = tokio::time::sleep_until(late.unwrap_or(now)), if late.is_some() => {
                    if self.overslept(late.unwrap_or(now)) {
                        continue;
                    }
                    let seconds = ANSWER.as_secs();
                    return Ended::Gone(format!("it has not answered a request for {seconds} s"));
                }
                read = self.connection.read(), if hears => {
                    self.heard = clock::now();
                    match read {
                        Read::Line(line) => self.hear(line, context).await,
                        Read::Wrong(code, why) => {
                            self.misunderstood("a line", code, context);
                            self.connection.fault(&Value::Null, code, why);
                        }
                        Read::End(_) if self.leaving.is_some() => return Ended::Stopped,
                        Read::End(why) => return Ended::Gone(why),
                    }
                }
            }
        }
    }

    /// What is already written for the program is given a moment to reach it.
    pub(super) async fn goodbye(&mut self) {
        let _ = tokio::time::timeout(Duration::from_millis(500), self.connection.finish()).await;
    }

    fn is_sending(&self) -> bool {
        self.asked.values().any(|(.., asked)| matches!(asked, Asked::Send(_)))
    }

    /// Whether a limit was slept through. Then all that is waited for may take as long again.
    fn overslept(&mut self, limit: Instant) -> bool {
        let now = clock::now();
        let has = now > limit + OVERSLEPT;
        if has {
            self.heard = now;
            self.asked.values_mut().for_each(|(since, ..)| *since = now);
        }
        has
    }

    /// How the platform is.
    async fn tell(&mut self, context: &Context, outside: Outside) {
        self.news.say(outside);
        self.inform(context).await;
    }

    /// Tells people of it, if it is time.
    async fn inform(&mut self, context: &Context) {
        if let Some(outside) = self.news.tell(clock::now()) {
            context.report.tell(Note::Outside(outside)).await;
        }
    }

    /// Hands in what may go, in order.
    async fn hand_in(&mut self, context: &Context) {
        while let Some(told) = self.waiting.front() {
            let covers = !matches!(told.what, What::Event(_, None));
            if covers && !self.turns.is_empty() {
                break;
            }
            let Some(Told { id, bytes, what }) = self.waiting.pop_front() else { break };
            let own = match &what {
                What::Event(event, _) => Some(self.owed.mark(event)),
                What::Cursor(_) => None,
            };
            let turn = move |verdict| Turn { id, bytes, event: own, verdict };
            match what {
                _ if covers && self.owed.bars(own) => {
                    self.turns.push(std::future::ready(turn(Some(Verdict::Refused))).boxed());
                }
                What::Event(event, cursor) => {
                    let events = context.events.clone();
                    let answer = events.submit(*event, cursor.clone()).await;
                    let verdict = async move { turn(events.verdict(answer, cursor).await) };
                    self.turns.push(verdict.boxed());
                }
                What::Cursor(cursor) => {
                    let events = context.events.clone();
                    let kept = async move {
                        let kept = events.keep(cursor).await;
                        turn(kept.then_some(Verdict::Duplicate))
                    };
                    self.turns.push(kept.boxed());
                }
            }
        }
    }

    /// Tells the program what became of something.
    fn settle(&mut self, turn: Turn) -> Option<Ended> {
        let Turn { id, bytes, event, verdict } = turn;
        self.unsettled -= bytes;
        let word = match verdict {
            Some(Verdict::Accepted(_)) => "accepted",
            Some(Verdict::Duplicate) => "duplicate",
            Some(Verdict::Denied) => "denied",
            Some(Verdict::Refused) | None => {
                let why =
                    "not stored now: do not acknowledge it, and say it and what follows again";
                self.fault(&id, BUSY, why);
                let fits = event.is_none_or(|event| self.owed.add(event));
                let why = "it goes on although nothing is stored";
                return (!fits).then(|| Ended::Gone(why.into()));
            }
        };
        if let Some(event) = event {
            self.owed.settled(event);
            let event_id = match verdict {
                Some(Verdict::Accepted(event_id)) => Some(event_id.to_string()),
                _ => None,
            };
            self.result(&id, Ok(json(&Delivered { verdict: word.to_owned(), event_id })));
        } else {
            self.result(&id, Ok(object!({})));
        }
        None
    }

    fn result(&mut self, id: &Value, called: Called) {
        match called {
            // A notification gets no answer.
            _ if id.is_null() => {}
            Ok(result) => self.connection.result(id, &result),
            Err((code, message)) => self.connection.fault(id, code, message),
        }
    }

    fn fault(&mut self, id: &Value, code: i32, why: &str) {
        self.result(id, Err((code, why.to_owned())));
    }

    async fn hear(&mut self, line: Line, context: &Context) {
        match (line.method.as_deref(), line.id) {
            (Some(method), id) => {
                let params = line.params.as_ref().map_or("null", |params| params.get());
                self.call(method, params, id.unwrap_or(Value::Null), context).await;
            }
            (None, Some(id)) => {
                let number = id.as_str().and_then(|id| id.parse().ok());
                let asked = number.and_then(|number: u64| self.asked.remove(&number));
                let Some((.., asked)) = asked else {
                    // Not by its name: the program may have asked something by the same.
                    let why = "an answer to no request of ours";
                    self.misunderstood("an answer", INVALID_REQUEST, context);
                    self.connection.fault(&Value::Null, INVALID_REQUEST, why);
                    return;
                };
                let result = line.result.and_then(|it| meant(it.get()).ok());
                let answer = line.error.map_or(Ok(result.unwrap_or_default()), Err);
                self.answered(asked, answer, context).await;
            }
            (None, None) => {
                let why = "neither a request nor an answer";
                self.misunderstood("a line", INVALID_REQUEST, context);
                self.connection.fault(&Value::Null, INVALID_REQUEST, why);
            }
        }
    }

    async fn call(&mut self, method: &str, params: &str, id: Value, context: &Context) {
        let done = match method {
            "initialize" => self.initialize(params, context),
            _ if !self.initialized => Err((NOT_INITIALIZED, "initialize comes first".into())),
            "ready" => self.ready(params, context).await,
            "down" => self.down(params, context).await,
            "event.deliver" | "cursor.keep" => {
                let what =
                    if method == "event.deliver" { event(params) } else { resume_point(params) };
                match what {
                    Ok(what) => {
                        context.report.hint(Note::Progress);
                        self.unsettled += params.len();
                        self.waiting.push_back(Told { id, bytes: params.len(), what });
                        return;
                    }
                    Err(why) => Err(why),
                }
            }
            other => Err((METHOD_NOT_FOUND, format!("there is no method {other:?}"))),
        };
        if let Err((code, _)) = done {
            self.misunderstood(method, code, context);
        }
        self.result(&id, done);
    }

    /// It is told what is wrong with what it says. People are told that something is, without what it says.
    fn misunderstood(&mut self, what: &str, code: i32, context: &Context) {
        context.report.hint(Note::Malformed);
        self.mistakes += 1;
        if self.mistakes.is_power_of_two() {
            let (what, times) = (brief(what), self.mistakes);
            tracing::warn!(what, code, times, "the program says what cannot be taken");
        }
    }

    fn initialize(&mut self, params: &str, context: &Context) -> Called {
        if self.initialized {
            return Err((INVALID_REQUEST, "initialize comes once".into()));
        }
        let said: Initialize = read(params)?;
        if said.protocol.is_some_and(|version| version != PROTOCOL) {
            return Err((INVALID_PARAMS, format!("this gateway speaks protocol {PROTOCOL}")));
        }
        if said.text_limit.is_some_and(|limit| limit < 16) {
            return Err((INVALID_PARAMS, "text_limit must be at least 16".into()));
        }
        self.manner = Manner::from(&said);
        self.name = said.name;
        self.initialized = true;
        self.until = clock::now();
        let secrets = self.settings.secrets.iter();
        let cursor = context.cursor.as_ref();
        Ok(json(&Initialized {
            protocol: PROTOCOL,
            gateway: concat!("hermes-gw ", env!("CARGO_PKG_VERSION")).to_owned(),
            instance: self.settings.instance.to_string(),
            exchange: context.exchange.dir().to_owned(),
            cursor: cursor.and_then(|it| serde_json::from_slice(&it.0).ok()).unwrap_or_default(),
            settings: serde_json::from_str(&self.settings.settings).unwrap_or_default(),
            secrets: secrets.map(|(name, it)| (name.clone(), it.expose().to_owned())).collect(),
        }))
    }

    async fn ready(&mut self, params: &str, context: &Context) -> Called {
        let said: rpc::Ready = read(params)?;
        let leased = self.lease(said.lease_ms);
        context.report.hint(Note::Progress);
        if !std::mem::replace(&mut self.was_ready, true) {
            let name = said.account.or(self.name.take());
            let account = name.unwrap_or_else(|| self.settings.command.join(" "));
            let idempotent_ms = self.manner.idempotent_ms;
            context.report.tell(Note::Ready(Ready { account, idempotent_ms })).await;
            self.news.is_told_up();
        }
        let outside = match said.reason {
            Some(reason) => Outside::Limited { reason, remedy: said.remedy },
            None => Outside::Up,
        };
        self.tell(context, outside).await;
        Ok(leased)
    }

    async fn down(&mut self, params: &str, context: &Context) -> Called {
        let rpc::Down { reason, remedy, lease_ms } = read_required(params)?;
        let leased = self.lease(lease_ms);
        self.tell(context, Outside::Down { reason, remedy }).await;
        Ok(leased)
    }

    fn lease(&mut self, wanted_ms: Option<u32>) -> Value {
        let wanted = wanted_ms.unwrap_or(LEASE_MS);
        let lease_ms = wanted.clamp(*LEASE_RANGE.start(), *LEASE_RANGE.end());
        self.until = clock::now() + Duration::from_millis(u64::from(lease_ms));
        json(&Leased { lease_ms })
    }
}

fn down(why: &str) -> Outside {
    Outside::Down { reason: why.to_owned(), remedy: None }
}

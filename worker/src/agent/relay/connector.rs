//! What to send to the agent and when, and what its words mean for our events. Pure.
//!
//! The contract lacks what a gateway needs to know, so it is found out:
//!
//! * *Is it ready?* It takes events and drops them in its first second. A harmless command in a chat
//!   that does not exist is repeated until it is answered; the names of these chats are never used again.
//! * *Is a turn over?* Its acknowledgement means "in memory", so an event is kept until a final message
//!   matches it. One event a session at a time, since what waits in the agent becomes one merged turn.
//! * *Did it restart?* Then what it held is gone and is offered again; if it merely dialled again, its
//!   turns still run, and a second copy would be answered twice. Its state file tells the process and
//!   how many turns run; where that cannot be read, a new connection counts as a restart.
//! * *A turn that says nothing* is over when no turn runs any more; without the state file only a limit
//!   ends it, and then nobody knows: the event is set aside with that doubt.

mod loss;
mod messages;
mod port;
mod rivals;
mod standing;
mod stops;

use std::collections::BTreeSet;
use std::time::Duration;

use protocol::event::Delivery;
use protocol::id::EventId;
use protocol::worker::{FromWorker, Outside};

use self::messages::Early;
pub(super) use self::port::{Action, Conn, Ends, Input, Process, Rules};
use self::rivals::Rivals;
use self::standing::Strangers;
use self::stops::Stops;
use super::book::{Book, Entry, State};
use super::wire::{self, Heard, Op};
use crate::agent::blame::Blame;
use crate::clock::Instant;

/// How often time is looked at while there is something to look after.
const BEAT: Duration = Duration::from_millis(500);
/// How long readiness holds, and how often it and all leases of events are renewed.
const LEASE_MS: u32 = 30_000;
const RENEW: Duration = Duration::from_secs(10);
/// An agent that lost its connection while it waited for a result holds that session for so long, and
/// its state file does not tell.
const STUCK: Duration = Duration::from_secs(32);
/// No turn runs for so long after a loss: the answer was lost with the connection.
const SETTLED: Duration = Duration::from_secs(2);
/// No turn runs for so long after an event was taken: its turn said nothing.
const SILENT: Duration = Duration::from_secs(10);
/// The agent dials again within 30 s. One that is away for longer hands its events back.
const AWAY: Duration = Duration::from_secs(60);
/// An event that a former worker had is offered again within so long.
const FORMER: Duration = Duration::from_secs(120);
/// The chats of our probes.
const PROBE: &str = "hgw-probe-";
/// The messages of our commands that end turns.
pub(super) const STOP: &str = "hgw-stop-";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Asking whether it listens.
    Probing { next: Instant },
    /// It listens; which process is it?
    Recognising,
    /// Events may go.
    Open { renew: Instant },
    /// It is about to leave, or refuses work. One that is still here then is asked again: a model may say what
    /// only looks like a farewell.
    Leaving { until: Instant },
}

/// The connection that is served.
#[derive(Debug)]
struct Live {
    conn: Conn,
    platforms: BTreeSet<String>,
    phase: Phase,
}

impl Live {
    fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open { .. })
    }

    /// It has proved that it listens.
    fn is_begun(&self) -> bool {
        !matches!(self.phase, Phase::Probing { .. })
    }
}

/// The machine.
#[derive(Debug)]
pub(super) struct Connector {
    rules: Rules,
    live: Option<Live>,
    rivals: Rivals,
    /// Probes so far.
    probes: u64,
    down_since: Option<Instant>,
    book: Book,
    /// What people have ended.
    stops: Stops,
    process: Option<String>,
    /// Since when no turn runs, as far as the state file tells.
    idle_since: Option<Instant>,
    /// An event that was offered before may still be in work.
    cautious: bool,
    /// Until then a session of the agent may be stuck.
    stuck_until: Instant,
    /// Until then an answer may be to an event that is on its way to us again.
    former_until: Instant,
    /// Answers that may be such ones.
    early: Vec<Early>,
    progress: Instant,
    beat: Instant,
    /// Turns that run, as the state file told last.
    active: Option<u64>,
    /// What was told of `concurrency` last.
    places: u32,
    blame: Blame,
    /// It takes no work, and why.
    left: Option<&'static str>,
    strangers: Strangers,
    /// What is wrong with the directory of the state file.
    home: Option<String>,
    /// The gate stays shut.
    is_shut: bool,
    /// What was told of the connection last. One that is ready counts as up.
    told: Outside,
}

impl Connector {
    pub(super) fn new(rules: Rules, now: Instant) -> Self {
        Self {
            rules,
            live: None,
            rivals: Rivals::new(),
            probes: 0,
            down_since: None,
            book: Book::default(),
            stops: Stops::default(),
            process: None,
            idle_since: None,
            cautious: true,
            stuck_until: now,
            former_until: now + FORMER,
            early: Vec::new(),
            progress: now,
            beat: now,
            active: None,
            places: 0,
            blame: Blame::default(),
            left: None,
            strangers: Strangers::default(),
            home: None,
            is_shut: false,
            told: Outside::Up,
        }
    }

    /// When time is to be looked at again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let is_idle = self.live.is_none() && self.book.entries.is_empty() && self.early.is_empty();
        let is_idle = is_idle && self.strangers.mute.is_empty() && !self.stops.is_coming();
        (!is_idle).then_some(self.beat + BEAT)
    }

    /// It has an agent, and nothing is at work there.
    pub(super) fn is_at_rest(&self) -> bool {
        self.is_open() && self.book.entries.is_empty() && self.early.is_empty()
    }

    /// What follows from `input`.
    pub(super) fn on(&mut self, input: Input, now: Instant) -> Vec<Action> {
        let mut out = Vec::new();
        match input {
            Input::Entered(conn) => drop(self.strangers.mute.insert(conn, now)),
            Input::TurnedAway(why) => self.strangers.turned_away = Some(why),
            Input::Heard(conn, heard) => self.heard(conn, heard, now, &mut out),
            Input::Closed(conn) => self.closed(conn, now, &mut out),
            Input::Coming(id) => self.stops.comes(id),
            Input::Deliver(delivery) => self.deliver(delivery, now, &mut out),
            Input::Interrupt(id) => self.interrupt(id, &mut out),
            Input::Judged { conn, request, ends, verdict } => {
                self.judged(conn, &request, ends, verdict, &mut out);
            }
            Input::Seen(process) => self.seen(process, now, &mut out),
            Input::Home(trouble) => self.home = trouble,
            Input::Shut(is_shut) => {
                self.is_shut = is_shut;
                if self.is_open() {
                    out.push(Action::Say(self.lease(LEASE_MS)));
                }
            }
            Input::Tick => self.tick(now, &mut out),
        }
        self.tell_stops(now, &mut out);
        self.flush(now, &mut out);
        self.stops.settle(&mut out);
        if self.is_open() && self.places != self.places() {
            self.places = self.places();
            out.push(Action::Say(self.lease(LEASE_MS)));
        }
        if let Some(outside) = self.outside(now).filter(|outside| *outside != self.told) {
            self.told = outside.clone();
            out.push(Action::Say(FromWorker::Outside(outside)));
        }
        for action in &out {
            if let Action::Say(said) = action {
                self.blame.note(said);
            }
        }
        out
    }

    fn is_open(&self) -> bool {
        self.live.as_ref().is_some_and(Live::is_open)
    }

    fn heard(&mut self, conn: Conn, heard: Heard, now: Instant, out: &mut Vec<Action>) {
        if let Heard::Hello(platform) = heard {
            self.hello(conn, platform, now, out);
            return;
        }
        // What an older connection still says is true; only its readiness is nobody's.
        match heard {
            Heard::Outbound { request, platform, op } => match op {
                Op::Send(send) => self.send(conn, request, platform, &send, now, out),
                Op::ChatInfo { chat_id } => {
                    let kind = self.book.kind_of(&chat_id);
                    out.push(Action::Line(conn, wire::chat_info(&request, &chat_id, kind)));
                }
                Op::Unknown(name) => {
                    tracing::debug!(op = name, "the agent wants what is not offered");
                    out.push(Action::Line(conn, wire::failed(&request, "unsupported op")));
                }
            },
            Heard::Taken(buffer_id) => self.book.taken(conn, &buffer_id, now),
            Heard::GoingIdle => {
                out.push(Action::Line(conn, wire::going_idle_ack()));
                self.rivals.gone(conn);
                if self.live.as_ref().is_some_and(|live| live.conn == conn) {
                    self.leave("it is about to leave", now, out);
                }
            }
            // A turn that seems to say nothing may have said that.
            Heard::Unreadable => {
                self.book.gap();
                self.stuck_until = self.stuck_until.max(now + STUCK);
            }
            Heard::Hello(_) | Heard::Other => {}
        }
    }

    fn hello(&mut self, conn: Conn, platform: String, now: Instant, out: &mut Vec<Action>) {
        self.strangers.hello(conn);
        out.push(Action::Line(conn, wire::descriptor(&platform)));
        if !self.rules.platforms.iter().any(|(_, kind)| *kind == platform) {
            tracing::warn!(platform, "the agent fronts a platform that it does not hear here");
        }
        let fresh = Phase::Probing { next: now };
        match &mut self.live {
            Some(live) if live.conn == conn => {
                live.platforms.insert(platform);
                if matches!(live.phase, Phase::Leaving { .. }) {
                    live.phase = fresh;
                }
            }
            Some(_) => self.rival(conn, platform, now, out),
            None => {
                let platforms = BTreeSet::from([platform]);
                self.live = Some(Live { conn, platforms, phase: fresh });
                self.rivals = Rivals::new();
            }
        }
        self.down_since = None;
        self.tick(now, out);
    }

    fn closed(&mut self, conn: Conn, now: Instant, out: &mut Vec<Action>) {
        self.strangers.mute.remove(&conn);
        self.rivals.gone(conn);
        if self.live.as_ref().is_some_and(|live| live.conn == conn) {
            self.live = None;
            self.lost(out);
            if self.promote(now) {
                // It was here beside the other, so it is another process, and the file may be either's.
                self.rivals.is_contested = true;
                self.process = None;
                self.tick(now, out);
            } else {
                self.down_since = Some(now);
            }
        }
    }

    /// The gate shuts; what the agent holds stays with it.
    fn lost(&mut self, out: &mut Vec<Action>) {
        out.push(Action::Say(self.lease(0)));
        self.book.gap();
    }

    fn lease(&self, ttl_ms: u32) -> FromWorker {
        let ttl_ms = if self.is_shut { 0 } else { ttl_ms };
        FromWorker::Lease { ttl_ms, concurrency: self.places() }
    }

    /// Events that may be here at once. Those that only wait keep nobody else out.
    fn places(&self) -> u32 {
        let own = self.rules.concurrency;
        let stuck = self.active.map_or(0, |active| self.book.stuck(self.cautious, active));
        own.saturating_add(u32::try_from(stuck).unwrap_or(own).min(own))
    }

    fn deliver(&mut self, delivery: Box<Delivery>, now: Instant, out: &mut Vec<Action>) {
        let event_id = delivery.event_id;
        let is_again = delivery.attempt > 1;
        if self.stops.is_over(event_id) {
            // It is acknowledged already.
        } else if !delivery.event.kind.is_said() {
            // As text it would be taken for a question.
            out.push(Action::Say(FromWorker::Ack { event_id }));
        } else if self.book.add(delivery) {
            tracing::info!(event_id = event_id.0, "its first copy was answered meanwhile");
            out.push(Action::Say(FromWorker::Ack { event_id }));
        } else if is_again {
            self.answered_early(event_id, now, out);
        }
    }

    /// Hands an event back, to be offered again at once; the attempt counts.
    fn refuse(&mut self, id: EventId, why: &str, out: &mut Vec<Action>) {
        if self.book.give_up(id) {
            let (reason, after_ms) = (why.to_owned(), Some(0));
            out.push(Action::Say(FromWorker::Nack { event_id: id, reason, after_ms }));
        }
    }

    /// The answer to a probe of this very connection proves that the agent listens.
    fn probed(&mut self, conn: Conn, chat: &str, now: Instant, out: &mut Vec<Action>) {
        let own = self.probe_prefix(conn);
        let Some(live) = &mut self.live else { return };
        if live.conn != conn || !chat.starts_with(&own) {
            return;
        }
        self.rivals.lives();
        if !live.is_begun() {
            live.phase = Phase::Recognising;
            out.push(Action::Look);
            self.beat = now;
        }
    }

    fn probe_prefix(&self, conn: Conn) -> String {
        format!("{PROBE}{}-{conn}-", self.rules.nonce)
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.beat = now;
        self.let_go(now, out);
        self.ask_again(now, out);
        let lease = self.lease(LEASE_MS);
        if let Some(live) = &mut self.live {
            match &mut live.phase {
                Phase::Probing { next } if *next <= now => {
                    *next = now + BEAT;
                    self.probe(out);
                }
                Phase::Open { renew } if *renew <= now => {
                    *renew = now + RENEW;
                    out.push(Action::Say(lease));
                }
                Phase::Recognising => out.push(Action::Look),
                Phase::Leaving { until } if *until <= now => {
                    live.phase = Phase::Probing { next: now };
                    self.left = None;
                }
                Phase::Probing { .. } | Phase::Open { .. } | Phase::Leaving { .. } => {}
            }
        }
        if self.down_since.is_some_and(|at| at + AWAY <= now) && !self.book.entries.is_empty() {
            self.hand_back(now, out);
        }
        if self.live.is_some() && !self.book.entries.is_empty() {
            out.push(Action::Look);
            self.limit(now, out);
        }
        if self.progress + RENEW <= now {
            self.progress = now;
            let held = self.book.entries.keys().copied().chain(self.stops.coming());
            out.extend(held.map(|event_id| Action::Say(FromWorker::Progress { event_id })));
        }
    }

    /// Sends what may go: one event of each session.
    fn flush(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Some(Live { conn, phase: Phase::Open { .. }, .. }) = &self.live else { return };
        if self.rivals.is_asked() {
            return;
        }
        for entry in self.book.due(self.cautious, &self.blame) {
            let (event_id, attempt) = (entry.delivery.event_id.0, entry.delivery.attempt);
            if attempt > 1 {
                tracing::warn!(event_id, attempt, "offered again: the agent may have seen it");
            }
            tracing::debug!(event_id, attempt, session = entry.key, "to the agent");
            let event = entry.source.event(&entry.delivery);
            let line = wire::inbound(event, Some(&entry.buffer(*conn)));
            out.push(Action::Line(*conn, line));
            entry.state = State::Sent { since: now, taken: None, gap: false };
        }
    }
}

#[cfg(test)]
mod tests;

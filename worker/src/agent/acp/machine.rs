//! Which process works on what, in which session, and what its words mean for our events. Pure.
//!
//! | an event is | until | then |
//! |---|---|---|
//! | fetching | its files are here | waiting |
//! | waiting | a process has room for its turn | opening, or prompting if its session is open there |
//! | opening | its session is made, loaded, resumed or forked there | prompting |
//! | prompting | the answer to the prompt, or the end of the process | answering, handed back |
//! | answering | its reply is stored | acknowledged |
//!
//! * One prompt a session: a second one is put behind the first by some agents and lost by others.
//! * The answer to the prompt ends the turn; it names no text, the chunks before it are the text.
//! * A session is *suspect* after a prompt failed, or after a cancel that did not simply end the turn: at
//!   least one agent takes it for busy for ever then. A fork cures it, else another process.
//! * A session that is loaded must show that it is the one: an agent that does not know it may make an
//!   empty one without a word.
//! * After a crash the user's text is in the agent's memory already. It is not said twice: the agent is
//!   asked to go on.

mod ask;
mod course;
mod life;
mod open;
mod state;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use protocol::content::{Act, Content, Draft, Fetch};
use protocol::event::{Abilities, Delivery, InboundKind, Note, Reply};
use protocol::id::{EventId, Lane};
use protocol::worker::{AcpSettings, FromWorker, Outside, ReplyVerdict};
use serde_json::{Value, json};

use self::state::{Asked, Kept, Phase, Process, Replay, Step, Stop, Talk, Work};
use super::turn::{self, Turn};
use super::wire::{self, Able, Fault, Heard, Update};
use crate::agent::blame::Blame;
use crate::clock::Instant;

/// How long readiness holds, and how often it and all leases of events are renewed.
const LEASE_MS: u32 = 30_000;
const RENEW: Duration = Duration::from_secs(10);
/// How often time is looked at while there is something to look after.
const BEAT: Duration = Duration::from_millis(250);
/// For `initialize`: some agents are downloaded first. And for each session.
const OPEN: Duration = Duration::from_secs(120);
/// From a cancel to the end of its turn.
const CANCEL: Duration = Duration::from_secs(10);
/// From the answer to a question to the cancel of its turn.
const REFUSED: Duration = Duration::from_secs(1);
/// How long a process that is to be replaced may go on with its other turns.
const DOOMED: Duration = Duration::from_secs(30);
/// An answer that is whole within this time is not shown before: one message instead of several calls.
const FIRST_DRAFT: Duration = Duration::from_millis(200);
/// Between two drafts of one reply.
const DRAFT: Duration = Duration::from_millis(250);
/// Conversations whose sessions are known here.
const TALKS: usize = 1024;
/// Times that one event may find its session useless.
const TRIES: u32 = 2;
/// The store is busy: again after so long.
const STORE_AGAIN_MS: u64 = 1000;
/// Pauses before a process is started again.
const PAUSES: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
];
/// What is said to an agent that has the question, and perhaps its answer, from before.
const GO_ON: &str = "(Your work on my last message was interrupted, or its answer did not reach me. \
                     Answer that message now, whole.)";

/// A process.
pub(super) type Number = u64;

/// What has happened.
#[derive(Debug)]
pub(super) enum Input {
    /// An event for the agent.
    Deliver(Box<Delivery>),
    /// It is to end its work on one.
    Interrupt(EventId),
    /// Something is said while it works on one: perhaps the answer to a question.
    Said { event_id: EventId, more: Box<Delivery> },
    /// The answer to [`Action::Fetch`]: blocks of content.
    Fetched(EventId, Vec<Value>),
    /// A process says something.
    Line(Number, String),
    /// A process is gone, and why.
    Ended(Number, String),
    /// The verdict on the reply to an event.
    Judged(EventId, Option<ReplyVerdict>),
    /// Time has passed.
    Tick,
}

/// What to do.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    /// Start a process.
    Start(Number),
    /// Write a line to it.
    Write(Number, String),
    /// End it, with all that it has started.
    Kill(Number),
    /// Tell the supervisor.
    Say(FromWorker),
    /// Bring files, in order.
    Fetch { event_id: EventId, fetches: Vec<Fetch>, inline: bool },
    /// Hand a reply in; `event_id`: it is the answer to this event.
    Reply { event_id: Option<EventId>, reply: Box<Reply>, turn: Box<Turn> },
}

/// The machine.
#[derive(Debug)]
pub(super) struct Machine {
    settings: AcpSettings,
    processes: BTreeMap<Number, Process>,
    last: Number,
    /// When to start another one, and how often that failed.
    start_at: Option<Instant>,
    failures: usize,
    talks: HashMap<Lane, Talk>,
    renewed: Option<Instant>,
    beat: Instant,
    told: Option<Outside>,
    questions: u64,
    blame: Blame,
}

impl Machine {
    pub(super) fn new(settings: AcpSettings, now: Instant) -> Self {
        Self {
            settings,
            processes: BTreeMap::new(),
            last: 0,
            start_at: Some(now),
            failures: 0,
            talks: HashMap::new(),
            renewed: None,
            beat: now,
            told: None,
            questions: 0,
            blame: Blame::default(),
        }
    }

    /// When time is to be looked at again.
    pub(super) fn deadline(&self) -> Instant {
        let works = self.talks.values().any(|talk| talk.work.is_some());
        let settled = self.processes.values().all(|process| process.phase == Phase::Ready);
        let idle = !works && settled && !self.processes.is_empty();
        self.beat + if idle { RENEW / 2 } else { BEAT }
    }

    /// What follows from `input`.
    pub(super) fn on(&mut self, input: Input, now: Instant) -> Vec<Action> {
        let mut out = Vec::new();
        match input {
            Input::Deliver(delivery) => self.deliver(delivery, now, &mut out),
            Input::Interrupt(id) => self.interrupt(id, now, &mut out),
            Input::Said { event_id, more } => self.said(event_id, &more, &mut out),
            Input::Fetched(id, blocks) => {
                if let Some(work) = self.work_on(id).filter(|work| work.step == Step::Fetching) {
                    work.blocks = blocks;
                    work.step = Step::Waiting;
                }
            }
            Input::Line(number, line) => self.line(number, &line, now, &mut out),
            Input::Ended(number, why) => self.ended(number, &why, now, &mut out),
            Input::Judged(id, verdict) => self.judged(id, verdict, &mut out),
            Input::Tick => {}
        }
        if self.beat + BEAT <= now {
            self.beat = now;
            self.tick(now, &mut out);
        }
        self.start(now, &mut out);
        self.assign(now, &mut out);
        for action in &out {
            if let Action::Say(said) = action {
                self.blame.note(said);
            }
        }
        out
    }

    fn work_on(&mut self, id: EventId) -> Option<&mut Work> {
        let works = self.talks.values_mut().filter_map(|talk| talk.work.as_mut());
        works.into_iter().find(|work| work.delivery.event_id == id)
    }

    fn lane_of(&self, id: EventId) -> Option<Lane> {
        let is = |work: &Work| work.delivery.event_id == id;
        let mut talks = self.talks.iter();
        talks.find(|(_, talk)| talk.work.as_ref().is_some_and(is)).map(|(lane, _)| lane.clone())
    }

    fn lane_of_session(&self, number: Number, session: &str) -> Option<Lane> {
        let is = |talk: &Talk| {
            talk.home == Some(number) && talk.kept.session.as_deref() == Some(session)
        };
        self.talks.iter().find(|(_, talk)| is(talk)).map(|(lane, _)| lane.clone())
    }

    fn deliver(&mut self, delivery: Box<Delivery>, now: Instant, out: &mut Vec<Action>) {
        let event_id = delivery.event_id;
        if ask::is_answer(&delivery.event) {
            return ask::over(&delivery, out);
        }
        if !delivery.event.kind.is_said() {
            out.push(Action::Say(FromWorker::Ack { event_id }));
            return;
        }
        let lane = delivery.lane.clone();
        let known = self.talks.get(&lane).filter(|talk| talk.epoch == delivery.session.epoch);
        if known.is_none() {
            let kept = serde_json::from_slice(&delivery.session.note).unwrap_or_default();
            let epoch = delivery.session.epoch;
            // What is still at work in the conversation of before comes to its end by itself.
            let home = None;
            let (is_suspect, opens, work) = (false, 0, None);
            let talk = Talk { epoch, kept, home, is_suspect, opens, used: now, work };
            if let Some(Talk { work: Some(work), .. }) = self.talks.insert(lane.clone(), talk) {
                let event_id = work.delivery.event_id;
                out.push(Action::Say(FromWorker::Defer { event_id, after_ms: 0 }));
            }
            self.forget();
        }
        let Some(talk) = self.talks.get_mut(&lane) else { return };
        talk.used = now;
        if let Some(work) = &talk.work {
            if work.delivery.event_id != event_id {
                out.push(Action::Say(FromWorker::Defer { event_id, after_ms: 1000 }));
            }
            return;
        }
        if delivery.attempt > 1 {
            let (event_id, attempt) = (event_id.0, delivery.attempt);
            tracing::warn!(event_id, attempt, "asked again: the agent may have seen it");
        }
        let fetches: Vec<Fetch> = delivery
            .event
            .parts
            .iter()
            .map(|part| Fetch {
                instance: lane.instance.clone(),
                message_id: delivery.event.message_id.clone(),
                part: part.clone(),
            })
            .collect();
        let step = if fetches.is_empty() { Step::Waiting } else { Step::Fetching };
        talk.work = Some(Work {
            delivery,
            step,
            blocks: Vec::new(),
            heard: now,
            turn: Turn::default(),
            show_at: None,
            is_news: false,
            stop: Stop::No,
            questions: Vec::new(),
            replay: Replay::default(),
            is_lost: false,
            is_torn: false,
            tries: 0,
        });
        if !fetches.is_empty() {
            let inline = self.processes.values().any(|process| process.able.image);
            out.push(Action::Fetch { event_id, fetches, inline });
        }
    }

    /// Those that were idle longest.
    fn forget(&mut self) {
        while self.talks.len() > TALKS {
            let idle = self.talks.iter().filter(|(_, talk)| talk.work.is_none());
            let oldest = idle.min_by_key(|(_, talk)| talk.used).map(|(lane, _)| lane.clone());
            let Some(oldest) = oldest else { return };
            self.talks.remove(&oldest);
        }
    }

    fn line(&mut self, number: Number, line: &str, now: Instant, out: &mut Vec<Action>) {
        match wire::decode(line) {
            // It may have been a part of any answer that this process is at.
            None if wire::is_broken(line) => {
                tracing::warn!(number, bytes = line.len(), "a line that nobody can read");
                for talk in self.talks.values_mut().filter(|talk| talk.home == Some(number)) {
                    if let Some(work) = &mut talk.work {
                        work.is_torn |= matches!(work.step, Step::Prompting(_));
                    }
                }
            }
            None => tracing::debug!(number, bytes = line.len(), "a line that is none"),
            Some(Heard::Answer(request, answer)) => {
                self.answered(number, request, answer, now, out);
            }
            Some(Heard::Update { session, update }) => {
                self.update(number, &session, update, now, out);
            }
            Some(Heard::Permission { id, session, title, options }) => {
                let asked = ask::Asked { number, id, title, options };
                self.permission(&session, asked, now, out);
            }
            Some(Heard::Unknown { id, method }) => {
                tracing::debug!(number, method, "the agent wants what is not offered");
                out.push(Action::Write(number, wire::not_offered(&id)));
            }
            Some(Heard::Other) => {}
        }
    }

    fn answered(
        &mut self,
        number: Number,
        request: u64,
        answer: Result<Value, Fault>,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(process) = self.processes.get_mut(&number) else { return };
        match process.asked.remove(&request) {
            None => {}
            Some(Asked::Initialize) => self.introduced(number, answer, now, out),
            Some(Asked::Probe) => self.probed(number, answer, now, out),
            Some(Asked::Prompt(lane, id)) => self.prompted(&lane, id, answer, out),
            Some(asked @ (Asked::New(_) | Asked::Load(_) | Asked::Resume(_) | Asked::Fork(_))) => {
                self.opened(number, &asked, answer, now, out);
            }
        }
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.renewed.is_none_or(|at| at + RENEW <= now) {
            self.renewed = Some(now);
            self.lease(out);
            let works = self.talks.values().filter_map(|talk| talk.work.as_ref());
            let ids = works.map(|work| work.delivery.event_id);
            out.extend(ids.map(|event_id| Action::Say(FromWorker::Progress { event_id })));
        }
        self.tick_processes(now, out);
        let lanes: Vec<Lane> = self.talks.keys().cloned().collect();
        for lane in lanes {
            self.tick_work(&lane, now, out);
        }
    }

    fn note(&self, lane: &Lane) -> Option<FromWorker> {
        let talk = self.talks.get(lane)?;
        let bytes = serde_json::to_vec(&talk.kept).ok()?;
        let note = Note { epoch: talk.epoch, bytes };
        Some(FromWorker::Remember { lane: lane.clone(), note })
    }
}

#[cfg(test)]
mod tests;

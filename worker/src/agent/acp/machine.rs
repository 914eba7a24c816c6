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
mod life;
mod open;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use protocol::content::{Act, Content, Draft, Fetch};
use protocol::event::{Abilities, Delivery, InboundKind, Note, Reply};
use protocol::id::{EventId, Lane};
use protocol::worker::{AcpSettings, FromWorker, Outside, ReplyVerdict};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::turn::{self, Turn};
use super::wire::{self, Able, Fault, Heard, Update};
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

#[derive(Clone, PartialEq, Eq, Debug)]
enum Asked {
    Initialize,
    Probe,
    New(Lane),
    Load(Lane),
    Resume(Lane),
    Fork(Lane),
    Prompt(Lane, EventId),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Introducing itself.
    Starting(Instant),
    /// Showing that it can make a session.
    Probing(Instant),
    Ready,
    Dying,
}

#[derive(Debug)]
struct Process {
    phase: Phase,
    born: Instant,
    able: Able,
    asked: HashMap<u64, Asked>,
    last: u64,
    /// A session that nobody has yet.
    spare: Option<String>,
    /// To be replaced: no new turns, and an end at this time.
    doomed: Option<Instant>,
    /// Whose turn it is killed for.
    culprit: Option<Lane>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Fetching,
    Waiting,
    Opening(Instant),
    Prompting(Instant),
    Answering,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Stop {
    No,
    /// A person wants it; told to the agent at.
    Wanted {
        at: Instant,
        told: Option<Instant>,
    },
    /// It took too long; told to the agent at.
    Limit {
        told: Instant,
        why: String,
    },
}

/// What a session that is loaded says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Replay {
    is_any: bool,
    /// What the user said last.
    last: String,
    /// The agent said something behind it.
    is_answered: bool,
}

#[derive(Debug)]
struct Work {
    delivery: Box<Delivery>,
    step: Step,
    blocks: Vec<Value>,
    heard: Instant,
    turn: Turn,
    /// When its answer is shown again.
    show_at: Option<Instant>,
    is_news: bool,
    stop: Stop,
    questions: Vec<ask::Question>,
    replay: Replay,
    /// The session from before is lost.
    is_lost: bool,
    tries: u32,
}

#[derive(Debug)]
struct Talk {
    epoch: u64,
    kept: Kept,
    /// Where its session is open.
    home: Option<Number>,
    is_suspect: bool,
    used: Instant,
    work: Option<Work>,
}

/// What is kept of a conversation.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    session: Option<String>,
    /// The event that it was prompted with last.
    asked: Option<u64>,
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
        let is_late_answer = ask::is_answer(&delivery.event);
        if !delivery.event.kind.is_said() || is_late_answer {
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
            let talk = Talk { epoch, kept, home, is_suspect: false, used: now, work: None };
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

    fn update(
        &mut self,
        number: Number,
        session: &str,
        update: Update,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(lane) = self.lane_of_session(number, session) else { return };
        let Some(work) = self.talks.get_mut(&lane).and_then(|talk| talk.work.as_mut()) else {
            return;
        };
        work.heard = now;
        match work.step {
            Step::Opening(_) => work.replay.on(update),
            Step::Prompting(_) => {
                if work.turn.on(update) {
                    work.is_news = true;
                    work.show_at.get_or_insert(now + FIRST_DRAFT);
                }
                show(work, now, out);
                if let Stop::Wanted { told: None, .. } = work.stop {
                    self.cancel(&lane, now, out);
                }
            }
            Step::Fetching | Step::Waiting | Step::Answering => {}
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
            Some(Asked::Prompt(lane, id)) => self.prompted(&lane, id, answer, now, out),
            Some(asked @ (Asked::New(_) | Asked::Load(_) | Asked::Resume(_) | Asked::Fork(_))) => {
                self.opened(number, &asked, answer, now, out);
            }
        }
    }

    /// The turn is over, or failed.
    fn prompted(
        &mut self,
        lane: &Lane,
        id: EventId,
        answer: Result<Value, Fault>,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(talk) = self.talks.get_mut(lane) else { return };
        let able = talk.home.and_then(|home| self.processes.get(&home));
        let is_hermes = able.is_some_and(|process| process.able.is_hermes());
        let Some(work) = talk.work.as_mut().filter(|work| work.delivery.event_id == id) else {
            return;
        };
        let text = work.turn.text().trim().to_owned();
        let reason = match &answer {
            Ok(value) => value.get("stopReason").and_then(Value::as_str).unwrap_or("").to_owned(),
            Err(_) => String::new(),
        };
        match (answer, work.stop.clone()) {
            (Err(fault), Stop::No) => {
                tracing::warn!(
                    event_id = id.0,
                    code = fault.code,
                    text = fault.text,
                    "a prompt failed"
                );
                if work.tries < TRIES && is_unknown_session(&fault) {
                    work.tries += 1;
                    work.is_lost = true;
                    (work.step, talk.kept) = (Step::Waiting, Kept::default());
                    return;
                }
                talk.is_suspect = true;
                self.fail(lane, format!("the prompt failed: {} ({})", fault.text, fault.code), out);
            }
            (result, Stop::Limit { why, .. }) => {
                talk.is_suspect = result.is_err() || reason != "cancelled";
                self.fail(lane, why, out);
            }
            (result, Stop::Wanted { told, .. }) => {
                // A cancel that crossed the end of the turn may find the session idle.
                talk.is_suspect = told.is_some() && (result.is_err() || reason != "cancelled");
                self.finish(lane, Some("stopped"), out);
            }
            (Ok(_), Stop::No) if reason == "refusal" && text.is_empty() && work.tries < TRIES => {
                work.tries += 1;
                work.is_lost = true;
                (work.step, talk.kept) = (Step::Waiting, Kept::default());
            }
            (Ok(_), Stop::No) if is_hermes && turn::is_queued(&text) && work.tries < TRIES => {
                work.tries += 1;
                work.turn = Turn::default();
                work.step = Step::Waiting;
                talk.is_suspect = true;
            }
            (Ok(_), Stop::No) if is_hermes && turn::is_failure(&text) => {
                self.fail(lane, format!("the agent's model failed: {text}"), out);
            }
            (Ok(_), Stop::No) => {
                let mark = match reason.as_str() {
                    "end_turn" => None,
                    "max_tokens" => Some("cut: the model's limit"),
                    "max_turn_requests" => Some("cut: the agent's limit of requests"),
                    "refusal" => Some("refused"),
                    "cancelled" => Some("stopped by the agent"),
                    _ => Some("ended for a reason that is not known here"),
                };
                self.finish(lane, mark, out);
            }
        }
        let _ = now;
    }

    /// What was said is the answer.
    fn finish(&mut self, lane: &Lane, mark: Option<&str>, out: &mut Vec<Action>) {
        let Some(talk) = self.talks.get_mut(lane) else { return };
        let Some(work) = &mut talk.work else { return };
        let event_id = work.delivery.event_id;
        let silence = work.turn.text().trim().is_empty()
            && work.turn.images.is_empty()
            && work.turn.links.is_empty();
        close_questions(work, out);
        if silence {
            tracing::info!(event_id = event_id.0, mark, "a turn that says nothing");
            talk.work = None;
            out.push(Action::Say(FromWorker::Ack { event_id }));
            return;
        }
        work.step = Step::Answering;
        let mut text = work.turn.text().trim().to_owned();
        if work.is_lost {
            text.insert_str(
                0,
                "(The agent has lost what we said before; this is a new conversation.)\n\n",
            );
        }
        if let Some(mark) = mark {
            text.push_str(&format!("\n\n({mark})"));
        }
        let reply = Reply {
            key: key(event_id),
            lane: lane.clone(),
            reply_to: work.delivery.event.message_id.clone(),
            content: Content::text(text),
        };
        let turn = Box::new(std::mem::take(&mut work.turn));
        out.push(Action::Reply { event_id: Some(event_id), reply: Box::new(reply), turn });
    }

    /// The attempt failed, and counts.
    fn fail(&mut self, lane: &Lane, reason: String, out: &mut Vec<Action>) {
        let Some(talk) = self.talks.get_mut(lane) else { return };
        let Some(mut work) = talk.work.take() else { return };
        close_questions(&mut work, out);
        let event_id = work.delivery.event_id;
        tracing::warn!(event_id = event_id.0, reason, "a turn failed");
        out.push(Action::Say(FromWorker::Nack { event_id, reason, after_ms: None }));
    }

    fn judged(&mut self, id: EventId, verdict: Option<ReplyVerdict>, out: &mut Vec<Action>) {
        let Some(lane) = self.lane_of(id) else { return };
        if let Some(talk) = self.talks.get_mut(&lane) {
            talk.work = None;
        }
        let event_id = id;
        out.push(Action::Say(match verdict {
            Some(ReplyVerdict::Accepted(_)) => FromWorker::Ack { event_id },
            Some(ReplyVerdict::Rejected(reason)) => FromWorker::SetAside { event_id, reason },
            Some(ReplyVerdict::Refused) | None => {
                FromWorker::Defer { event_id, after_ms: STORE_AGAIN_MS }
            }
        }));
    }

    fn interrupt(&mut self, id: EventId, now: Instant, out: &mut Vec<Action>) {
        let Some(lane) = self.lane_of(id) else { return };
        let Some(talk) = self.talks.get_mut(&lane) else { return };
        let Some(work) = &mut talk.work else { return };
        match work.step {
            Step::Fetching | Step::Waiting => {
                talk.work = None;
                out.push(Action::Say(FromWorker::Ack { event_id: id }));
            }
            Step::Opening(_) => work.stop = Stop::Wanted { at: now, told: None },
            Step::Prompting(_) => {
                if work.stop != Stop::No {
                    return;
                }
                work.stop = Stop::Wanted { at: now, told: None };
                // To cancel while a question is open wedges at least one agent.
                if work.questions.is_empty() {
                    self.cancel(&lane, now, out);
                } else {
                    refuse_questions(work, out);
                }
            }
            Step::Answering => {}
        }
    }

    /// Tells the agent to end a turn. Only while there is one.
    fn cancel(&mut self, lane: &Lane, now: Instant, out: &mut Vec<Action>) {
        let Some(talk) = self.talks.get_mut(lane) else { return };
        let (Some(home), Some(session)) = (talk.home, &talk.kept.session) else { return };
        let Some(work) = &mut talk.work else { return };
        if let Stop::Wanted { told, .. } = &mut work.stop {
            *told = Some(now);
        }
        let params = json!({ "sessionId": session });
        out.push(Action::Write(home, wire::notify("session/cancel", &params)));
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

    fn tick_work(&mut self, lane: &Lane, now: Instant, out: &mut Vec<Action>) {
        self.tick_questions(lane, now, out);
        let (silent, limit) = (self.settings.silent_s, self.settings.turn_limit_s);
        let seconds = |n: u32| Duration::from_secs(u64::from(n));
        let Some(talk) = self.talks.get_mut(lane) else { return };
        let Some(work) = &mut talk.work else { return };
        show(work, now, out);
        let Step::Prompting(since) = work.step else {
            if let Step::Opening(since) = work.step
                && since + OPEN <= now
            {
                let home = talk.home.take();
                self.fail(lane, "the agent did not open its session in time".into(), out);
                self.doom(home, Some(lane), now);
            }
            return;
        };
        match work.stop.clone() {
            // While it asks, it is silent.
            Stop::No if !work.questions.is_empty() => work.heard = now,
            Stop::No => {
                let why = if since + seconds(limit) <= now {
                    format!("the turn was not over after {limit} s")
                } else if work.heard + seconds(silent) <= now {
                    format!("the agent said nothing for {silent} s")
                } else {
                    return;
                };
                work.stop = Stop::Limit { told: now, why };
                self.cancel(lane, now, out);
            }
            Stop::Wanted { at, told: None } if at + REFUSED <= now => self.cancel(lane, now, out),
            Stop::Wanted { told: Some(told), .. } if told + CANCEL <= now => {
                talk.is_suspect = true;
                self.finish(lane, Some("stopped"), out);
            }
            Stop::Limit { told, why } if told + CANCEL <= now => {
                let home = talk.home;
                talk.is_suspect = true;
                self.fail(lane, why, out);
                self.doom(home, Some(lane), now);
            }
            Stop::Wanted { .. } | Stop::Limit { .. } => {}
        }
    }

    fn note(&self, lane: &Lane) -> Option<FromWorker> {
        let talk = self.talks.get(lane)?;
        let bytes = serde_json::to_vec(&talk.kept).ok()?;
        let note = Note { epoch: talk.epoch, bytes };
        Some(FromWorker::Remember { lane: lane.clone(), note })
    }
}

impl Replay {
    fn on(&mut self, update: Update) {
        match update {
            Update::UserSaid(text) => {
                if self.is_answered {
                    self.last.clear();
                }
                self.is_any = true;
                self.is_answered = false;
                self.last.push_str(&text);
                // Only its end is compared.
                let from = self.last.len().saturating_sub(64 * 1024);
                self.last.drain(..self.last.ceil_char_boundary(from));
            }
            Update::Says { .. } => (self.is_any, self.is_answered) = (true, true),
            Update::Tool { .. } => self.is_any = true,
            Update::Alive => {}
        }
    }
}

/// The key of the reply to an event.
fn key(id: EventId) -> String {
    format!("acp:{id}")
}

/// Shows a reply in the making, not too often.
fn show(work: &mut Work, now: Instant, out: &mut Vec<Action>) {
    let is_due = work.show_at.is_some_and(|at| at <= now);
    if !work.is_news || !is_due || !matches!(work.step, Step::Prompting(_)) {
        return;
    }
    let text = work.turn.shown();
    (work.is_news, work.show_at) = (false, Some(now + DRAFT));
    if text.trim().is_empty() {
        return;
    }
    let draft = Draft {
        key: key(work.delivery.event_id),
        lane: work.delivery.lane.clone(),
        reply_to: work.delivery.event.message_id.clone(),
        text,
    };
    out.push(Action::Say(FromWorker::Draft(Box::new(draft))));
}

/// Every open question is answered with no.
fn refuse_questions(work: &mut Work, out: &mut Vec<Action>) {
    for question in std::mem::take(&mut work.questions) {
        out.push(question.refuse());
    }
    asking(work, out);
}

fn close_questions(work: &mut Work, out: &mut Vec<Action>) {
    if !work.questions.is_empty() {
        refuse_questions(work, out);
    }
}

fn asking(work: &Work, out: &mut Vec<Action>) {
    let (event_id, on) = (work.delivery.event_id, !work.questions.is_empty());
    out.push(Action::Say(FromWorker::Asking { event_id, on }));
}

/// Agents have no common word for it.
fn is_unknown_session(fault: &Fault) -> bool {
    let text = fault.text.to_ascii_lowercase();
    fault.code == -32002 || (text.contains("session") && text.contains("not found"))
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;

//! Processes: started, introduced, shown to work, replaced.

use super::course::STOPPED;
use super::{
    Abilities, Able, Action, Asked, DOOMED, Duration, Fault, FromWorker, HashMap, Instant, Kept,
    LEASE_MS, Lane, Machine, Number, OPEN, Outside, PAUSES, Phase, Process, RENEW, Step, Stop,
    TRIES, Value, Work, json, wire,
};

/// A process that was ready for so long did not fail at its start.
const STABLE: Duration = Duration::from_secs(60);

impl Process {
    pub(super) fn ask(&mut self, asked: Asked, method: &str, params: &Value) -> String {
        self.last += 1;
        self.asked.insert(self.last, asked);
        wire::request(self.last, method, params)
    }
}

impl Machine {
    /// Starts what should run: one process always, more while all have their hands full.
    pub(super) fn start(&mut self, now: Instant, out: &mut Vec<Action>) {
        let waits = self.talks.values().filter_map(|talk| talk.work.as_ref());
        let waits = waits.filter(|work| work.step == Step::Waiting).count();
        let alive = |process: &&Process| process.phase != Phase::Dying && process.doomed.is_none();
        let alive = self.processes.values().filter(alive);
        let (mut count, mut coming) = (0, 0);
        for process in alive {
            count += 1;
            coming += usize::from(process.phase != Phase::Ready);
        }
        let most = usize::try_from(self.settings.processes).unwrap_or(1).max(1);
        let all = self.processes.len();
        // One that is on its way out makes room for its successor.
        let room = all < most || (count == 0 && all < most + 1);
        let wanted = count == 0 || (waits > 0 && coming == 0 && self.free(false).is_none());
        if !room || !wanted || self.start_at.is_some_and(|at| at > now) {
            return;
        }
        self.start_at = None;
        self.last += 1;
        let mut process = Process {
            phase: Phase::Starting(now),
            born: now,
            able: Able::default(),
            asked: HashMap::new(),
            last: 0,
            spare: None,
            doomed: None,
            culprit: None,
        };
        let line = process.ask(Asked::Initialize, "initialize", &wire::initialize());
        self.processes.insert(self.last, process);
        out.push(Action::Start(self.last));
        out.push(Action::Write(self.last, line));
        if self.told.is_none() {
            self.down("the agent is starting".into(), None, out);
        }
    }

    pub(super) fn introduced(
        &mut self,
        number: Number,
        answer: Result<Value, Fault>,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(process) = self.processes.get_mut(&number) else { return };
        let able = match answer {
            Ok(value) => Able::read(&value),
            Err(fault) => {
                let why = format!("the agent does not introduce itself: {}", fault.text);
                return self.unfit(number, why, None, out);
            }
        };
        if able.version != wire::VERSION {
            let why = format!("the agent speaks ACP v{}, not v{}", able.version, wire::VERSION);
            let remedy = "use a version of the agent that speaks ACP v1".to_owned();
            return self.unfit(number, why, Some(remedy), out);
        }
        tracing::info!(number, name = able.name, ?able, "an agent introduced itself");
        process.able = able;
        process.phase = Phase::Probing(now);
        let params = json!({ "cwd": self.settings.dir, "mcpServers": [] });
        let line = process.ask(Asked::Probe, "session/new", &params);
        out.push(Action::Write(number, line));
    }

    /// One that can make a session is ready; its first session waits for the first conversation.
    pub(super) fn probed(
        &mut self,
        number: Number,
        answer: Result<Value, Fault>,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(process) = self.processes.get_mut(&number) else { return };
        let session = |value: &Value| value.get("sessionId")?.as_str().map(str::to_owned);
        match answer {
            Ok(value) => {
                process.spare = session(&value);
                process.phase = Phase::Ready;
                process.born = now;
                self.up(out);
            }
            Err(fault) if fault.code == wire::LOGIN => {
                let logins = process.able.logins.join(", ");
                let ways =
                    if logins.is_empty() { String::new() } else { format!(" (ways: {logins})") };
                let why = format!("the agent needs a login: {}{ways}", fault.text);
                let remedy =
                    "log in with the agent's own program, as the user who runs the gateway";
                self.unfit(number, why, Some(remedy.into()), out);
            }
            Err(fault) => {
                let why = format!("the agent makes no session: {} ({})", fault.text, fault.code);
                let remedy = "is it configured, with a model? Try it by hand".to_owned();
                self.unfit(number, why, Some(remedy), out);
            }
        }
    }

    fn unfit(
        &mut self,
        number: Number,
        why: String,
        remedy: Option<String>,
        out: &mut Vec<Action>,
    ) {
        tracing::warn!(number, why, "an agent is of no use");
        if let Some(process) = self.processes.get_mut(&number) {
            process.phase = Phase::Dying;
        }
        out.push(Action::Kill(number));
        self.failures = self.failures.max(PAUSES.len() - 2);
        if !self.is_ready() {
            self.down(why, remedy, out);
        }
    }

    pub(super) fn ended(&mut self, number: Number, why: &str, now: Instant, out: &mut Vec<Action>) {
        let Some(process) = self.processes.remove(&number) else { return };
        let was_ours = process.culprit.is_some() || process.doomed.is_some();
        let mine: Vec<Lane> = self
            .talks
            .iter()
            .filter(|(_, talk)| talk.home == Some(number))
            .map(|(lane, _)| lane.clone())
            .collect();
        let works = mine.iter().filter_map(|lane| self.talks.get(lane)?.work.as_ref());
        let running = works.filter(|work| work.is_running()).map(|work| work.delivery.event_id);
        let running: Vec<_> = running.collect();
        let counts = was_ours || self.blame.died(&running);
        for lane in mine {
            let Some(talk) = self.talks.get_mut(&lane) else { continue };
            (talk.home, talk.is_suspect) = (None, false);
            let Some(work) = &mut talk.work else { continue };
            let event_id = work.delivery.event_id;
            match (work.step, &work.stop) {
                (Step::Fetching | Step::Waiting | Step::Answering, _) => {}
                (Step::Opening(_), Stop::Wanted { .. }) => {
                    talk.work = None;
                    out.push(Action::Say(FromWorker::Ack { event_id }));
                }
                // It was told nothing of the event: it is the session, or the agent.
                (Step::Opening(_), _) if !was_ours => {
                    work.step = Step::Waiting;
                    talk.opens += u32::from(counts);
                    if talk.opens > TRIES && talk.kept.session.is_some() {
                        tracing::warn!(?lane, "the agent dies of its session: a new one is made");
                        work.is_lost |= talk.kept.is_more_than(event_id);
                        (talk.kept, talk.opens) = (Kept::default(), 0);
                    }
                }
                (Step::Prompting(_), Stop::Wanted { .. }) => {
                    work.questions.clear();
                    self.finish(&lane, Some(STOPPED), out);
                }
                _ if !counts || (was_ours && process.culprit.as_ref() != Some(&lane)) => {
                    talk.work = None;
                    out.push(Action::Say(FromWorker::Defer { event_id, after_ms: 0 }));
                }
                _ => {
                    work.questions.clear();
                    self.fail(&lane, format!("the agent ended: {why}"), out);
                }
            }
        }
        if was_ours {
            tracing::info!(number, why, "an agent was replaced");
            self.start_at = None;
        } else {
            let was_stable = process.phase == Phase::Ready && process.born + STABLE <= now;
            self.failures = if was_stable { 0 } else { (self.failures + 1).min(PAUSES.len() - 1) };
            let pause = PAUSES.get(self.failures).copied().unwrap_or(RENEW);
            self.start_at = Some(now + pause);
            tracing::warn!(number, why, pause_s = pause.as_secs(), "an agent ended");
        }
        if !self.is_ready() && process.phase != Phase::Dying {
            self.down(format!("the agent ended: {why}"), None, out);
        }
    }

    pub(super) fn tick_processes(&mut self, now: Instant, out: &mut Vec<Action>) {
        let working: Vec<Option<Number>> = self
            .talks
            .values()
            .filter(|talk| talk.work.as_ref().is_some_and(Work::is_running))
            .map(|talk| talk.home)
            .collect();
        let mut late = Vec::new();
        for (number, process) in &mut self.processes {
            match process.phase {
                Phase::Starting(since) | Phase::Probing(since) if since + OPEN <= now => {
                    late.push(*number);
                }
                _ => {}
            }
            let is_over = process.doomed.is_some_and(|at| at <= now)
                || (process.doomed.is_some() && !working.contains(&Some(*number)));
            if is_over && process.phase != Phase::Dying {
                process.phase = Phase::Dying;
                out.push(Action::Kill(*number));
            }
        }
        for number in late {
            let why = format!("the agent did not become ready within {} s", OPEN.as_secs());
            self.unfit(number, why, None, out);
        }
    }

    /// A process is to be replaced: at once for the sake of `culprit`, else when its turns are over.
    pub(super) fn doom(&mut self, number: Option<Number>, culprit: Option<&Lane>, now: Instant) {
        let process = number.and_then(|number| self.processes.get_mut(&number));
        let Some(process) = process else { return };
        if let Some(lane) = culprit {
            process.culprit.get_or_insert(lane.clone());
            process.doomed = Some(now);
        } else {
            process.doomed.get_or_insert(now + DOOMED);
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.processes.values().any(|process| process.phase == Phase::Ready)
    }

    pub(super) fn lease(&self, out: &mut Vec<Action>) {
        let ttl_ms = if self.is_ready() { LEASE_MS } else { 0 };
        let concurrency = self.settings.processes.max(1).saturating_mul(self.settings.turns.max(1));
        out.push(Action::Say(FromWorker::Lease { ttl_ms, concurrency }));
    }

    fn up(&mut self, out: &mut Vec<Action>) {
        if self.told != Some(Outside::Up) {
            self.told = Some(Outside::Up);
            out.push(Action::Say(FromWorker::Outside(Outside::Up)));
            // Answers to its questions come the same way as what it is told more.
            let can = Abilities { interrupt: true, steer: false };
            out.push(Action::Say(FromWorker::Can(can)));
        }
        self.lease(out);
    }

    fn down(&mut self, reason: String, remedy: Option<String>, out: &mut Vec<Action>) {
        let down = Outside::Down { reason, remedy };
        if self.told.as_ref() != Some(&down) {
            self.told = Some(down.clone());
            out.push(Action::Say(FromWorker::Outside(down)));
        }
        self.lease(out);
    }
}

impl Work {
    /// It needs its process.
    pub(super) fn is_running(&self) -> bool {
        matches!(self.step, Step::Opening(_) | Step::Prompting(_))
    }
}

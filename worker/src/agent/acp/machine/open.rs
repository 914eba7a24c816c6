//! Sessions: which process has which, how they are opened there, and what they are prompted with.

use super::{
    Action, Asked, Delivery, EventId, Fault, FromWorker, GO_ON, Instant, Kept, Lane, Machine,
    Number, Phase, Replay, Step, Stop, Turn, Value, Work, json,
};

impl Machine {
    /// Turns that run in a process.
    fn running(&self, number: Number) -> usize {
        let own = self.talks.values().filter(|talk| talk.home == Some(number));
        own.filter(|talk| talk.work.as_ref().is_some_and(Work::is_running)).count()
    }

    /// Whether it may take one more turn; `alone`: and no other beside it.
    fn has_room(&self, number: Number, alone: bool) -> bool {
        let own = self.talks.values().filter(|talk| talk.home == Some(number));
        let mut works = own.filter_map(|talk| talk.work.as_ref()).filter(|it| it.is_running());
        let alone = alone || works.any(|work| self.blame.is_alone(work.delivery.event_id));
        let most = if alone { 1 } else { self.settings.turns.max(1) };
        let most = usize::try_from(most).unwrap_or(1);
        self.processes
            .get(&number)
            .is_some_and(|process| process.phase == Phase::Ready && process.doomed.is_none())
            && self.running(number) < most
    }

    /// The process that has most room.
    pub(super) fn free(&self, alone: bool) -> Option<Number> {
        let free = self.processes.keys().copied().filter(|number| self.has_room(*number, alone));
        free.min_by_key(|number| self.running(*number))
    }

    /// Gives each event that waits its process, the oldest first.
    pub(super) fn assign(&mut self, now: Instant, out: &mut Vec<Action>) {
        let mut waiting: Vec<(EventId, Lane)> = self
            .talks
            .iter()
            .filter_map(|(lane, talk)| Some((lane, talk.work.as_ref()?)))
            .filter(|(_, work)| work.step == Step::Waiting)
            .map(|(lane, work)| (work.delivery.event_id, lane.clone()))
            .collect();
        waiting.sort_by_key(|(id, _)| *id);
        for (id, lane) in waiting {
            let alone = self.blame.is_alone(id);
            self.open(&lane, alone, now, out);
            let work = self.talks.get(&lane).and_then(|talk| talk.work.as_ref());
            if alone && work.is_some_and(|work| work.step == Step::Waiting) {
                // Nobody goes before it, or no process would ever be free of others.
                return;
            }
        }
    }

    fn open(&mut self, lane: &Lane, alone: bool, now: Instant, out: &mut Vec<Action>) {
        let Some(talk) = self.talks.get(lane) else { return };
        let home = talk.home.filter(|home| self.processes.contains_key(home));
        let is_suspect = talk.is_suspect;
        let Some(number) = (match home {
            // Where its session is open, as long as that process is not to be replaced.
            Some(home) if self.processes.get(&home).is_some_and(|it| it.doomed.is_none()) => {
                self.has_room(home, alone).then_some(home)
            }
            _ => self.free(alone),
        }) else {
            return;
        };
        let is_open = home == Some(number);
        let (Some(talk), Some(process)) =
            (self.talks.get_mut(lane), self.processes.get_mut(&number))
        else {
            return;
        };
        let Some(work) = &mut talk.work else { return };
        let session = talk.kept.session.clone();
        let params = |session: &str| json!({ "sessionId": session, "cwd": self.settings.dir, "mcpServers": [] });
        let line = match session {
            Some(session) if is_open && is_suspect && process.able.fork => {
                process.ask(Asked::Fork(lane.clone()), "session/fork", &params(&session))
            }
            Some(_) if is_open && is_suspect => {
                // Another process will take it up.
                self.doom(Some(number), None, now);
                return;
            }
            Some(_) if is_open => return self.prompt(lane, number, now, out),
            Some(session) if process.able.load => {
                process.ask(Asked::Load(lane.clone()), "session/load", &params(&session))
            }
            Some(session) if process.able.resume => {
                process.ask(Asked::Resume(lane.clone()), "session/resume", &params(&session))
            }
            known => {
                work.is_lost |= known.is_some() && talk.kept.is_more_than(work.delivery.event_id);
                talk.kept = Kept::default();
                if let Some(spare) = process.spare.take() {
                    talk.kept.session = Some(spare);
                    talk.home = Some(number);
                    return self.prompt(lane, number, now, out);
                }
                let params = json!({ "cwd": self.settings.dir, "mcpServers": [] });
                process.ask(Asked::New(lane.clone()), "session/new", &params)
            }
        };
        work.replay = Replay::default();
        work.step = Step::Opening(now);
        talk.home = Some(number);
        out.push(Action::Write(number, line));
    }

    /// A session is made, loaded, resumed or forked, or could not be.
    pub(super) fn opened(
        &mut self,
        number: Number,
        asked: &Asked,
        answer: Result<Value, Fault>,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let (Asked::New(lane) | Asked::Load(lane) | Asked::Resume(lane) | Asked::Fork(lane)) =
            asked
        else {
            return;
        };
        let Some(talk) = self.talks.get_mut(lane).filter(|talk| talk.home == Some(number)) else {
            return;
        };
        let Some(work) = talk.work.as_mut().filter(|it| matches!(it.step, Step::Opening(_))) else {
            return;
        };
        let told =
            |value: &Value, at: &str| value.pointer(at).and_then(Value::as_str).map(str::to_owned);
        match (asked, answer) {
            (Asked::New(_) | Asked::Fork(_), Ok(value)) if told(&value, "/sessionId").is_some() => {
                talk.kept.session = told(&value, "/sessionId");
                talk.is_suspect = false;
            }
            (Asked::New(_), answer) => {
                let why = answer.err().map_or("it has no name".to_owned(), |fault| fault.text);
                talk.home = None;
                return self.fail(lane, format!("the agent makes no session: {why}"), out);
            }
            (Asked::Fork(_), _) => {
                work.step = Step::Waiting;
                return self.doom(Some(number), None, now);
            }
            // One that was prompted must have something to tell.
            (Asked::Load(_), Ok(_)) if work.replay.is_any || talk.kept.asked.is_none() => {}
            (Asked::Resume(_), Ok(value)) => {
                let other = told(&value, "/_meta/hermes/sessionProvenance/acpSessionId");
                if let Some(other) = other.filter(|other| Some(other) != talk.kept.session.as_ref())
                {
                    work.is_lost |= talk.kept.is_more_than(work.delivery.event_id);
                    talk.kept = Kept { session: Some(other), ..Kept::default() };
                }
            }
            (Asked::Load(_) | Asked::Resume(_), _) => {
                tracing::warn!(?lane, "the agent does not know its session any more");
                work.is_lost |= talk.kept.is_more_than(work.delivery.event_id);
                (talk.kept, talk.home, work.step) = (Kept::default(), None, Step::Waiting);
                return;
            }
            (Asked::Initialize | Asked::Probe | Asked::Prompt(..), _) => return,
        }
        self.prompt(lane, number, now, out);
    }

    fn prompt(&mut self, lane: &Lane, number: Number, now: Instant, out: &mut Vec<Action>) {
        let (Some(talk), Some(process)) =
            (self.talks.get_mut(lane), self.processes.get_mut(&number))
        else {
            return;
        };
        let Some(work) = &mut talk.work else { return };
        let id = work.delivery.event_id;
        if work.stop != Stop::No {
            talk.work = None;
            out.push(Action::Say(FromWorker::Ack { event_id: id }));
            return;
        }
        let question = question(&work.delivery, self.settings.own_commands);
        let again = talk.kept.asked == Some(id.0)
            && !question.trim().is_empty()
            && work.replay.last.trim_end().ends_with(question.trim());
        let mut blocks = Vec::new();
        if again {
            tracing::warn!(event_id = id.0, "the agent has it from before: it is asked to go on");
            blocks.push(json!({ "type": "text", "text": GO_ON }));
        } else {
            blocks.push(json!({ "type": "text", "text": question }));
            blocks.extend(work.blocks.iter().cloned());
        }
        talk.opens = 0;
        talk.kept.has_past = talk.kept.is_more_than(id);
        talk.kept.asked = Some(id.0);
        let Some(session) = talk.kept.session.clone() else { return };
        let delivery = &work.delivery;
        let params = json!({
            "sessionId": session,
            "prompt": blocks,
            "_meta": { "hermes-gw": {
                "event_id": id.to_string(),
                "attempt": delivery.attempt,
                "late_by_ms": delivery.late_by_ms,
                "before_restart": delivery.before_restart,
                "platform": delivery.platform,
                "instance": delivery.lane.instance,
                "chat_id": delivery.lane.chat_id,
                "thread_id": delivery.lane.thread_id,
                "user_id": delivery.event.sender.user_id,
                "user_name": delivery.event.sender.name,
                "message_id": delivery.event.message_id,
            } },
        });
        (work.step, work.heard) = (Step::Prompting(now), now);
        (work.turn, work.show_at, work.is_torn) = (Turn::default(), None, false);
        let line = process.ask(Asked::Prompt(lane.clone(), id), "session/prompt", &params);
        // Kept before it is said: after a crash it is known what the agent may have heard.
        out.extend(self.note(lane).map(Action::Say));
        out.push(Action::Write(number, line));
    }
}

/// What the agent reads. What a person says is no command of the agent's own, unless that is wanted.
fn question(delivery: &Delivery, own_commands: bool) -> String {
    let said = crate::agent::said(delivery);
    let is_command = said.trim_start().starts_with('/');
    let quoted = crate::agent::quoted(delivery);
    match (is_command, own_commands) {
        // Behind a quotation it would be none.
        (true, true) => said,
        (true, false) if quoted.is_empty() => format!("The message is: {said}"),
        _ => quoted + &said,
    }
}

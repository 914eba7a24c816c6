//! The course of a turn, from its prompt to its end: what is shown of it, who ends it, and what its end means for the event.

use super::ask::{close_questions, refuse_questions};
use super::{
    Action, CANCEL, Content, DRAFT, Draft, Duration, EventId, FIRST_DRAFT, Fault, FromWorker,
    Instant, Kept, Lane, Machine, Number, OPEN, REFUSED, Reply, ReplyVerdict, STORE_AGAIN_MS, Step,
    Stop, TRIES, Turn, Update, Value, Work, json, turn, wire,
};

/// The mark of a turn that a person ended.
pub(super) const STOPPED: &str = "stopped";

impl Machine {
    pub(super) fn update(
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

    /// The turn is over, or failed.
    pub(super) fn prompted(
        &mut self,
        lane: &Lane,
        id: EventId,
        answer: Result<Value, Fault>,
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
                    work.is_lost |= talk.kept.is_more_than(id);
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
                self.finish(lane, Some(STOPPED), out);
            }
            (Ok(_), Stop::No) if work.is_torn => {
                self.fail(lane, "a part of its answer could not be read".into(), out);
            }
            // Its word for a session that it does not know.
            (Ok(_), Stop::No)
                if is_hermes && reason == "refusal" && text.is_empty() && work.tries < TRIES =>
            {
                work.tries += 1;
                work.is_lost |= talk.kept.is_more_than(id);
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
    }

    /// What was said is the answer.
    pub(super) fn finish(&mut self, lane: &Lane, mark: Option<&str>, out: &mut Vec<Action>) {
        let Some(talk) = self.talks.get_mut(lane) else { return };
        let Some(work) = &mut talk.work else { return };
        let event_id = work.delivery.event_id;
        let silence = work.turn.text().trim().is_empty()
            && work.turn.files.is_empty()
            && work.turn.links.is_empty();
        close_questions(work, out);
        // A refusal is to be known in the chat.
        if silence && mark.is_none_or(|mark| mark == STOPPED) {
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
            text.drain(..text.len() - text.trim_start().len());
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
    pub(super) fn fail(&mut self, lane: &Lane, reason: String, out: &mut Vec<Action>) {
        let Some(talk) = self.talks.get_mut(lane) else { return };
        let Some(mut work) = talk.work.take() else { return };
        close_questions(&mut work, out);
        let event_id = work.delivery.event_id;
        tracing::warn!(event_id = event_id.0, reason, "a turn failed");
        out.push(Action::Say(FromWorker::Nack { event_id, reason, after_ms: None }));
    }

    pub(super) fn judged(
        &mut self,
        id: EventId,
        verdict: Option<ReplyVerdict>,
        out: &mut Vec<Action>,
    ) {
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

    pub(super) fn interrupt(&mut self, id: EventId, now: Instant, out: &mut Vec<Action>) {
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
    pub(super) fn cancel(&mut self, lane: &Lane, now: Instant, out: &mut Vec<Action>) {
        let Some(talk) = self.talks.get_mut(lane) else { return };
        let (Some(home), Some(session)) = (talk.home, &talk.kept.session) else { return };
        let Some(work) = &mut talk.work else { return };
        if let Stop::Wanted { told, .. } = &mut work.stop {
            *told = Some(now);
        }
        let params = json!({ "sessionId": session });
        out.push(Action::Write(home, wire::notify("session/cancel", &params)));
    }

    pub(super) fn tick_work(&mut self, lane: &Lane, now: Instant, out: &mut Vec<Action>) {
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
                self.finish(lane, Some(STOPPED), out);
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
        message_id: None,
    };
    out.push(Action::Say(FromWorker::Draft(Box::new(draft))));
}

/// Agents have no common word for it.
fn is_unknown_session(fault: &Fault) -> bool {
    let text = fault.text.to_ascii_lowercase();
    fault.code == -32002 || (text.contains("session") && text.contains("not found"))
}

//! Which of several connections of one id is served.
//!
//! A newer one may be the same agent, whose old connection is dead or has a dead reader, or a second agent
//! that somebody started by mistake. So the one that is served is asked for a sign of life, and while it is
//! asked gets nothing more. Silent for some seconds, it gives way. Alive, it keeps its place, and the newer one
//! stays connected without work until the place is free: an agent that is closed dials again each second, for
//! ever, and its answers are lost meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use protocol::worker::Outside;

use super::{Action, Conn, Connector, Instant, Live, Phase, wire};

/// How long the one that is served is asked at first. A busy agent may be slow: each change of places doubles it.
const PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE_MAX: Duration = Duration::from_secs(64);

/// Those that are not served.
#[derive(Debug)]
pub(super) struct Rivals {
    waiting: Vec<(Conn, BTreeSet<String>)>,
    /// The one that is served is asked until then.
    question: Option<Instant>,
    patience: Duration,
    /// It has answered while another waits.
    are_two: bool,
    /// Another agent was here with the one that is served, or before it: the state file may be that one's.
    pub(super) is_contested: bool,
    /// The one that is served has taken the place of one that did not answer.
    pub(super) has_ousted: bool,
}

impl Rivals {
    pub(super) fn new() -> Self {
        Self {
            waiting: Vec::new(),
            question: None,
            patience: PATIENCE,
            are_two: false,
            is_contested: false,
            has_ousted: false,
        }
    }

    /// Whether it is being found out if the one that is served is there.
    pub(super) fn is_asked(&self) -> bool {
        self.question.is_some()
    }

    fn ask(&mut self, now: Instant) {
        self.question.get_or_insert(now + self.patience);
    }

    /// It is there.
    pub(super) fn lives(&mut self) {
        if self.question.take().is_some() {
            self.patience = PATIENCE;
            self.are_two = !self.waiting.is_empty();
            self.is_contested |= self.are_two;
        }
    }

    /// One that waited waits no more.
    pub(super) fn gone(&mut self, conn: Conn) {
        self.waiting.retain(|(waiting, _)| *waiting != conn);
        if self.waiting.is_empty() {
            self.question = None;
            self.are_two = false;
        }
    }

    /// The newest of those that wait.
    fn next(&mut self) -> Option<(Conn, BTreeSet<String>)> {
        let next = self.waiting.pop();
        self.question = None;
        self.are_two = false;
        self.is_contested = !self.waiting.is_empty();
        self.has_ousted = false;
        next
    }

    /// What a person should know.
    pub(super) fn outside(&self) -> Option<Outside> {
        self.are_two.then(|| Outside::Limited {
            reason: "the agent runs twice: another one with the same id is connected, and gets nothing while the \
                     first is there"
                .to_owned(),
            remedy: Some(
                "end one of them, or give it a GATEWAY_RELAY_ID, a port and an [agent.…] block of its own"
                    .to_owned(),
            ),
        })
    }
}

impl Connector {
    /// Another connection than the one that is served says hello.
    pub(super) fn rival(
        &mut self,
        conn: Conn,
        platform: String,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let waiting = &mut self.rivals.waiting;
        if let Some((_, platforms)) = waiting.iter_mut().find(|(waiting, _)| *waiting == conn) {
            platforms.insert(platform);
            return;
        }
        waiting.push((conn, BTreeSet::from([platform])));
        if self.live.as_ref().is_some_and(|live| matches!(live.phase, Phase::Leaving { .. })) {
            self.give_way(now, out);
        } else {
            self.rivals.ask(now);
        }
    }

    /// Asks for the sign of life again, or waits for it no longer. One that only begins is asked anyhow.
    pub(super) fn ask_again(&mut self, now: Instant, out: &mut Vec<Action>) {
        match self.rivals.question {
            Some(until) if until <= now => {
                tracing::warn!("the agent does not answer, and another connection of it is there");
                self.rivals.patience = (self.rivals.patience * 2).min(PATIENCE_MAX);
                self.give_way(now, out);
                self.rivals.has_ousted = true;
            }
            Some(_) => {
                let is_begun = self.live.as_ref().is_some_and(Live::is_begun);
                if is_begun {
                    self.probe(out);
                }
            }
            None => {}
        }
    }

    /// The one that is served makes room.
    fn give_way(&mut self, now: Instant, out: &mut Vec<Action>) {
        if let Some(former) = self.live.take() {
            out.push(Action::Close(former.conn));
            self.lost(out);
        }
        self.promote(now);
    }

    /// The place is free; whether somebody waited for it.
    pub(super) fn promote(&mut self, now: Instant) -> bool {
        let Some((conn, platforms)) = self.rivals.next() else { return false };
        tracing::info!(conn, "another connection of the agent is served from now on");
        self.live = Some(Live { conn, platforms, phase: Phase::Probing { next: now } });
        if !self.rivals.waiting.is_empty() {
            self.rivals.ask(now);
        }
        true
    }

    /// A harmless command in a chat that does not exist, whose answer shows that it is heard.
    pub(super) fn probe(&mut self, out: &mut Vec<Action>) {
        let Some(conn) = self.live.as_ref().map(|live| live.conn) else { return };
        self.probes += 1;
        let chat = format!("{}{}", self.probe_prefix(conn), self.probes);
        let platforms = self.live.as_ref().map(|live| &live.platforms);
        let platform = platforms.and_then(|all| all.first()).map_or("", String::as_str);
        out.push(Action::Line(conn, wire::inbound(probe(platform, &chat), None)));
    }
}

fn probe(platform: &str, chat: &str) -> serde_json::Value {
    serde_json::json!({
        "text": "/help",
        "message_type": "command",
        "message_id": chat,
        "source": {
            "platform": platform, "chat_id": chat, "chat_type": "dm", "user_id": chat,
            "message_id": chat, "is_bot": false,
        },
    })
}

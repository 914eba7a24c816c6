//! Platform `local`: the terminal of the user who runs us, through a socket of this worker.
//!
//! A conversation has a name and may be shown in several terminals, or in none. What the agent says waits
//! here until a terminal says that it is shown, and the outbox keeps it should we die meanwhile.
//! The socket's mode and the peer's uid are the access rule.

mod replies;
mod terminal;

use std::collections::HashMap;
use std::path::PathBuf;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use protocol::content;
use protocol::event::{
    ChatType, Inbound, InboundKind, Mention, Outbound, Outcome, Sender, SenderKind,
};
use protocol::local::{FromTerminal, ToTerminal};
use protocol::worker::{LocalSettings, Ready, Verdict};
use tokio::sync::mpsc;

use self::replies::{Replies, message};
use self::terminal::Terminal;
use super::{Context, Note, Platform};
use crate::socket::Door;
use crate::{Error, clock};

/// Terminals at once.
const TERMINALS: usize = 64;
/// Lines that may wait for one: more than the window of events.
const SCREEN: usize = 1024;
/// A repetition is shown again at worst, and the terminal knows it by its id.
const IDEMPOTENT_MS: u64 = 24 * 3600 * 1000;

/// The adapter.
#[derive(Debug)]
pub struct Local {
    socket: PathBuf,
}

/// What a terminal's task tells.
pub(super) enum Heard {
    Line(FromTerminal),
    Gone,
}

struct Shown {
    chat: Option<(String, String)>,
    confirms: bool,
    screen: mpsc::Sender<ToTerminal>,
}

impl Local {
    /// With its settings.
    pub fn new(settings: LocalSettings) -> Self {
        Self { socket: settings.socket }
    }
}

impl Platform for Local {
    async fn run(self, mut context: Context) -> Result<(), Error> {
        context.asks.close();
        let what = format!("listen at {}", self.socket.display());
        let mut door =
            Door::open(&self.socket).await.map_err(|source| Error::Os { what, source })?;
        let account = self.socket.display().to_string();
        let ready = Ready { account, idempotent_ms: Some(IDEMPOTENT_MS) };
        context.report.tell(Note::Ready(ready)).await;
        let (tell, mut heard) = mpsc::channel(64);
        let mut terminals: HashMap<u64, Shown> = HashMap::new();
        let mut replies = Replies::default();
        let mut verdicts = FuturesUnordered::new();
        let mut tasks = FuturesUnordered::new();
        let mut next = 0_u64;
        loop {
            tokio::select! {
                () = context.stop.cancelled() => return Ok(()),
                accepted = door.accept(), if terminals.len() < TERMINALS => {
                    let (halves, _) = accepted?;
                    next += 1;
                    let (screen, lines) = mpsc::channel(SCREEN);
                    terminals.insert(next, Shown { chat: None, confirms: false, screen });
                    tasks.push(Terminal::new(next, halves, lines, tell.clone()).run());
                }
                Some(()) = tasks.next() => {}
                Some((number, what)) = heard.recv() => match what {
                    Heard::Gone => drop(terminals.remove(&number)),
                    Heard::Line(FromTerminal::Join { chat, user, confirms }) => {
                        let Some(shown) = terminals.get_mut(&number) else { continue };
                        let _ = shown.screen.try_send(ToTerminal::Joined);
                        (shown.chat, shown.confirms) = (Some((chat.clone(), user)), confirms);
                        let mut arrived = Vec::new();
                        for message in replies.of(&chat).filter_map(|it| message(it).ok()) {
                            arrived.extend(shown.show(message));
                        }
                        for message_id in arrived {
                            arrive(&message_id, &mut replies, &context).await;
                        }
                    }
                    Heard::Line(FromTerminal::Shown { message_id }) => {
                        arrive(&message_id, &mut replies, &context).await;
                    }
                    Heard::Line(FromTerminal::Say { id, text }) => {
                        context.report.tell(Note::Progress).await;
                        let Some(shown) = terminals.get(&number) else { continue };
                        let Some((chat, user)) = &shown.chat else {
                            let reason = "the first line must be a join".into();
                            let _ = shown.screen.try_send(ToTerminal::Problem { reason });
                            continue;
                        };
                        let event = event(chat, user, &id, text);
                        let verdict = context.events.submit(event, None).await;
                        verdicts.push(async move { (number, id, verdict.await) });
                    }
                },
                Some(first) = verdicts.next() => {
                    let mut next = Some(first);
                    while let Some((number, id, verdict)) = next {
                        if let Some(shown) = terminals.get(&number) {
                            let _ = shown.screen.try_send(told(id, verdict.ok()));
                        }
                        // Verdicts come in groups: those of one group share a write.
                        next = verdicts.next().now_or_never().flatten();
                    }
                }
                Some(outbound) = context.outbound.recv() => {
                    show(outbound, &terminals, &mut replies, &context).await;
                }
            }
        }
    }
}

impl Shown {
    /// Shows a message. Its id, if it is shown for all that we shall ever know.
    fn show(&self, message: ToTerminal) -> Option<String> {
        let ToTerminal::Message { message_id, .. } = &message else { return None };
        let message_id = message_id.clone();
        let is_written = self.screen.try_send(message).is_ok();
        (is_written && !self.confirms).then_some(message_id)
    }
}

/// Shows a reply in every terminal of its conversation, and keeps it until one has shown it.
async fn show(
    outbound: Outbound,
    terminals: &HashMap<u64, Shown>,
    replies: &mut Replies,
    context: &Context,
) {
    let message = match lost(&outbound, context).await {
        Some(reason) => Err(reason),
        None => message(&outbound),
    };
    let message = match message {
        Ok(message) => message,
        Err(reason) => {
            let failed = Note::Outcome(outbound.id, outbound.attempt, Outcome::Failed { reason });
            return context.report.tell(failed).await;
        }
    };
    let there = terminals.values().filter(|terminal| {
        terminal.chat.as_ref().is_some_and(|(chat, _)| *chat == outbound.chat_id)
    });
    let arrived: Vec<_> = there.filter_map(|terminal| terminal.show(message.clone())).collect();
    let id = outbound.id;
    replies.add(outbound);
    for message_id in arrived {
        arrive(&message_id, replies, context).await;
    }
    if replies.wait(id) {
        // Perhaps for days: other conversations do not.
        context.report.tell(Note::Waits(id)).await;
    }
}

/// Why a file of a reply is none. This worker may not open it, but it may look.
async fn lost(outbound: &Outbound, context: &Context) -> Option<String> {
    for content::File { file, .. } in &outbound.content.files {
        let found = match context.exchange.path(file) {
            Some(path) => tokio::fs::symlink_metadata(path).await.is_ok_and(|it| it.is_file()),
            None => false,
        };
        if !found {
            return Some(format!("there is no file {file:?} in the exchange directory"));
        }
    }
    None
}

/// A reply is shown somewhere.
async fn arrive(message_id: &str, replies: &mut Replies, context: &Context) {
    if let Some(outbound) = replies.shown(message_id) {
        let outcome = Outcome::Sent { message_ids: vec![message_id.to_owned()] };
        context.report.tell(Note::Outcome(outbound.id, outbound.attempt, outcome)).await;
    }
}

/// What a terminal is told about what was typed there. Without a verdict nobody knows.
fn told(id: String, verdict: Option<Verdict>) -> ToTerminal {
    match verdict {
        Some(Verdict::Accepted(_) | Verdict::Duplicate | Verdict::Denied) => {
            ToTerminal::Accepted { id }
        }
        Some(Verdict::Refused) | None => ToTerminal::Refused { id },
    }
}

fn event(chat: &str, user: &str, id: &str, text: String) -> Inbound {
    Inbound {
        kind: InboundKind::Message,
        keys: vec![format!("message:{id}")],
        origin_ms: clock::unix_ms(),
        chat_id: chat.to_owned(),
        chat_type: ChatType::Direct,
        thread_id: None,
        message_id: Some(id.to_owned()),
        reply_to: None,
        sender: Sender { user_id: user.to_owned(), name: None, kind: SenderKind::User },
        mention: Mention::Me,
        text,
        parts: Vec::new(),
        raw: Vec::new(),
        chat_name: None,
        quote: None,
        album: None,
    }
}

//! The adapter against a simulated Telegram. The test plays the pump: it gives the verdicts.

mod hearing;
mod sending;

use std::time::Duration;

use ::tests::telegram::{Entry, Fault, Message, Mood, Observation, Telegram as Sim};
use protocol::content::Content;
use protocol::event::{Inbound, InboundKind, Outbound, Outcome};
use protocol::id::{EventId, OutboundId};
use protocol::worker::{OtherWebhook, Outside, Ready, Secret, Unanswered, Verdict};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::exchange::Exchange;
use crate::platform::{Ask, Note, Submitted};

const TOKEN: &str = "77:s3cret";
const LONG: Duration = Duration::from_secs(20);
const ANN: i64 = 9;
/// A tenth of the real pause, so that a test can wait for it.
const HURRIED: Duration = Duration::from_millis(100);

struct Rig {
    sim: Sim,
    events: mpsc::Receiver<Submitted>,
    notes: mpsc::Receiver<Note>,
    outbound: mpsc::Sender<Outbound>,
    #[expect(dead_code, reason = "kept open")]
    ask: mpsc::Sender<Ask>,
    #[expect(dead_code, reason = "kept")]
    files: tempfile::TempDir,
    stop: CancellationToken,
    ended: oneshot::Receiver<Result<(), Error>>,
    #[expect(dead_code, reason = "ends the adapter when a test fails")]
    guard: DropGuard,
}

impl Rig {
    async fn sim() -> Sim {
        let sim = Sim::start().await;
        sim.add_bot(TOKEN, "test_bot");
        sim.set_mood(TOKEN, ANN, Mood::Open);
        sim
    }

    fn on(sim: Sim, change: impl FnOnce(&mut TelegramSettings)) -> Self {
        let (submit, events) = mpsc::channel(128);
        let (note, notes) = mpsc::channel(256);
        let (outbound, outgoing) = mpsc::channel(64);
        let (ask, asks) = mpsc::channel(64);
        let files = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let mut settings = TelegramSettings {
            token: Secret::new(TOKEN),
            base_url: sim.base_url(),
            unanswered: Unanswered::Report,
            other_webhook: OtherWebhook::Keep,
        };
        change(&mut settings);
        let context = Context {
            events: Events::new(submit),
            outbound: outgoing,
            asks,
            exchange: Exchange::from(protocol::worker::Exchange {
                dir: files.path().to_owned(),
                max_bytes: 1 << 20,
            }),
            report: Report::new(note),
            stop: stop.clone(),
            cursor: None,
        };
        let (end, ended) = oneshot::channel();
        // A runtime of its own, as in a worker.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let adapter = Telegram { settings, conflict: HURRIED }.run(context);
            let _ = end.send(runtime.unwrap().block_on(adapter));
        });
        let guard = stop.clone().drop_guard();
        Self { sim, events, notes, outbound, ask, files, stop, ended, guard }
    }

    async fn ready() -> Self {
        let mut rig = Self::on(Self::sim().await, |_| {});
        rig.until_ready().await;
        rig
    }

    async fn until_ready(&mut self) -> Ready {
        self.note(|note| match note {
            Note::Ready(ready) => Some(ready),
            _ => None,
        })
        .await
    }

    async fn until_up(&mut self) {
        self.note(|note| (note == Note::Outside(Outside::Up)).then_some(())).await;
    }

    async fn until_down(&mut self) -> (String, Option<String>) {
        self.note(|note| match note {
            Note::Outside(Outside::Down { reason, remedy }) => Some((reason, remedy)),
            _ => None,
        })
        .await
    }

    /// The first note that `wanted` makes something of; others are passed over.
    async fn note<T>(&mut self, wanted: impl Fn(Note) -> Option<T>) -> T {
        let search = async {
            loop {
                let note = self.notes.recv().await.expect("the adapter lives");
                if let Some(found) = wanted(note) {
                    return found;
                }
            }
        };
        tokio::time::timeout(LONG, search).await.expect("a note in time")
    }

    async fn heard(&mut self) -> Submitted {
        let next = tokio::time::timeout(LONG, self.events.recv()).await;
        next.expect("an event in time").expect("the adapter lives")
    }

    async fn send(&mut self, outbound: Outbound) -> Outcome {
        let id = outbound.id;
        self.outbound.send(outbound).await.expect("the adapter lives");
        self.note(|note| match note {
            Note::Outcome(of, _, outcome) if of == id => Some(outcome),
            _ => None,
        })
        .await
    }

    /// Stops politely, having broken no rule and told no secret.
    async fn end(self) -> Sim {
        self.stop.cancel();
        let ended = tokio::time::timeout(LONG, self.ended).await.expect("an end in time");
        ended.expect("no panic").expect("a polite end");
        assert!(self.sim.violations().is_empty(), "{:?}", self.sim.violations());
        self.sim
    }
}

fn outbound(id: u64, change: impl FnOnce(&mut Outbound)) -> Outbound {
    let mut outbound = Outbound {
        id: OutboundId(id),
        key: format!("key-{id}"),
        chat_id: ANN.to_string(),
        thread_id: None,
        reply_to: None,
        content: Content::text(format!("reply {id}")),
        attempt: 1,
        draft_key: String::new(),
        draft_id: None,
    };
    change(&mut outbound);
    outbound
}

fn accept(submitted: Submitted) -> Inbound {
    let _ = submitted.verdict.send(Verdict::Accepted(EventId(1)));
    submitted.event
}

fn polled(entry: &Entry) -> bool {
    matches!(entry.what, Observation::Poll { .. })
}

fn called(entry: &Entry, name: &str) -> bool {
    matches!(&entry.what, Observation::Call { method, .. } if *method == name.to_lowercase())
}

fn sent(outcome: Outcome) -> Vec<String> {
    match outcome {
        Outcome::Sent { message_ids } => message_ids,
        other => panic!("{other:?}"),
    }
}

fn refuse(code: u16, description: &str) -> Fault {
    Fault::Refuse { code, description: description.to_owned(), parameters: Value::Null }
}

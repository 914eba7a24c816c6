//! The adapter against a simulated Telegram. The test plays the pump: it gives the verdicts.

mod beside;
mod hearing;
mod hooked;
mod sending;
mod showing;

use std::time::Duration;

use ::tests::telegram::{Entry, Fault, Message, Mood, Observation, Telegram as Sim};
use protocol::content::{Content, Draft, File, FileKind};
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
    ask: mpsc::Sender<Ask>,
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
        Self::going_on(sim, None, change)
    }

    /// With what an earlier life remembered.
    fn going_on(
        sim: Sim,
        cursor: Option<Cursor>,
        change: impl FnOnce(&mut TelegramSettings),
    ) -> Self {
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
            webhook: None,
            local_files: None,
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
            network: protocol::worker::Network::default(),
            report: Report::new(note),
            stop: stop.clone(),
            cursor,
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

    async fn until_conflict(&mut self) -> (String, String) {
        self.note(|note| match note {
            Note::Outside(Outside::Conflict { reason, remedy }) => Some((reason, remedy)),
            _ => None,
        })
        .await
    }

    /// A file in the exchange directory.
    fn file(&self, kind: FileKind, name: &str, bytes: &[u8]) -> File {
        std::fs::write(self.files.path().join(name), bytes).unwrap();
        File { kind, file: name.to_owned(), title: None }
    }

    /// The message that shows a draft, once it is shown.
    async fn draft(&mut self, key: &str, chat: i64, text: &str) -> Option<String> {
        let instance = protocol::id::Instance::new("telegram").unwrap();
        let lane = protocol::id::Lane { instance, chat_id: chat.to_string(), thread_id: None };
        let draft = Draft { key: key.into(), lane, reply_to: None, text: text.into() };
        self.ask.send(Ask::Draft(Box::new(draft))).await.expect("the adapter lives");
        self.note(|note| match note {
            Note::Drafted(of, id) if of == key => Some(id),
            _ => None,
        })
        .await
    }

    /// The first note that `wanted` makes something of; others are passed over.
    async fn note<T>(&mut self, wanted: impl Fn(Note) -> Option<T>) -> T {
        let mut passed = Vec::new();
        let search = async {
            loop {
                let note = self.notes.recv().await.expect("the adapter lives");
                passed.push(note.clone());
                if let Some(found) = wanted(note) {
                    return found;
                }
            }
        };
        let found = tokio::time::timeout(LONG, search).await;
        found.unwrap_or_else(|_| panic!("waited {LONG:?} for a note; passed over: {passed:?}"))
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

    /// [`Rig::send`], as often as it has to wait for its turn.
    async fn send_in_turn(&mut self, outbound: Outbound) -> Outcome {
        loop {
            match self.send(outbound.clone()).await {
                Outcome::Retry { reason, after_ms: Some(after) } if reason.contains("its turn") => {
                    tokio::time::sleep(Duration::from_millis(after)).await;
                }
                outcome => return outcome,
            }
        }
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

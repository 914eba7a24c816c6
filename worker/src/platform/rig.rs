//! An adapter under test, against a simulated platform `S`. The test plays the pump: it gives the verdicts.

use std::fmt::Debug;
use std::time::Duration;

use protocol::content::{Content, File, FileKind};
use protocol::event::{Inbound, Outbound, Outcome};
use protocol::id::{EventId, OutboundId};
use protocol::worker::{Cursor, Network, Outside, Ready, Verdict};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Ask, Context, Events, Kept, Note, Platform, Report, Submitted};
use crate::Error;
use crate::exchange::Exchange;

/// Far longer than anything takes on a slow machine.
pub(super) const LONG: Duration = Duration::from_secs(20);

pub(super) struct Rig<S> {
    pub(super) sim: S,
    pub(super) events: mpsc::Receiver<Submitted>,
    pub(super) kept: mpsc::Receiver<Kept>,
    pub(super) notes: mpsc::Receiver<Note>,
    pub(super) outbound: mpsc::Sender<Outbound>,
    pub(super) ask: mpsc::Sender<Ask>,
    pub(super) files: tempfile::TempDir,
    pub(super) stop: CancellationToken,
    pub(super) ended: oneshot::Receiver<Result<(), Error>>,
    #[expect(dead_code, reason = "ends the adapter when a test fails")]
    guard: DropGuard,
}

impl<S> Rig<S> {
    /// Runs the adapter with what an earlier life remembered.
    pub(super) fn running(
        sim: S,
        adapter: impl Platform + Send + 'static,
        network: &Network,
        cursor: Option<Cursor>,
    ) -> Self {
        let (submit, events) = mpsc::channel(128);
        let (keep, kept) = mpsc::channel(8);
        let (note, notes) = mpsc::channel(256);
        let (outbound, outgoing) = mpsc::channel(64);
        let (ask, asks) = mpsc::channel(64);
        let files = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let context = Context {
            events: Events::new(submit, keep),
            outbound: outgoing,
            asks,
            exchange: Exchange::from(protocol::worker::Exchange {
                dir: files.path().to_owned(),
                max_bytes: 1 << 20,
            }),
            network: network.clone(),
            report: Report::new(note),
            stop: stop.clone(),
            cursor,
        };
        let (end, ended) = oneshot::channel();
        // A runtime of its own, as in a worker.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let _ = end.send(runtime.unwrap().block_on(adapter.run(context)));
        });
        let guard = stop.clone().drop_guard();
        Self { sim, events, kept, notes, outbound, ask, files, stop, ended, guard }
    }

    pub(super) async fn until_ready(&mut self) -> Ready {
        self.note(|note| match note {
            Note::Ready(ready) => Some(ready),
            _ => None,
        })
        .await
    }

    pub(super) async fn until_up(&mut self) {
        self.note(|note| (note == Note::Outside(Outside::Up)).then_some(())).await;
    }

    /// The first note that `wanted` makes something of; others are passed over.
    pub(super) async fn note<T>(&mut self, wanted: impl Fn(Note) -> Option<T>) -> T {
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

    pub(super) async fn heard(&mut self) -> Submitted {
        let next = tokio::time::timeout(LONG, self.events.recv()).await;
        next.expect("an event in time").expect("the adapter lives")
    }

    pub(super) async fn send(&mut self, outbound: Outbound) -> Outcome {
        let id = outbound.id;
        self.outbound.send(outbound).await.expect("the adapter lives");
        self.outcome(id).await
    }

    pub(super) async fn outcome(&mut self, id: OutboundId) -> Outcome {
        self.note(|note| match note {
            Note::Outcome(of, _, outcome) if of == id => Some(outcome),
            _ => None,
        })
        .await
    }

    pub(super) async fn ask(&self, ask: Ask) {
        self.ask.send(ask).await.expect("the adapter lives");
    }

    /// A file in the exchange directory, where agents put theirs.
    pub(super) fn file(&self, kind: FileKind, name: &str, bytes: &[u8]) -> File {
        std::fs::write(self.files.path().join(name), bytes).unwrap();
        File { kind, file: name.to_owned(), title: None }
    }

    /// Stops politely; `violations` are the rules of the platform that the adapter has broken.
    pub(super) async fn stopped<V: Debug>(self, violations: impl Fn(&S) -> Vec<V>) -> S {
        self.stop.cancel();
        let ended = tokio::time::timeout(LONG, self.ended).await.expect("an end in time");
        ended.expect("no panic").expect("a polite end");
        let violations = violations(&self.sim);
        assert!(violations.is_empty(), "{violations:?}");
        self.sim
    }
}

/// A reply to `chat`.
pub(super) fn outbound_to(chat: &str, id: u64, change: impl FnOnce(&mut Outbound)) -> Outbound {
    let mut outbound = Outbound {
        id: OutboundId(id),
        key: format!("key-{id}"),
        chat_id: chat.to_owned(),
        thread_id: None,
        reply_to: None,
        content: Content::text(format!("reply {id}")),
        attempt: 1,
        draft_key: String::new(),
        draft_id: None,
        progress: None,
    };
    change(&mut outbound);
    outbound
}

pub(super) fn accept(submitted: Submitted) -> Inbound {
    let _ = submitted.verdict.send(Verdict::Accepted(EventId(1)));
    submitted.event
}

pub(super) fn sent(outcome: Outcome) -> Vec<String> {
    match outcome {
        Outcome::Sent { message_ids } => message_ids,
        other => panic!("{other:?}"),
    }
}

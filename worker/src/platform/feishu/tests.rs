//! The adapter against a simulated Feishu. The test plays the pump: it gives the verdicts.

mod beside;
mod connection;
mod fuzz;
mod hearing;
mod posted;
mod sending;
mod showing;

use std::time::Duration;

use ::tests::feishu::{
    ClientConfig, Ending, Entry, Fault, Feishu as Sim, Message, Observation, Push, Route, Schedule,
    Scope, SentMessage, Times, Trouble, card_action, event, menu, message_read, reaction, recalled,
};
use ::tests::proxy::Proxy;
use protocol::content::{Act, Busy, Button, Content, Draft, Fetch, File, FileKind, Press};
use protocol::event::{ChatType, InboundKind, Mention, Outbound, Outcome, Part};
use protocol::id::{EventId, Instance, Lane, OutboundId};
use protocol::worker::{FeishuSettings, FeishuWebhook, Network, Outside, Secret, Verdict};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::exchange::Exchange;
use crate::platform::{Ask, Submitted};

const APP: &str = "cli_a";
const LONG: Duration = Duration::from_secs(10);

/// A tenth of the real times, so that a test can wait for them.
const HURRIED: Limits = Limits {
    discovery: Duration::from_millis(800),
    handshake: Duration::from_millis(800),
    live: live::Limits {
        silence: Duration::from_millis(500),
        insist: Duration::from_millis(300),
        patience: Duration::from_millis(800),
        first_frame: Duration::from_millis(1200),
    },
    rival: rival::Limits { every: Duration::from_millis(200), settled: Duration::from_millis(300) },
};

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
        sim.add_app(APP, "secret", "ou_bot");
        sim.configure(|settings| {
            let pauses = vec![Duration::from_millis(100); 4];
            settings.schedule = Schedule { pauses, ..Schedule::default() };
        });
        sim
    }

    fn on(sim: Sim) -> Self {
        Self::over(sim, &Network::default())
    }

    fn over(sim: Sim, network: &Network) -> Self {
        Self::with(sim, network, None)
    }

    fn with(sim: Sim, network: &Network, webhook: Option<FeishuWebhook>) -> Self {
        let (submit, events) = mpsc::channel(64);
        let (note, notes) = mpsc::channel(256);
        let (outbound, outgoing) = mpsc::channel(64);
        let (ask, asks) = mpsc::channel(64);
        let files = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let settings = FeishuSettings {
            app_id: APP.to_owned(),
            app_secret: Secret::new("secret"),
            base_url: sim.base_url(),
            working: "Typing".to_owned(),
            webhook: webhook.map(Box::new),
        };
        let context = Context {
            events: Events::new(submit),
            outbound: outgoing,
            asks,
            exchange: Exchange::from(protocol::worker::Exchange {
                dir: files.path().to_owned(),
                max_bytes: 1 << 20,
            }),
            network: network.clone(),
            report: Report::new(note),
            stop: stop.clone(),
            cursor: None,
        };
        let (end, ended) = oneshot::channel();
        // A runtime of its own, as in a worker.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let adapter = Feishu { settings, limits: HURRIED }.run(context);
            let _ = end.send(runtime.unwrap().block_on(adapter));
        });
        let guard = stop.clone().drop_guard();
        Self { sim, events, notes, outbound, ask, files, stop, ended, guard }
    }

    /// Connected, and the bot knows itself.
    async fn ready() -> Self {
        let mut rig = Self::on(Self::sim().await);
        rig.until_ready().await;
        rig.sim.wait_count("bot info", LONG, 1, |entry| called(entry, "bot_info")).await;
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
            Note::Outside(Outside::Conflict { reason, remedy }) => Some((reason, Some(remedy))),
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
        self.outcome(id).await
    }

    async fn outcome(&mut self, id: OutboundId) -> Outcome {
        self.note(|note| match note {
            Note::Outcome(of, _, outcome) if of == id => Some(outcome),
            _ => None,
        })
        .await
    }

    /// Puts a file where agents put theirs.
    fn put(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.files.path().join(name), bytes).unwrap();
        name.to_owned()
    }

    async fn ask(&self, ask: Ask) {
        self.ask.send(ask).await.expect("the adapter lives");
    }

    /// Stops politely, having broken no rule.
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
        chat_id: "oc_1".to_owned(),
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

/// Words of messages, in the order in which they were sent.
fn words(sim: &Sim) -> Vec<String> {
    sim.sent().iter().filter_map(|it| sim.shown(&it.message_id)).collect()
}

fn accept(submitted: Submitted) -> protocol::event::Inbound {
    let _ = submitted.verdict.send(Verdict::Accepted(EventId(1)));
    submitted.event
}

fn called(entry: &Entry, name: &str) -> bool {
    matches!(&entry.what, Observation::Call { route, .. } if *route == name)
}

fn opened(entry: &Entry) -> bool {
    matches!(entry.what, Observation::Opened { .. })
}

fn rest(route: Route, trouble: Trouble) -> Fault {
    Fault::Rest { route: Some(route), trouble }
}

fn sent(outcome: Outcome) -> Vec<String> {
    match outcome {
        Outcome::Sent { message_ids } => message_ids,
        other => panic!("{other:?}"),
    }
}

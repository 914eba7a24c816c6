//! The adapter against a simulated Telegram.

mod beside;
mod hearing;
mod hooked;
mod sending;
mod showing;
mod trouble;

use std::time::Duration;

use ::tests::telegram::{Entry, Fault, Message, Mood, Observation, Telegram as Sim};
use protocol::content::{Content, Draft, File, FileKind};
use protocol::event::{InboundKind, Outbound, Outcome, Rest};
use protocol::id::{EventId, OutboundId};
use protocol::worker::{Cursor, Network, OtherWebhook, Outside, Secret, Unanswered, Verdict};
use serde_json::{Value, json};

use super::*;
use crate::platform::rig::{LONG, accept, outbound_to, sent};
use crate::platform::{Ask, Note};

const TOKEN: &str = "77:s3cret";
const ANN: i64 = 9;
/// A tenth of the real pause, so that a test can wait for it.
const HURRIED: Duration = Duration::from_millis(100);

type Rig = crate::platform::rig::Rig<Sim>;

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
        let mut adapter = Self::adapter(&sim);
        change(&mut adapter.settings);
        Self::running(sim, adapter, &Network::default(), cursor)
    }

    fn adapter(sim: &Sim) -> Telegram {
        let settings = TelegramSettings {
            menu: Vec::new(),
            token: Secret::new(TOKEN),
            base_url: sim.base_url(),
            unanswered: Unanswered::Report,
            other_webhook: OtherWebhook::Keep,
            webhook: None,
            local_files: None,
        };
        Telegram { conflict: HURRIED, preview: HURRIED, ..Telegram::new(settings) }
    }

    async fn ready() -> Self {
        let mut rig = Self::on(Self::sim().await, |_| {});
        rig.until_ready().await;
        rig
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

    async fn show(&self, key: &str, chat: i64, text: &str) {
        let instance = protocol::id::Instance::new("telegram").unwrap();
        let lane = protocol::id::Lane { instance, chat_id: chat.to_string(), thread_id: None };
        let draft =
            Draft { key: key.into(), lane, reply_to: None, text: text.into(), message_id: None };
        self.ask(Ask::Draft(Box::new(draft))).await;
    }

    /// The message that shows a draft, once it is shown.
    async fn draft(&mut self, key: &str, chat: i64, text: &str) -> Option<String> {
        self.show(key, chat, text).await;
        self.note(|note| match note {
            Note::Drafted(of, id) if of == key => Some(id),
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

    /// Stops politely, having broken no rule.
    async fn end(self) -> Sim {
        self.stopped(Sim::violations).await
    }
}

fn outbound(id: u64, change: impl FnOnce(&mut Outbound)) -> Outbound {
    outbound_to(&ANN.to_string(), id, change)
}

fn polled(entry: &Entry) -> bool {
    matches!(entry.what, Observation::Poll { .. })
}

fn called(entry: &Entry, name: &str) -> bool {
    matches!(&entry.what, Observation::Call { method, .. } if *method == name.to_lowercase())
}

fn refuse(code: u16, description: &str) -> Fault {
    Fault::Refuse { code, description: description.to_owned(), parameters: Value::Null }
}

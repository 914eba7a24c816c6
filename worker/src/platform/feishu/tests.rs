//! The adapter against a simulated Feishu.

mod asking;
mod away;
mod beside;
mod buttons;
mod connection;
mod front;
mod fuzz;
mod hearing;
mod passing;
mod posted;
mod refused;
mod sending;
mod showing;
mod topics;

use std::time::Duration;

use ::tests::feishu::{
    ClientConfig, Ending, Entry, Fault, Feishu as Sim, Message, Observation, Push, Route, Schedule,
    Scope, SentMessage, Times, Trouble, card_action, event, menu, message_read, reaction, recalled,
};
use ::tests::proxy::Proxy;
use protocol::content::{Act, Busy, Button, Content, Draft, Fetch, File, FileKind, Press};
use protocol::event::{
    ChatType, Inbound, InboundKind, Mention, Outbound, Outcome, Part, Progress, Rest,
};
use protocol::id::{EventId, Instance, Lane, OutboundId};
use protocol::worker::{Cursor, FeishuSettings, FeishuWebhook, Network, Outside, Secret, Verdict};
use serde_json::json;

use super::*;
use crate::platform::Ask;
use crate::platform::rig::{LONG, accept, outbound_to, sent};

const APP: &str = "cli_a";

/// A tenth of the real times, so that a test can wait for them.
const HURRIED: Limits = Limits {
    discovery: Duration::from_millis(800),
    handshake: Duration::from_millis(800),
    live: live::Limits {
        silence: Duration::from_millis(500),
        insist: Duration::from_millis(300),
        patience: Duration::from_millis(800),
        frame: Duration::from_millis(1200),
    },
    rival: rival::Limits { every: Duration::from_millis(200), settled: Duration::from_millis(300) },
    absence: absence::Limits {
        least: Duration::from_millis(100),
        save: Duration::from_millis(50),
        again: Duration::from_millis(300),
        soon: Duration::from_millis(100),
    },
    turn: LIMITS.turn,
    asking: Duration::from_millis(1200),
    reply: Duration::from_secs(4),
    file: Duration::from_secs(2),
};

type Rig = crate::platform::rig::Rig<Sim>;

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
        Self::built(sim, network, None, |settings| settings.webhook = webhook.map(Box::new))
    }

    fn built(
        sim: Sim,
        network: &Network,
        cursor: Option<Cursor>,
        change: impl FnOnce(&mut FeishuSettings),
    ) -> Self {
        Self::limited(sim, network, HURRIED, cursor, change)
    }

    fn limited(
        sim: Sim,
        network: &Network,
        limits: Limits,
        cursor: Option<Cursor>,
        change: impl FnOnce(&mut FeishuSettings),
    ) -> Self {
        let mut settings = FeishuSettings {
            app_id: APP.to_owned(),
            app_secret: Secret::new("secret"),
            base_url: sim.base_url(),
            working: "Typing".to_owned(),
            webhook: None,
            catch_up_h: 0,
        };
        change(&mut settings);
        Self::running(sim, Feishu { settings, limits }, network, cursor)
    }

    /// Connected, and the bot knows itself.
    async fn ready() -> Self {
        let mut rig = Self::on(Self::sim().await);
        rig.until_ready().await;
        rig.sim.wait_count("bot info", LONG, 1, |entry| called(entry, "bot_info")).await;
        rig
    }

    async fn until_down(&mut self) -> (String, Option<String>) {
        self.note(|note| match note {
            Note::Outside(Outside::Down { reason, remedy }) => Some((reason, remedy)),
            Note::Outside(Outside::Conflict { reason, remedy }) => Some((reason, Some(remedy))),
            _ => None,
        })
        .await
    }

    /// Puts a file where agents put theirs.
    fn put(&self, name: &str, bytes: &[u8]) -> String {
        self.file(FileKind::File, name, bytes).file
    }

    /// Stops politely, having broken no rule.
    async fn end(self) -> Sim {
        self.stopped(Sim::violations).await
    }
}

fn outbound(id: u64, change: impl FnOnce(&mut Outbound)) -> Outbound {
    outbound_to("oc_1", id, change)
}

/// Words of messages, in the order in which they were sent.
fn words(sim: &Sim) -> Vec<String> {
    sim.sent().iter().filter_map(|it| sim.shown(&it.message_id)).collect()
}

fn called(entry: &Entry, name: &str) -> bool {
    matches!(&entry.what, Observation::Call { route, .. } if *route == name)
}

fn held(entry: &Entry) -> bool {
    matches!(entry.what, Observation::Held { .. })
}

fn opened(entry: &Entry) -> bool {
    matches!(entry.what, Observation::Opened { .. })
}

fn rest(route: Route, trouble: Trouble) -> Fault {
    Fault::Rest { route: Some(route), trouble }
}

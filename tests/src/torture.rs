//! Kills at random, under load, and what became of every message: what `gw-torture` runs.
//!
//! A round is a gateway of the real program on a state of its own, between a simulated Feishu that
//! redelivers what nobody acknowledged and an agent that is a process of its own. While conversations
//! go on, the supervisor, the platform's worker, the agent's worker and the agent are killed with
//! SIGKILL, alone and in pairs. Then everything is left alone until nothing is under way any more, and
//! the judge looks only at what the platform and the agent saw.

pub mod agent;
mod judge;
mod load;
pub mod queue;
mod victims;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::bench::Ground;
use crate::bench::clock;
use crate::bench::gateway::Gateway;
use crate::feishu::{Feishu, Observation, Schedule};

pub use judge::Tally;
use judge::{Record, judge};
use load::Load;
use victims::{Side, Victims};

const APP: &str = "cli_torture";
/// How long everything may take to come to rest after the last kill.
const REST: Duration = Duration::from_secs(120);

/// One round.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Everything that is random follows from it.
    pub seed: u64,
    /// Kills.
    pub kills: u32,
    /// Conversations at once.
    pub chats: usize,
    /// Killed at a call of their own instead of at a time.
    pub at_calls: bool,
}

impl Round {
    /// Runs it.
    pub fn run(self, ground: &Ground, own: &std::path::Path) -> io::Result<Tally> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let feishu = runtime.block_on(Feishu::start());
        feishu.add_app(APP, "secret", "ou_bot");
        feishu.configure(|settings| {
            settings.schedule = Schedule {
                answer_within: Duration::from_millis(300),
                pauses: vec![Duration::from_millis(50); 5000],
            };
        });
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let platform = runtime.handle().clone();
        let serving = std::thread::Builder::new().name("feishu".into()).spawn(move || {
            let _ = runtime.block_on(stopped);
        })?;
        let result = self.against(ground, own, &feishu, &platform);
        drop(stop);
        let _ = serving.join();
        result
    }

    fn against(
        self,
        ground: &Ground,
        own: &std::path::Path,
        feishu: &Feishu,
        platform: &tokio::runtime::Handle,
    ) -> io::Result<Tally> {
        // Attempts that end by our own hand must not set an event aside.
        let config = format!(
            "[platform.feishu]\napp_id = \"{APP}\"\napp_secret_file = \"secret\"\n\
             access = {{ direct = \"open\" }}\nbase_url = \"{}\"\n\
             [agent.hermes]\nkind = \"socket\"\nmax_attempts = 100\n",
            feishu.base_url()
        );
        let gateway = Gateway::start(ground, &config)?;
        let mut victims = Victims::new(gateway, own, self.seed)?;
        let load = Arc::new(Load::new(feishu.clone(), self.seed));
        let conversations = load.start(platform, self.chats);
        let mut killed = 0;
        while killed < self.kills {
            killed += if self.at_calls { victims.strike_at_call()? } else { victims.strike()? };
        }
        load.stop();
        for conversation in conversations {
            let _ = platform.block_on(conversation);
        }
        let record = Record {
            chats: load.pushed(),
            repeated: load.repeated(),
            rested: rest(victims.side(), feishu, load.count()),
            offers: victims.side().agents_log()?,
            sent: feishu.sent(),
            violations: feishu.violations().len() as u64,
            kills: killed,
        };
        let tally = judge(&record);
        if !tally.is_clean() {
            victims.side().keep(&record.offers, &format!("{record:#?}"))?;
        }
        Ok(tally)
    }
}

/// Waits until every message has its answer and the gateway holds nothing. Whether it came to that.
fn rest(side: &Side, feishu: &Feishu, messages: usize) -> bool {
    let answered = || {
        let sent = feishu.count(|entry| matches!(entry.what, Observation::Sent(_)));
        (sent >= messages && side.is_at_rest("feishu")).then_some(())
    };
    clock::until("nothing is under way", REST, answered).is_ok()
}

//! Kills at random, under load, and what became of every message: what `gw-torture` runs.
//!
//! A round is a gateway of the real program on a state of its own, between a simulated Feishu that
//! redelivers what nobody acknowledged and an agent that is a process of its own. While conversations
//! go on, the supervisor, the platform's worker, the agent's worker and the agent are killed with
//! SIGKILL, alone and in pairs. Then everything is left alone until nothing is under way any more, and
//! the judge looks only at what the platform and the agent saw.

mod absence;
pub mod agent;
mod judge;
mod load;
pub mod queue;
pub mod trouble;
mod victims;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::bench::Ground;
use crate::bench::clock;
use crate::bench::gateway::Gateway;
use crate::feishu::{Feishu, Observation, Schedule};
use protocol::step::ALL;

pub use absence::{Absence, Again};
pub use judge::Tally;
use judge::{Record, judge};
use load::Load;
pub use victims::When;
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
    /// When they come.
    pub when: When,
}

impl Round {
    /// Runs it.
    pub fn run(self, ground: &Ground, own: &std::path::Path) -> io::Result<Tally> {
        on_feishu(Duration::from_millis(300), |feishu, platform| {
            self.against(ground, own, feishu, platform)
        })
    }

    fn against(
        self,
        ground: &Ground,
        own: &std::path::Path,
        feishu: &Feishu,
        platform: &tokio::runtime::Handle,
    ) -> io::Result<Tally> {
        let gateway = Gateway::start(ground, &config(feishu))?;
        let mut victims = Victims::new(gateway, own, self.seed)?;
        let mut at = std::collections::BTreeMap::new();
        let load = Arc::new(Load::new(feishu.clone(), self.seed, &[APP]));
        let conversations = load.start(platform, self.chats);
        let mut killed = 0;
        while killed < self.kills {
            killed += match self.when {
                When::Time => victims.strike()?,
                When::Call => victims.strike_at_call()?,
                When::Step(first) => {
                    let number = first + usize::try_from(killed).unwrap_or(0);
                    let step = ALL.get(number % ALL.len()).copied().unwrap_or_default();
                    victims.strike_at_step(step)?;
                    *at.entry(step.to_owned()).or_default() += 1;
                    1
                }
            };
        }
        load.stop();
        for conversation in conversations {
            let _ = platform.block_on(conversation);
        }
        let record = Record {
            chats: load.pushed(),
            repeated: load.repeated(),
            rested: rest(victims.side(), feishu, load.count(), &["feishu"]),
            offers: victims.side().agents_log()?,
            sent: feishu.sent(),
            violations: feishu.violations().len() as u64,
            kills: killed,
        };
        let tally = Tally { at, ..judge(&record) };
        if !tally.is_clean() {
            victims.side().keep(&record.offers, &format!("{record:#?}"))?;
        }
        Ok(tally)
    }
}

/// Runs something against a simulated Feishu of its own, which waits so long for an answer.
fn on_feishu<T>(
    answer_within: Duration,
    run: impl FnOnce(&Feishu, &Handle) -> io::Result<T>,
) -> io::Result<T> {
    let platform = Platform::start(&[APP])?;
    platform.feishu.configure(|settings| settings.schedule.answer_within = answer_within);
    let _within = platform.runtime.enter();
    run(&platform.feishu, &platform.runtime)
}

/// The platform and an agent. Attempts that end by our own hand must not set an event aside.
fn config(feishu: &Feishu) -> String {
    format!(
        "[platform.feishu]\napp_id = \"{APP}\"\napp_secret_file = \"secret\"\n\
         access = {{ direct = \"open\" }}\nbase_url = \"{}\"\n\
         [agent.hermes]\nkind = \"socket\"\nmax_attempts = 100\n",
        feishu.base_url()
    )
}

/// A simulated Feishu, on a thread of its own, that repeats soon and for long what nobody acknowledges.
pub(crate) struct Platform {
    pub(crate) feishu: Feishu,
    pub(crate) runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
}

impl Platform {
    pub(crate) fn start(apps: &[&str]) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let feishu = runtime.block_on(Feishu::start());
        for app in apps {
            feishu.add_app(app, "secret", "ou_bot");
        }
        feishu.configure(|settings| {
            settings.schedule = Schedule {
                answer_within: Duration::from_millis(300),
                pauses: vec![Duration::from_millis(50); 5000],
            };
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let handle = runtime.handle().clone();
        let serving = std::thread::Builder::new().name("feishu".into()).spawn(move || {
            let _ = runtime.block_on(stopped);
        })?;
        Ok(Self { feishu, runtime: handle, stop: Some(stop), serving: Some(serving) })
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

/// Waits until every message has its answer and the gateway holds nothing. Whether it came to that.
fn rest(side: &Side, feishu: &Feishu, messages: usize, platforms: &[&str]) -> bool {
    let answered = || {
        let sent = feishu.count(|entry| matches!(entry.what, Observation::Sent(_)));
        let rests = || platforms.iter().all(|platform| side.is_at_rest(platform));
        (sent >= messages && rests()).then_some(())
    };
    clock::until("nothing is under way", REST, answered).is_ok()
}

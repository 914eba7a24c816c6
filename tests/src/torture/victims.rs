//! What is killed, and how it comes back: the supervisor and the agent by us, workers by themselves.
//!
//! Only processes that this program started are killed, or children of a supervisor that it started.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::judge::Record;
use crate::bench::clock;
use crate::bench::gateway::{Gateway, signal};

/// The longest pause between two strikes.
const PAUSE_MS: u64 = 160;
/// One strike of so many hits two at once.
const PAIR: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Victim {
    Supervisor,
    PlatformWorker,
    AgentWorker,
    Agent,
}

const ALL: [Victim; 4] =
    [Victim::Supervisor, Victim::PlatformWorker, Victim::AgentWorker, Victim::Agent];

pub(super) struct Victims {
    gateway: Gateway,
    own: PathBuf,
    log: PathBuf,
    agent: Child,
    random: fastrand::Rng,
    order: [Victim; 4],
}

impl Victims {
    pub(super) fn new(gateway: Gateway, own: &Path, seed: u64) -> io::Result<Self> {
        let log = gateway.dir().join("agent.log");
        File::create(&log)?;
        let agent = agent(own, &gateway, &log)?;
        let random = fastrand::Rng::with_seed(seed);
        Ok(Self { gateway, own: own.to_owned(), log, agent, random, order: ALL })
    }

    /// Waits a little, then kills one or two. How many were killed.
    pub(super) fn strike(&mut self) -> io::Result<u32> {
        clock::pause(Duration::from_millis(self.random.u64(1..PAUSE_MS)));
        self.random.shuffle(&mut self.order);
        let pair = self.random.u32(..PAIR) == 0;
        let chosen: Vec<_> = self.order.into_iter().take(1 + usize::from(pair)).collect();
        let mut pids = Vec::new();
        for victim in chosen {
            pids.push((victim, self.pid(victim)?));
        }
        let mut killed = 0;
        for (_, pid) in &pids {
            killed += u32::from(signal(*pid, Signal::KILL).is_ok());
        }
        for (victim, _) in pids {
            match victim {
                Victim::Supervisor => self.gateway.start_again()?,
                Victim::Agent => {
                    self.agent.wait()?;
                    self.agent = agent(&self.own, &self.gateway, &self.log)?;
                }
                Victim::PlatformWorker | Victim::AgentWorker => {}
            }
        }
        Ok(killed)
    }

    fn pid(&self, victim: Victim) -> io::Result<u32> {
        match victim {
            Victim::Supervisor => Ok(self.gateway.pid()),
            Victim::Agent => Ok(self.agent.id()),
            Victim::PlatformWorker => self.worker("feishu"),
            Victim::AgentWorker => self.worker("hermes"),
        }
    }

    /// The process of an instance, as soon as there is one that is a child of our supervisor. One that
    /// is given up, or will be started later only, because it died so often, gets an operator.
    fn worker(&self, name: &str) -> io::Result<u32> {
        clock::until(&format!("{name} has a process"), PATIENCE, || {
            let instances = self.gateway.instances().ok()?;
            let found = instances.iter().find(|instance| instance["name"] == name)?;
            if ["held", "backoff"].contains(&found["phase"].as_str()?) {
                self.gateway.restart(name).ok()?;
                return None;
            }
            let pid = u32::try_from(found["pid"].as_u64()?).ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u32>().ok()?;
            (self.gateway.pid() == parent).then_some(pid)
        })
    }

    /// The gateway holds nothing that waits.
    pub(super) fn is_at_rest(&self) -> bool {
        let Ok(instances) = self.gateway.instances() else { return false };
        instances.iter().filter(|one| one["name"] == "feishu").all(|one| {
            let store = &one["store"];
            store["waiting"] == 0 && store["replies"] == 0
        })
    }

    pub(super) fn agents_log(&self) -> io::Result<String> {
        fs::read_to_string(&self.log)
    }

    /// Keeps what is needed to find the fault.
    pub(super) fn keep(&self, record: &Record) -> io::Result<()> {
        let kept = std::env::temp_dir().join(format!("gw-torture-{}", std::process::id()));
        fs::create_dir_all(&kept)?;
        fs::write(kept.join("agent.log"), &record.offers)?;
        fs::write(kept.join("record.txt"), format!("{record:#?}"))?;
        fs::copy(self.gateway.dir().join("log"), kept.join("gateway.log"))?;
        Ok(())
    }
}

impl Drop for Victims {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

fn agent(own: &Path, gateway: &Gateway, log: &Path) -> io::Result<Child> {
    let mut command = Command::new(own);
    command.arg(super::agent::ROLE).arg(gateway.agent_socket("hermes")).arg(log);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn()
}

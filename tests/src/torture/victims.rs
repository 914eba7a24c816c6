//! What is killed, and how it comes back: the supervisor and the agent by us, workers by themselves.
//!
//! Only processes that this program started are killed, or children of a supervisor that it started.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use protocol::step;
use rustix::process::Signal;

use crate::bench::clock;
use crate::bench::gateway::{Gateway, signal};

/// The longest pause between two strikes.
const PAUSE_MS: u64 = 160;
/// One strike of so many hits two at once.
const PAIR: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(60);

/// When kills come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// At random times.
    Time,
    /// At the n-th system call of some sort.
    Call,
    /// At each step of a message in turn, from this one on. Needs a build without optimisation.
    Step(usize),
}

/// A step is survived up to so many times.
const SURVIVED: u32 = 24;

/// A supervisor that lives so long is not killed by its own calls.
const UNHURT: Duration = Duration::from_secs(4);
/// What the steps of a message are made of, and the most calls of it that are counted: receiving (a frame of
/// the platform, of a worker, of the agent), storing, syncing, answering (accepted, delivered, acknowledged,
/// sent, told), waiting.
const STEPS: [(&str, u32); 6] = [
    ("recvfrom", 300),
    ("pwrite64", 300),
    ("fdatasync", 60),
    ("sendto", 300),
    ("write", 200),
    ("epoll_wait", 400),
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Victim {
    Supervisor,
    PlatformWorker,
    AgentWorker,
    Agent,
}

const ALL: [Victim; 4] =
    [Victim::Supervisor, Victim::PlatformWorker, Victim::AgentWorker, Victim::Agent];

/// A gateway and its agent.
pub(super) struct Side {
    pub(super) gateway: Gateway,
    own: PathBuf,
    log: PathBuf,
    agent: Child,
    /// One message of so many is answered. None: each.
    every: Option<usize>,
}

pub(super) struct Victims {
    side: Side,
    random: fastrand::Rng,
    order: [Victim; 4],
}

impl Victims {
    pub(super) fn new(gateway: Gateway, own: &Path, seed: u64) -> io::Result<Self> {
        let side = Side::new(gateway, own, None)?;
        Ok(Self { side, random: fastrand::Rng::with_seed(seed), order: ALL })
    }

    pub(super) fn side(&self) -> &Side {
        &self.side
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
                Victim::Supervisor => self.side.gateway.start_again()?,
                Victim::Agent => self.side.agent_again()?,
                Victim::PlatformWorker | Victim::AgentWorker => {}
            }
        }
        Ok(killed)
    }

    /// Has the supervisor and its workers killed at their n-th call of some sort, each by itself: at whatever
    /// step that is. How many were killed.
    pub(super) fn strike_at_call(&mut self) -> io::Result<u32> {
        let (step, calls) = *self.random.choice(STEPS.iter()).unwrap_or(&STEPS[0]);
        let when = self.random.u32(1..=calls);
        let words = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e"].map(str::to_owned);
        let inject = format!("inject={step}:signal=SIGKILL:when={when}");
        let mut before = words.to_vec();
        before.extend([format!("trace={step}"), "-e".into(), inject]);
        self.side.gateway.start_again_under(&before)?;
        let since = clock::now();
        let mut killed = 1;
        while !self.side.gateway.has_ended() {
            if clock::now().duration_since(since) > UNHURT {
                // The workers may have been, and were replaced.
                break;
            }
            clock::pause(Duration::from_millis(5));
        }
        killed += u32::from(self.side.gateway.has_ended());
        self.side.gateway.start_again()?;
        // What has died too often needs its operator.
        self.side.worker("feishu")?;
        self.side.worker("hermes")?;
        Ok(killed)
    }

    /// Has the supervisor or a worker die at a step of a message.
    pub(super) fn strike_at_step(&mut self, name: &str) -> io::Result<()> {
        let nth = self.random.u32(1..=SURVIVED);
        let plan = format!("{}={name}:{nth}", step::VARIABLE);
        self.side.gateway.start_again_under(&["env".to_owned(), plan])?;
        if name.starts_with("worker-") {
            let died = || {
                let instances = self.side.gateway.instances().ok()?;
                let exits = |one: &serde_json::Value| one["restarts"].as_u64();
                instances.iter().any(|one| exits(one) > Some(0)).then_some(())
            };
            clock::until(&format!("a worker dies at {name}"), PATIENCE, died)?;
        } else {
            let gateway = &mut self.side.gateway;
            let died = || gateway.has_ended().then_some(());
            clock::until(&format!("the supervisor dies at {name}"), PATIENCE, died)?;
        }
        self.side.gateway.start_again()?;
        self.side.worker("feishu")?;
        self.side.worker("hermes")?;
        Ok(())
    }

    fn pid(&self, victim: Victim) -> io::Result<u32> {
        match victim {
            Victim::Supervisor => Ok(self.side.gateway.pid()),
            Victim::Agent => Ok(self.side.agent.id()),
            Victim::PlatformWorker => self.side.worker("feishu"),
            Victim::AgentWorker => self.side.worker("hermes"),
        }
    }
}

impl Side {
    pub(super) fn new(gateway: Gateway, own: &Path, every: Option<usize>) -> io::Result<Self> {
        let log = gateway.dir().join("agent.log");
        File::create(&log)?;
        let agent = agent(own, &gateway, &log, every)?;
        Ok(Self { gateway, own: own.to_owned(), log, agent, every })
    }

    fn agent_again(&mut self) -> io::Result<()> {
        self.agent.wait()?;
        self.agent = agent(&self.own, &self.gateway, &self.log, self.every)?;
        Ok(())
    }

    /// The process of an instance, as soon as there is one that is a child of our supervisor. One that
    /// is given up, or will be started later only, because it died so often, gets an operator.
    pub(super) fn worker(&self, name: &str) -> io::Result<u32> {
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
    pub(super) fn is_at_rest(&self, platform: &str) -> bool {
        let Ok(instances) = self.gateway.instances() else { return false };
        instances.iter().filter(|one| one["name"] == platform).all(|one| {
            let store = &one["store"];
            store["waiting"] == 0 && store["replies"] == 0
        })
    }

    pub(super) fn agents_log(&self) -> io::Result<String> {
        fs::read_to_string(&self.log)
    }

    /// Keeps what is needed to find the fault.
    pub(super) fn keep(&self, offers: &str, record: &str) -> io::Result<()> {
        let kept = std::env::temp_dir().join(format!("gw-torture-{}", std::process::id()));
        fs::create_dir_all(&kept)?;
        fs::write(kept.join("agent.log"), offers)?;
        fs::write(kept.join("record.txt"), record)?;
        fs::copy(self.gateway.dir().join("log"), kept.join("gateway.log"))?;
        Ok(())
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

fn agent(own: &Path, gateway: &Gateway, log: &Path, every: Option<usize>) -> io::Result<Child> {
    let mut command = Command::new(own);
    command.arg(super::agent::ROLE).arg(gateway.agent_socket("hermes")).arg(log);
    command.arg(every.unwrap_or(1).to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn()
}

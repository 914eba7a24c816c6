//! Trouble, every second: a worker is killed, stopped, or made to spin, block or leak, while others go on
//! beside it and must not notice.
//!
//! The workers are the real ones; a preloaded library gives them handlers of signals in which they spin,
//! block, or take memory. Only root can preload it, in a mount namespace of its own. Two workers are never
//! touched and carry half of the load; one of the others carries the rest. How regular the signs of life of
//! the untouched are is told beside how late a plain thread wakes up in the same seconds.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::judge::{Record, Tally, judge};
use super::load::Load;
use super::victims::Side;
use super::{Platform, REST, rest};
use crate::bench::Ground;
use crate::bench::clock;
use crate::bench::fault;
use crate::bench::gateway::{Gateway, signal};

const CALM_APP: &str = "cli_calm";
const APP: &str = "cli_troubled";
const CALM: [&str; 2] = ["feishu", "hermes"];
const VICTIMS: [&str; 8] = ["second", "one", "two", "three", "four", "five", "six", "echo"];
const DEEDS: [(&str, Signal); 5] = [
    ("killed", Signal::KILL),
    ("stopped", Signal::STOP),
    ("made to spin", Signal::USR1),
    ("made to block", Signal::USR2),
    ("made to leak", Signal::PROF),
];
/// How often the gateway is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How often a worker gives a sign of life.
const HEARTBEAT_MS: i64 = 5000;
/// How often a thread of ours wakes up, for comparison.
const NOISE: Duration = Duration::from_millis(100);

/// So much of it.
#[derive(Clone, Copy, Debug)]
pub struct Trouble {
    /// Everything that is random follows from it.
    pub seed: u64,
    /// A strike a second.
    pub seconds: u64,
    /// Conversations at once.
    pub chats: usize,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// What became of the messages.
    pub tally: Tally,
    /// How often each deed was done, and how long it took until another worker was ready, in milliseconds.
    deeds: BTreeMap<&'static str, (u64, Vec<f64>)>,
    /// Workers that had been given up, or that were in trouble when all were: an operator restarted them.
    helped: u64,
    /// Looks at which the supervisor was another.
    supervisors: u64,
    /// Looks at which an untouched worker was another.
    disturbed: u64,
    /// Looks at which the untouched platform worker had another connection.
    reconnected: u64,
    /// How far the signs of life of the untouched were from their pace, in milliseconds.
    jitter: Vec<f64>,
    /// How late our own thread woke up, in milliseconds.
    noise: Vec<f64>,
}

/// A worker in trouble.
struct Struck {
    deed: &'static str,
    pid: u64,
    since: Instant,
}

struct Scene<'a> {
    side: Side,
    platform: &'a Platform,
    random: fastrand::Rng,
    struck: BTreeMap<&'static str, Struck>,
    /// Of the untouched: the process, and the last sign of life.
    calm: BTreeMap<&'static str, (Value, Option<i64>)>,
    connections: Vec<u64>,
    supervisor: u32,
    report: Report,
}

impl Trouble {
    /// Makes it.
    pub fn run(self, ground: &Ground, own: &Path) -> io::Result<Report> {
        let platform = Platform::start(&[CALM_APP, APP])?;
        let mut gateway = Gateway::start(ground, &config(&platform.feishu.base_url()))?;
        gateway.start_again_under(&preloading(&gateway)?)?;
        let side = Side::new(gateway, own, None)?;
        clock::until("all instances are ready", REST, || {
            let instances = side.gateway.instances().ok()?;
            instances.iter().all(|one| one["phase"] == "ready").then_some(())
        })?;
        let mut scene = Scene {
            supervisor: side.gateway.pid(),
            connections: platform.feishu.connections(CALM_APP),
            calm: calm(&side.gateway)?,
            side,
            platform: &platform,
            random: fastrand::Rng::with_seed(self.seed),
            struck: BTreeMap::new(),
            report: Report::default(),
        };
        let load = Arc::new(Load::new(platform.feishu.clone(), self.seed, &[CALM_APP, APP]));
        let conversations = load.start(&platform.runtime, self.chats);
        let over = Arc::new(AtomicBool::new(false));
        let noise = listen_to_noise(over.clone())?;
        let begun = clock::now();
        for second in 1..=self.seconds {
            scene.strike()?;
            while clock::now() < begun + Duration::from_secs(second) {
                clock::pause(LOOK);
                scene.look()?;
            }
        }
        over.store(true, Ordering::Relaxed);
        scene.report.noise = noise.join().unwrap_or_default();
        scene.settle()?;
        load.stop();
        for conversation in conversations {
            let _ = platform.runtime.block_on(conversation);
        }
        let names = ["feishu", "second"];
        let record = Record {
            chats: load.pushed(),
            repeated: load.repeated(),
            rested: rest(&scene.side, &platform.feishu, load.count(), &names),
            offers: scene.side.agents_log()?,
            sent: platform.feishu.sent(),
            violations: platform.feishu.violations().len() as u64,
            kills: u32::try_from(self.seconds).unwrap_or(u32::MAX),
        };
        // Nobody has looked while everything came to rest.
        for (_, beat) in scene.calm.values_mut() {
            *beat = None;
        }
        scene.look()?;
        let mut report = scene.report;
        report.tally = judge(&record);
        if !report.is_clean() {
            scene.side.keep(&record.offers, &format!("{record:#?}"))?;
        }
        Ok(report)
    }
}

impl Scene<'_> {
    /// One worker that is well gets into trouble. Where none is well, an operator helps one first.
    fn strike(&mut self) -> io::Result<()> {
        let instances = self.side.gateway.instances()?;
        let well: Vec<(&'static str, u64)> = VICTIMS
            .into_iter()
            .filter(|name| !self.struck.contains_key(name))
            .filter_map(|name| {
                let found = instances.iter().find(|one| one["name"] == name)?;
                (found["phase"] == "ready").then_some((name, found["pid"].as_u64()?))
            })
            .collect();
        let Some((name, pid)) = self.random.choice(well) else {
            let longest = self.struck.iter().min_by_key(|(_, struck)| struck.since);
            if let Some((name, _)) = longest {
                self.report.helped += 1;
                self.side.gateway.restart(name)?;
            }
            return Ok(());
        };
        let (deed, by) = *self.random.choice(DEEDS.iter()).unwrap_or(&DEEDS[0]);
        if let Ok(pid) = u32::try_from(pid)
            && signal(pid, by).is_ok()
        {
            self.report.deeds.entry(deed).or_default().0 += 1;
            self.struck.insert(name, Struck { deed, pid: pid.into(), since: clock::now() });
        }
        Ok(())
    }

    /// Who has come back, and who has noticed what he should not?
    fn look(&mut self) -> io::Result<()> {
        let status = self.side.gateway.status();
        let status = status.ok_or_else(|| fault("the supervisor does not answer"))?;
        self.report.supervisors +=
            u64::from(status.get("pid").and_then(Value::as_u64) != Some(self.supervisor.into()));
        let connections = self.platform.feishu.connections(CALM_APP);
        self.report.reconnected += u64::from(connections != self.connections);
        let instances = status.get("instances").and_then(Value::as_array);
        for one in instances.into_iter().flatten() {
            let name = one["name"].as_str().unwrap_or_default();
            if let Some((pid, beat)) = self.calm.get_mut(name) {
                self.report.disturbed += u64::from(one["pid"] != *pid);
                let next = one["last_heartbeat_ms"].as_i64();
                if next != *beat {
                    let since = beat.zip(next).map(|(former, next)| next - former);
                    // One that gets to work gives one more sign, beside its pace.
                    if let Some(since) = since.filter(|since| *since > HEARTBEAT_MS / 2) {
                        let off = (since - HEARTBEAT_MS).abs().unsigned_abs();
                        self.report.jitter.push(clock::ms(Duration::from_millis(off)));
                    }
                    *beat = next;
                }
            }
            let Some(struck) = self.struck.get(name) else { continue };
            let is_another = one["pid"].as_u64().is_some_and(|pid| pid != struck.pid);
            if one["phase"] == "ready" && is_another {
                let took = clock::ms_since(struck.since);
                self.report.deeds.entry(struck.deed).or_default().1.push(took);
                self.struck.remove(name);
            } else if one["phase"] == "held" || one["phase"] == "backoff" {
                // It has died too often, by our hand.
                self.report.helped += 1;
                self.side.gateway.restart(name)?;
            }
        }
        Ok(())
    }

    /// Waits until everybody is well.
    fn settle(&mut self) -> io::Result<()> {
        let end = clock::now() + REST;
        while !self.struck.is_empty() {
            if clock::now() > end {
                let left: Vec<_> = self.struck.keys().collect();
                return Err(fault(format!("these do not come back: {left:?}")));
            }
            clock::pause(LOOK);
            self.look()?;
        }
        Ok(())
    }
}

fn config(base_url: &str) -> String {
    let feishu = |name: &str, app: &str| {
        format!(
            "[platform.{name}]\nkind = \"feishu\"\napp_id = \"{app}\"\napp_secret_file = \"secret\"\n\
             access = {{ direct = \"open\" }}\nbase_url = \"{base_url}\"\nagent = \"hermes\"\n"
        )
    };
    let local = |name: &&str| format!("[platform.{name}]\nkind = \"local\"\nagent = \"echo\"\n");
    let locals: String = VICTIMS.iter().skip(1).take(6).map(local).collect();
    format!(
        "memory_mb = 64\n{}{}{locals}\
         [agent.hermes]\nkind = \"socket\"\nmax_attempts = 100\n[agent.echo]\n",
        feishu("feishu", CALM_APP),
        feishu("second", APP),
    )
}

/// What stands before a command so that its workers can get into trouble.
fn preloading(gateway: &Gateway) -> io::Result<Vec<String>> {
    let dir = gateway.dir();
    let (source, library, etc) = (dir.join("trouble.c"), dir.join("trouble.so"), dir.join("etc"));
    std::fs::write(&source, include_str!("trouble.c"))?;
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
    if !cc.status()?.success() {
        return Err(fault("the library cannot be built"));
    }
    let script = format!(
        "cp -a /etc {etc} && echo {library} > {etc}/ld.so.preload && mount --bind {etc} /etc \
         && exec \"$0\" \"$@\"",
        etc = etc.display(),
        library = library.display(),
    );
    let able = Command::new("unshare").args(["-m", "true"]).status();
    if !able.is_ok_and(|status| status.success()) {
        return Err(fault(
            "only root can get workers into trouble, in a mount namespace of its own",
        ));
    }
    Ok(["unshare", "-m", "sh", "-c", &script].map(str::to_owned).to_vec())
}

fn calm(gateway: &Gateway) -> io::Result<BTreeMap<&'static str, (Value, Option<i64>)>> {
    let instances = gateway.instances()?;
    let find = |name: &'static str| {
        let found = instances.iter().find(|one| one["name"] == name)?;
        Some((name, (found["pid"].clone(), None)))
    };
    Ok(CALM.into_iter().filter_map(find).collect())
}

/// How late a thread wakes up that does nothing else.
fn listen_to_noise(over: Arc<AtomicBool>) -> io::Result<std::thread::JoinHandle<Vec<f64>>> {
    std::thread::Builder::new().name("noise".into()).spawn(move || {
        let mut late = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let since = clock::now();
            clock::pause(NOISE);
            late.push(clock::ms_since(since) - clock::ms(NOISE));
        }
        late
    })
}

impl Report {
    /// Nobody noticed what he should not, and no message was lost, doubled or out of its order.
    pub fn is_clean(&self) -> bool {
        let Self { supervisors, disturbed, reconnected, .. } = self;
        self.tally.is_clean() && supervisors + disturbed + reconnected == 0
    }
}

/// The middle, the 99th of a hundred, and the last.
fn spread(samples: &[f64]) -> String {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |percent: usize| {
        sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
    };
    let at = |percent| at(percent).copied().unwrap_or_default();
    format!(
        "p50 {:.0} ms, p99 {:.0} ms, at most {:.0} ms (n = {})",
        at(50),
        at(99),
        at(100),
        sorted.len()
    )
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (deed, (times, back)) in &self.deeds {
            writeln!(f, "{deed:<14} {times:>4} times; another was ready after {}", spread(back))?;
        }
        writeln!(
            f,
            "an operator restarted what had died too often, or where all were in trouble: {} times",
            self.helped
        )?;
        writeln!(
            f,
            "signs of life of the untouched, off their pace of 5 s: {}",
            spread(&self.jitter)
        )?;
        writeln!(
            f,
            "a plain thread in the same seconds, late by:           {}",
            spread(&self.noise)
        )?;
        writeln!(f, "  {:<34} {}", "looks at another supervisor", self.supervisors)?;
        writeln!(f, "  {:<34} {}", "looks at an untouched one replaced", self.disturbed)?;
        writeln!(f, "  {:<34} {}", "looks at another connection of it", self.reconnected)?;
        write!(f, "{}", self.tally)
    }
}

//! What takes long: silence, sleep, a platform that shuts the door, and thousands of new connections. What
//! `gw-endurance` runs, with the real program and simulated platforms.
//!
//! Time is scaled where the platform sets the pace: told to send its pings every second, a worker lives
//! through thirty seconds of its usual day in each. Nothing is asserted about short times: figures are
//! printed; what must not happen at all decides how a scene ends.

mod closing;
mod reconnects;
mod silence;
mod sleep;

use std::fs;
use std::io;
use std::time::Duration;

use serde_json::Value;

use crate::bench::gateway::Gateway;
use crate::bench::{Ground, clock};
use crate::feishu::{ClientConfig, Feishu};
use crate::torture::Platform;

const APP: &str = "cli_endurance";
const PATIENCE: Duration = Duration::from_secs(120);
/// What a worker does of itself every 30 s it does every second.
const SCALE: u64 = 30;

/// A scene: what must not happen makes it end with false.
pub type Scene = fn(&Ground, Options) -> io::Result<bool>;

/// The scenes, by name.
pub const SCENES: [(&str, Scene); 4] = [
    ("silence", silence::run),
    ("sleep", sleep::run),
    ("closing", closing::run),
    ("reconnects", reconnects::run),
];

/// How long and how much.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Of silence, of sleep, of a closed door.
    pub seconds: u64,
    /// Connections made anew.
    pub times: u64,
}

/// A simulated Feishu that has its pings sent every second.
fn quick(feishu: &Feishu) {
    feishu.configure(|settings| {
        settings.client_config = ClientConfig { ping_interval: 1, ..ClientConfig::default() };
    });
}

/// One account and an echo, quick.
fn one_account(ground: &Ground) -> io::Result<(Platform, Gateway)> {
    let platform = Platform::start(&[APP])?;
    quick(&platform.feishu);
    let config =
        block("feishu", APP, &platform.feishu.base_url()) + "[platform.local]\n[agent.echo]\n";
    let gateway = Gateway::start(ground, &config)?;
    Ok((platform, gateway))
}

fn block(name: &str, app: &str, base_url: &str) -> String {
    format!(
        "[platform.{name}]\nkind = \"feishu\"\napp_id = \"{app}\"\napp_secret_file = \"secret\"\n\
         access = {{ direct = \"open\" }}\nbase_url = \"{base_url}\"\n"
    )
}

/// Process and generation of each worker: what is another after a restart.
fn workers(gateway: &Gateway) -> io::Result<Vec<(String, u64, u64)>> {
    let one = |one: &Value| {
        let name = one["name"].as_str()?.to_owned();
        Some((name, one["pid"].as_u64()?, one["generation"].as_u64()?))
    };
    Ok(gateway.instances()?.iter().filter_map(one).collect())
}

/// All of the gateway's processes.
fn processes(gateway: &Gateway) -> io::Result<Vec<u32>> {
    let pids = workers(gateway)?.into_iter().filter_map(|(_, pid, _)| u32::try_from(pid).ok());
    Ok(pids.chain([gateway.pid()]).collect())
}

/// Open descriptors of a process.
fn descriptors(pid: u32) -> io::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// Processor time that a process has used.
fn used(pid: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks = rest.split(' ').skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum::<u64>();
    Ok(Duration::from_millis(ticks * 10))
}

/// A message is pushed, and acknowledged: the connection is proven in both directions. When that was.
fn prove(platform: &Platform, app: &str) -> io::Result<f64> {
    let since = clock::now();
    let _within = platform.runtime.enter();
    let event = platform.feishu.push_text(app, "oc_proof", "ou_proof", "are you there?");
    clock::until("a message is acknowledged", PATIENCE, || event.is_acked().then_some(()))?;
    Ok(clock::ms_since(since) / 1e3)
}

fn say(line: &str) {
    use io::Write;
    // Whoever stops reading has stopped caring.
    let _ = writeln!(io::stdout().lock(), "{line}");
}

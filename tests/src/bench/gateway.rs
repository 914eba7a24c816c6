//! A gateway that is measured: the real program on a state directory of its own.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{Ground, LastWords, PATIENCE, clock, fault};

/// Lines of its log that are kept when a gateway ends.
const LAST_WORDS: usize = 20;

/// A running supervisor. It is killed with its value; when this process dies it leaves by itself,
/// because its leash ends.
pub(crate) struct Gateway {
    program: PathBuf,
    dir: PathBuf,
    sockets: PathBuf,
    child: Child,
    last_words: LastWords,
}

/// Resident memory in KiB: now; its part that is no file; the same with the process's share of what
/// others have as well (the program's pages, above all); and at most so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) now: u64,
    pub(crate) own: u64,
    /// Only root may ask that of a process that keeps secrets.
    pub(crate) share: Option<u64>,
    pub(crate) peak: u64,
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} KiB now, {} of it own", self.now, self.own)?;
        if let Some(share) = self.share {
            write!(f, ", {share} with its share of the rest")?;
        }
        write!(f, ", {} at most", self.peak)
    }
}

impl Gateway {
    /// Starts a supervisor with this configuration on an empty state directory. It may not answer yet.
    pub(crate) fn spawn(ground: &Ground, config: &str) -> io::Result<Self> {
        Self::spawn_with(ground, config, "secret")
    }

    fn spawn_with(ground: &Ground, config: &str, secret: &str) -> io::Result<Self> {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let name = MADE.fetch_add(1, Ordering::Relaxed).to_string();
        let (dir, sockets) = (ground.disk.make(&name)?, ground.sockets.make(&name)?);
        let head = format!("[gateway]\nruntime_dir = {:?}\n", sockets.display().to_string());
        fs::write(dir.join("config.toml"), head + config)?;
        fs::write(dir.join("secret"), format!("{secret}\n"))?;
        let program = ground.program.clone();
        let child = supervise(&program, &dir)?;
        ground.last_words();
        Ok(Self { program, dir, sockets, child, last_words: ground.last_words.clone() })
    }

    /// [`Gateway::spawn`], and waits until all of its instances are ready.
    pub(crate) fn start(ground: &Ground, config: &str) -> io::Result<Self> {
        let mut gateway = Self::spawn(ground, config)?;
        gateway.until_ready()?;
        Ok(gateway)
    }

    /// [`Gateway::start`], with this in the file of the secret.
    pub(crate) fn start_with(ground: &Ground, config: &str, secret: &str) -> io::Result<Self> {
        let mut gateway = Self::spawn_with(ground, config, secret)?;
        gateway.until_ready()?;
        Ok(gateway)
    }

    /// Kills the supervisor and starts another one on the same state.
    pub(crate) fn start_again(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.child = supervise(&self.program, &self.dir)?;
        Ok(())
    }

    /// [`Gateway::start_again`], with `before` in front of the command.
    pub(crate) fn start_again_under(&mut self, before: &[String]) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.child = supervise_under(before, &self.program, &self.dir)?;
        Ok(())
    }

    /// Whether the supervisor has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_some())
    }

    /// Where its state lies.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The supervisor's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The program with this gateway's configuration and state.
    pub(crate) fn command(&self) -> Command {
        command(&self.program, &self.dir)
    }

    /// The socket of an instance of kind `local`.
    pub(crate) fn chat_socket(&self, instance: &str) -> PathBuf {
        self.sockets.join(format!("chat-{instance}.sock"))
    }

    /// The socket of an agent endpoint of kind `socket`.
    pub(crate) fn agent_socket(&self, instance: &str) -> PathBuf {
        self.sockets.join(format!("agent-{instance}.sock"))
    }

    /// What the supervisor says of itself, if it answers.
    pub(crate) fn status(&self) -> Option<Value> {
        let mut line = String::new();
        self.ask("status").ok()?.read_line(&mut line).ok()?;
        serde_json::from_str::<Value>(&line).ok()?.get_mut("result").map(Value::take)
    }

    /// Its instances, as `status` shows them.
    pub(crate) fn instances(&self) -> io::Result<Vec<Value>> {
        let status = self.status().ok_or_else(|| fault("the supervisor does not answer"))?;
        Ok(status.get("instances").and_then(Value::as_array).cloned().unwrap_or_default())
    }

    /// The process of an instance.
    pub(crate) fn worker(&self, name: &str) -> io::Result<u32> {
        let instances = self.instances()?;
        let found = instances.iter().find(|instance| instance["name"] == name);
        let pid = found.and_then(|found| u32::try_from(found["pid"].as_u64()?).ok());
        pid.ok_or_else(|| fault(format!("{name} has no process")))
    }

    /// Events that wait in the store.
    pub(crate) fn waiting(&self) -> io::Result<u64> {
        let waiting = |one: &Value| one.pointer("/store/waiting").and_then(Value::as_u64);
        Ok(self.instances()?.iter().filter_map(waiting).sum())
    }

    /// Waits until all of its instances are ready.
    pub(crate) fn until_ready(&mut self) -> io::Result<()> {
        clock::until("all instances are ready", PATIENCE, || {
            if self.has_ended() {
                return Some(Err(fault("the supervisor ended instead of serving")));
            }
            let instances = self.instances().ok()?;
            instances.iter().all(|instance| instance["phase"] == "ready").then_some(Ok(()))
        })?
    }

    /// The end of its log.
    fn tail(&self) -> String {
        let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines.get(lines.len().saturating_sub(LAST_WORDS)..).unwrap_or_default().join("\n")
    }

    /// A new worker at once, whatever became of the former ones.
    pub(crate) fn restart(&self, instance: &str) -> io::Result<()> {
        let params = json!({ "instances": [instance], "force": true, "wait_ms": 0 });
        let mut answer = String::new();
        self.request(&json!({ "method": "restart", "params": params }))?.read_line(&mut answer)?;
        Ok(())
    }

    /// What changes from now on.
    pub(crate) fn events(&self) -> io::Result<Events> {
        let mut events = Events(self.ask("events")?);
        events.wait(|event| event["event"] == "subscribed")?;
        Ok(events)
    }

    fn ask(&self, method: &str) -> io::Result<BufReader<UnixStream>> {
        self.request(&json!({ "id": 1, "method": method }))
    }

    fn request(&self, request: &Value) -> io::Result<BufReader<UnixStream>> {
        let mut stream = UnixStream::connect(self.sockets.join("gw.sock"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("{request}\n").as_bytes())?;
        Ok(BufReader::new(stream))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        *self.last_words.lock().unwrap_or_else(PoisonError::into_inner) = self.tail();
        let _ = fs::remove_dir_all(&self.dir);
        let _ = fs::remove_dir_all(&self.sockets);
    }
}

fn supervise(program: &Path, dir: &Path) -> io::Result<Child> {
    supervise_under(&[], program, dir)
}

fn supervise_under(before: &[String], program: &Path, dir: &Path) -> io::Result<Child> {
    let log = File::options().create(true).append(true).open(dir.join("log"))?;
    let own = command(program, dir);
    let mut words = before.iter().map(OsString::from).chain([own.get_program().to_owned()]);
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).args(own.get_args());
    command.args(["supervise", "--leash"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn()
}

fn command(program: &Path, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("--config").arg(dir.join("config.toml"));
    command.arg("--state-dir").arg(dir.join("state"));
    command
}

/// Notices of a supervisor.
pub(crate) struct Events(BufReader<UnixStream>);

impl Events {
    /// The next one that is wanted.
    pub(crate) fn wait(&mut self, is: impl Fn(&Value) -> bool) -> io::Result<Value> {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line)? == 0 {
                return Err(fault("the supervisor is gone"));
            }
            let event = serde_json::from_str(&line)?;
            if is(&event) {
                return Ok(event);
            }
        }
    }
}

/// Sends a signal to a process that this program started, directly or not.
pub(crate) fn signal(pid: u32, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| fault("no process has this number"))?;
    Ok(kill_process(pid, signal)?)
}

/// Whether a process exists and is no zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// The memory of a process.
pub(crate) fn memory(pid: u32) -> io::Result<Memory> {
    let told = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
    let of = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok())
    };
    let status = told("status")?;
    let must = |name: &str| {
        of(&status, name).ok_or_else(|| fault(format!("process {pid} shows no {name}")))
    };
    let share = told("smaps_rollup").ok().and_then(|rollup| of(&rollup, "Pss:"));
    Ok(Memory { now: must("VmRSS:")?, own: must("RssAnon:")?, share, peak: must("VmHWM:")? })
}

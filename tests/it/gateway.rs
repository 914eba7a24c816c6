//! A gateway under test: the real program on a state directory of its own, which ends with the test.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// Far longer than anything takes on a slow machine; short enough that a hang is noticed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_hermes-gw");

/// A state directory and the supervisors that run on it.
pub(crate) struct Gateway {
    dir: TempDir,
    supervisor: Option<Child>,
}

impl Gateway {
    /// A state directory with this configuration, `{dir}` in which stands for the directory.
    pub(crate) fn new(config: &str) -> Self {
        // Sockets have short paths.
        let dir = tempfile::Builder::new().prefix("gw").tempdir().unwrap();
        let config = config.replace("{dir}", dir.path().to_str().unwrap());
        std::fs::write(dir.path().join("config.toml"), config).unwrap();
        Self { dir, supervisor: None }
    }

    /// [`Gateway::new`] and [`Gateway::start`].
    pub(crate) fn running(config: &str) -> Self {
        let mut gateway = Self::new(config);
        gateway.start();
        gateway
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path("s")
    }

    /// The program with this gateway's configuration and state.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(["--config".as_ref(), self.path("config.toml").as_os_str()]);
        command.args(["--state-dir".as_ref(), self.state().as_os_str()]);
        command
    }

    /// A command, run to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command().args(args).stdin(Stdio::null()).output().unwrap()
    }

    /// Starts a supervisor and waits until its socket answers.
    pub(crate) fn start(&mut self) {
        self.start_as(self.command());
    }

    /// Starts a supervisor as another user, who may not enter the directory of the build. Wants root.
    pub(crate) fn start_as_user(&mut self, user: u32) {
        let open = Permissions::from_mode(0o777);
        std::fs::set_permissions(self.path(""), open.clone()).unwrap();
        let program = self.path("hermes-gw");
        std::fs::copy(PROGRAM, &program).unwrap();
        std::fs::set_permissions(&program, open).unwrap();
        let mut command = Command::new(&program);
        command.args(self.command().get_args()).uid(user).gid(user);
        self.start_as(command);
    }

    /// Starts a supervisor as `command` does, which has everything but `supervise`.
    pub(crate) fn start_as(&mut self, mut command: Command) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("log"));
        let child = command
            .args(["supervise"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.unwrap())
            .spawn()
            .unwrap();
        self.supervisor = Some(child);
        self.until("the supervisor answers", || self.status().map(drop));
    }

    pub(crate) fn pid(&self) -> u32 {
        self.supervisor.as_ref().unwrap().id()
    }

    /// Kills the supervisor as the kernel would when memory is short.
    pub(crate) fn kill_supervisor(&mut self) {
        let mut child = self.supervisor.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits until the supervisor has left, and tells its exit code.
    pub(crate) fn left(&mut self) -> Option<i32> {
        self.supervisor.take().unwrap().wait().unwrap().code()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.state().join("gw.sock")
    }

    /// One request over the control socket, answered.
    pub(crate) fn ask(&self, line: &str) -> Option<Value> {
        let mut stream = UnixStream::connect(self.socket()).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(format!("{line}\n").as_bytes()).ok()?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).ok()?;
        serde_json::from_str(&answer).ok()
    }

    pub(crate) fn status(&self) -> Option<Value> {
        let answer = self.ask(r#"{"id":1,"method":"status"}"#)?;
        answer.get("result").cloned()
    }

    /// What `status` says of one instance.
    pub(crate) fn instance(&self, name: &str) -> Value {
        let status = self.status().expect("a supervisor answers");
        let instances = status["instances"].as_array().unwrap().clone();
        instances.into_iter().find(|i| i["name"] == name).expect("it is configured")
    }

    /// Waits until an instance's status is as wanted.
    pub(crate) fn wait(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        self.until(&format!("{name}: {what}"), || {
            let status = self.status()?;
            let mut instances = status["instances"].as_array()?.iter();
            instances.find(|i| i["name"] == name && is(i)).cloned()
        })
    }

    pub(crate) fn wait_ready(&self, name: &str) -> Value {
        self.wait(name, "ready", |i| i["phase"] == "ready" && i["connected"] == true)
    }

    /// Asks again and again, with a pause, until there is an answer.
    pub(crate) fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let (_keep, pause) = std::sync::mpsc::channel::<()>();
        for _ in 0..PATIENCE.as_millis() / 10 {
            if let Some(found) = look() {
                return found;
            }
            let _ = pause.recv_timeout(Duration::from_millis(10));
        }
        panic!("waited for: {what}\n{}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// What changes from now on.
    pub(crate) fn events(&self) -> Events {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"{\"id\":1,\"method\":\"events\"}\n").unwrap();
        let mut events = Events(BufReader::new(stream));
        events.wait(|event| event["event"] == "subscribed");
        events
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let status = serde_json::to_string_pretty(&self.status()).unwrap();
            eprintln!("--- status of the gateway\n{status}\n--- its log\n{}", self.log());
        }
        if let Some(mut child) = self.supervisor.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Notices of a supervisor.
pub(crate) struct Events(BufReader<UnixStream>);

impl Events {
    /// The next one that is wanted.
    pub(crate) fn wait(&mut self, is: impl Fn(&Value) -> bool) -> Value {
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the supervisor is gone");
            let event = serde_json::from_str(&line).unwrap();
            if is(&event) {
                return event;
            }
        }
    }
}

/// Sends a signal to a process that this test started, directly or not.
pub(crate) fn signal(pid: u64, signal: &str) {
    let status = Command::new("kill").args([format!("-{signal}"), pid.to_string()]).status();
    assert!(status.unwrap().success(), "no process {pid}");
}

/// Whether a process exists and is no zombie.
pub(crate) fn is_alive(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

//! Talking to the service manager that started us: `sd_notify(3)`, a few words on a datagram socket.
//!
//! Everything is said by the event loop itself, above all that it is alive: a thread or a timer beside
//! it would go on saying so for a loop that hangs. Where no manager listens, nothing is said, and a
//! manager that does not read is not waited for.

use std::io::Read;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// The manager's ear.
#[derive(Debug)]
pub struct Manager {
    socket: Option<UnixDatagram>,
    /// How often to say that we are alive.
    every: Option<Duration>,
    next: Option<Instant>,
    status: String,
    stop_limit: Arc<OnceLock<Duration>>,
}

/// Whether systemd started this very process: its children inherit the other variables.
pub fn is_systemd() -> bool {
    let pid = std::env::var("SYSTEMD_EXEC_PID").ok().and_then(|pid| pid.parse().ok());
    pid == Some(std::process::id())
}

impl Manager {
    /// The one that the environment names.
    pub fn from_environment(now: Instant) -> Self {
        let socket = std::env::var("NOTIFY_SOCKET").ok().and_then(|name| dial(&name).ok());
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let limit = number("WATCHDOG_USEC").filter(|usec| ours && *usec > 0);
        // Twice as often as needed, as sd_watchdog_enabled(3) advises.
        let every = limit.map(|usec| Duration::from_micros(usec) / 2).filter(|_| socket.is_some());
        let stop_limit = Arc::new(OnceLock::new());
        if socket.is_some() && is_systemd() {
            let found = Arc::clone(&stop_limit);
            let ask = move || {
                if let Some(limit) = ask_stop_limit() {
                    tracing::debug!(limit_s = limit.as_secs(), "the service manager's stop limit");
                    let _ = found.set(limit);
                }
            };
            // Without an answer the configured time is kept; nobody waits for it.
            let _ = std::thread::Builder::new().name("stop limit".into()).spawn(ask);
        }
        Self { socket, every, next: every.map(|_| now), status: String::new(), stop_limit }
    }

    /// How long the manager lets a stop take, as far as it has told.
    pub fn stop_limit(&self) -> Option<Duration> {
        self.stop_limit.get().copied()
    }

    /// We serve.
    pub fn ready(&self) {
        self.say("READY=1");
    }

    /// The configuration is read anew; [`Manager::ready`] follows.
    pub fn reloading(&self, monotonic_usec: u64) {
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={monotonic_usec}"));
    }

    /// We are on our way out.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// What is under way takes up to `time` from now.
    pub fn extend(&self, time: Duration) {
        self.say(&format!("EXTEND_TIMEOUT_USEC={}", time.as_micros()));
    }

    /// How we are, in one line, if that has changed.
    pub fn status(&mut self, text: &str) {
        if self.status != text {
            text.clone_into(&mut self.status);
            self.say(&format!("STATUS={}", text.replace('\n', "; ")));
        }
    }

    /// The loop turns, and `gets_on` with its work or not: to be told again at [`Manager::deadline`].
    pub fn turns(&mut self, gets_on: bool, now: Instant) {
        if self.next.is_some_and(|next| next <= now) {
            self.next = self.every.map(|every| now + every);
            if gets_on {
                self.say("WATCHDOG=1");
            }
        }
    }

    /// When to say next whether we are alive.
    pub fn deadline(&self) -> Option<Instant> {
        self.next
    }

    fn say(&self, text: &str) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(text.as_bytes());
        }
    }
}

/// `@` stands for an abstract name.
fn dial(name: &str) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match name.strip_prefix('@') {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(name)?,
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Asks `systemctl` for the `TimeoutStopSec` that applies to us. The environment does not tell it.
fn ask_stop_limit() -> Option<Duration> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let (unit, user) = unit_of(&groups)?;
    let mut command = Command::new("systemctl");
    command.args(user.then_some("--user"));
    command.args(["show", "--property=TimeoutStopUSec", "--value", "--", &unit]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let mut text = String::new();
    // Its end is collected with that of any other child.
    child.stdout.take()?.read_to_string(&mut text).ok()?;
    span(text.trim())
}

/// The service that a process is part of, and whether it is one of a user's manager.
fn unit_of(groups: &str) -> Option<(String, bool)> {
    let of_systemd = |line: &&str| line.starts_with("0::") || line.contains(":name=systemd:");
    let mut paths = groups.lines().filter(of_systemd).filter_map(|line| line.splitn(3, ':').nth(2));
    paths.find_map(|path| {
        let unit = path.split('/').rfind(|part| part.ends_with(".service"))?;
        let user = path.contains("/user@") && !unit.starts_with("user@");
        Some((unit.to_owned(), user))
    })
}

/// The user with whose last session we end, since his manager started us and he does not linger (`loginctl(1)`).
pub fn ends_at_logout() -> Option<String> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok().filter(|_| is_systemd())?;
    let user = std::env::var("USER").ok()?;
    ends_with(&groups, &user, Path::new("/var/lib/systemd/linger")).then_some(user)
}

fn ends_with(groups: &str, user: &str, lingering: &Path) -> bool {
    unit_of(groups).is_some_and(|(_, of_user)| of_user) && !lingering.join(user).exists()
}

/// A time as systemd prints it, `1min 30s` or `500ms`. `infinity` is none.
fn span(text: &str) -> Option<Duration> {
    let mut sum = Duration::ZERO;
    for word in text.split_whitespace() {
        let digits = word.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = word.split_at(digits);
        let number: f64 = number.parse().ok()?;
        let seconds = match unit {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            _ => return None,
        };
        sum += Duration::try_from_secs_f64(number * seconds).ok()?;
    }
    (!text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_read_as_systemd_prints_it() {
        assert_eq!(span("1min 30s"), Some(Duration::from_secs(90)));
        assert_eq!(span("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(span("5.500s"), Some(Duration::from_millis(5500)));
        for text in ["infinity", "", "soon", "10"] {
            assert_eq!(span(text), None, "{text}");
        }
    }

    #[test]
    fn the_unit_is_found_in_the_list_of_groups() {
        let system =
            "12:pids:/x\n1:name=systemd:/system.slice/gw.service\n0::/system.slice/gw.service\n";
        assert_eq!(unit_of(system), Some(("gw.service".into(), false)));
        let user = "0::/user.slice/user-1.slice/user@1.service/app.slice/gw.service\n";
        assert_eq!(unit_of(user), Some(("gw.service".into(), true)));
        assert_eq!(unit_of("0::/user.slice/session-2.scope\n"), None);
        let below = "0::/system.slice/gw.service/worker-local-1\n";
        assert_eq!(unit_of(below), Some(("gw.service".into(), false)));
    }

    /// F90
    #[test]
    fn a_service_of_a_user_ends_with_his_last_session_unless_he_lingers() {
        let lingering = tempfile::tempdir().unwrap();
        let of_user = "0::/user.slice/user-1.slice/user@1.service/app.slice/gw.service\n";
        assert!(ends_with(of_user, "ann", lingering.path()));
        assert!(!ends_with("0::/system.slice/gw.service\n", "ann", lingering.path()));
        std::fs::write(lingering.path().join("ann"), "").unwrap();
        assert!(!ends_with(of_user, "ann", lingering.path()));
        assert!(ends_with(of_user, "bob", lingering.path()));
        let unit = include_str!("../assets/hermes-gw.user.service");
        assert!(unit.contains("&& loginctl enable-linger"), "who installs it is told so, too");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an arbitrary instant to count from")]
    fn it_says_what_changes_and_that_it_is_alive() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let ear = UnixDatagram::bind(&path).unwrap();
        let now = Instant::now();
        let every = Duration::from_secs(5);
        let socket = Some(dial(path.to_str().unwrap()).unwrap());
        let (status, stop_limit) = (String::new(), Arc::default());
        let mut manager =
            Manager { socket, every: Some(every), next: Some(now), status, stop_limit };
        manager.ready();
        manager.status("serving");
        manager.status("serving");
        manager.turns(true, now);
        manager.turns(true, now + every / 2);
        manager.turns(true, now + every);
        assert_eq!(manager.deadline(), Some(now + 2 * every));
        manager.turns(false, now + 2 * every);
        assert_eq!(manager.deadline(), Some(now + 3 * every), "nothing is due meanwhile");
        manager.stopping();
        let mut heard = Vec::new();
        let mut buffer = [0; 256];
        ear.set_nonblocking(true).unwrap();
        while let Ok(n) = ear.recv(&mut buffer) {
            heard.push(String::from_utf8(buffer[..n].to_vec()).unwrap());
        }
        assert_eq!(heard, ["READY=1", "STATUS=serving", "WATCHDOG=1", "WATCHDOG=1", "STOPPING=1"]);
    }

    #[test]
    fn a_manager_that_does_not_read_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let _ear = UnixDatagram::bind(&path).unwrap();
        let socket = dial(path.to_str().unwrap()).unwrap();
        while socket.send(b"WATCHDOG=1").is_ok() {}
    }
}

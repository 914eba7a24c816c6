//! The commands, a file each, and what they share.

mod agent_test;
mod chat;
mod check;
mod ctl;
mod doctor;
mod force;
pub(crate) mod hooks;
mod init;
mod manual;
mod service;
mod supervise;
mod trial;
mod upgrade;

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use protocol::control::{Refusal, SCHEMA};
use protocol::hello::BuildId;
use protocol::secret;
use supervisor::config::{Config, System};
use supervisor::paths::{Environment, Paths, SYSTEM_RUNTIME, SYSTEM_STATE};
use supervisor::process::limits;
use supervisor::{Error, lock};
use tracing::level_filters::LevelFilter;
use worker::stderr;

use crate::args::{Cli, Color, Command, Common};

/// Runs what the command line asks for.
pub(crate) fn run(cli: Cli) -> Result<(), Error> {
    let Cli { mut common, command } = cli;
    // What is told to others must mean the same wherever they stand.
    for path in [&mut common.config, &mut common.state_dir].into_iter().flatten() {
        if let Ok(absolute) = std::path::absolute(&path) {
            *path = absolute;
        }
    }
    let done = perform(&common, command);
    if let (Err(e), true) = (&done, common.json && !HAS_TOLD.load(Ordering::Relaxed)) {
        tell_refusal(e.refusal());
    }
    let unwritten = UNWRITTEN.lock().ok().and_then(|mut unwritten| unwritten.take());
    done.and(unwritten.map_or(Ok(()), Err))
}

/// Tells programs that a command failed, in one line: it may be the last of many.
pub(crate) fn tell_refusal(error: Refusal) {
    if let Ok(text) = serde_json::to_string(&Failed { schema: SCHEMA, error: cleaned(error) }) {
        print(&text);
    }
}

fn cleaned(error: Refusal) -> Refusal {
    Refusal { message: secret::cleaned(error.message), ..error }
}

/// One object is printed, and no second one when what it tells of is a failure.
static HAS_TOLD: AtomicBool = AtomicBool::new(false);

/// Data that was to be printed, and why it was not.
static UNWRITTEN: Mutex<Option<Error>> = Mutex::new(None);

/// A command that failed, for programs.
#[derive(serde::Serialize)]
struct Failed {
    schema: u32,
    error: Refusal,
}

/// What a command has to tell, and why it failed, for programs.
#[derive(serde::Serialize)]
struct Told<'a, T> {
    #[serde(flatten)]
    data: &'a T,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Refusal>,
}

fn perform(common: &Common, command: Command) -> Result<(), Error> {
    match command {
        Command::Supervise(options) => supervise::run(common, options),
        Command::Try(chat) => trial::run(common, &chat),
        Command::Chat(chat) => chat::run(common, &chat),
        Command::Check => check::run(common),
        Command::Doctor => doctor::run(common),
        Command::Init { from_hermes } => init::run(common, from_hermes.as_deref()),
        Command::AgentTest { command } => agent_test::run(&command),
        Command::Hooks(what) => hooks::run(common, &what),
        Command::Service(what) => service::run(common, &what),
        Command::Ctl(ctl) => ctl::run(common, ctl),
        Command::Completions { shell } => {
            manual::completions(shell);
            Ok(())
        }
        Command::Man => manual::page(),
        Command::UpgradeCheck => {
            upgrade::check(common);
            Ok(())
        }
        Command::Worker { .. } => Ok(worker::run(build(), init_log)?),
    }
}

/// Names this build in the preamble of a link.
fn build() -> BuildId {
    let mut id = [0; 16];
    for (to, from) in id.iter_mut().zip(env!("CARGO_PKG_VERSION").bytes()) {
        *to = from;
    }
    BuildId(id)
}

/// Logs to standard error, which is where a service manager listens.
fn init_log(level: &str) {
    let level = level.parse().unwrap_or(LevelFilter::INFO);
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(|| Clean)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        // A log that cannot be written is no reason to end.
        .log_internal_errors(false)
        .finish();
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Standard error, without secrets. A line of the log comes in one piece.
struct Clean;

impl Write for Clean {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        stderr::write(secret::clean(&text).as_bytes());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What a bug says before it ends us is for people, too.
pub(crate) fn hide_in_panics() {
    std::panic::set_hook(Box::new(|panic| complain(&last_words(panic))));
}

/// What a bug says, cleaned here and not only where it is printed.
fn last_words(panic: &std::panic::PanicHookInfo<'_>) -> String {
    let backtrace = std::backtrace::Backtrace::capture();
    let mut text = panic.to_string();
    if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
        text.push_str(&format!("\n{backtrace}"));
    }
    secret::cleaned(text)
}

/// The level that the flags ask for, if they do.
fn level(common: &Common) -> Option<&'static str> {
    match (common.quiet, common.verbose) {
        (true, _) => Some("error"),
        (false, 0) => None,
        (false, 1) => Some("debug"),
        (false, _) => Some("trace"),
    }
}

fn environment() -> Environment {
    Environment::from(|name| std::env::var_os(name))
}

fn load(common: &Common) -> Result<Config, Error> {
    Config::load(common.config.as_deref(), &environment(), &System)
}

/// Where the files of a gateway with this configuration are.
fn paths(common: &Common, config: Option<&Config>) -> Result<Paths, Error> {
    let configured = config.and_then(|config| config.state_dir.as_deref());
    let runtime = config.and_then(|config| config.runtime_dir.as_deref());
    Paths::choose(common.state_dir.as_deref(), configured, runtime, &environment())
}

/// Where a running supervisor's files are. A configuration that cannot be read must not keep anybody
/// from asking: then only flags and environment count.
fn locate(common: &Common) -> Result<Paths, Error> {
    let config = match (load(common), &common.state_dir) {
        (Ok(config), _) => Some(config),
        (Err(_), Some(_)) => None,
        (Err(e), None) => return Err(Error::Unlocated(Box::new(e))),
    };
    let mut paths = paths(common, config.as_ref())?;
    let is_default = common.state_dir.is_none()
        && environment().xdg_state.is_none()
        && config.is_none_or(|config| config.state_dir.is_none() && config.runtime_dir.is_none());
    // A service of the system keeps its state where no variable of a shell leads.
    if is_default && matches!(paths.lock().try_exists(), Ok(false)) {
        let system = Paths { state_dir: SYSTEM_STATE.into(), runtime_dir: SYSTEM_STATE.into() };
        match system.lock().try_exists() {
            Ok(true) => paths = system,
            Err(e) if Path::new(SYSTEM_RUNTIME).symlink_metadata().is_ok() => {
                return Err(Error::foreign(format!(
                    "ask the service of the system: {SYSTEM_STATE}: {e}"
                )));
            }
            _ => {}
        }
    }
    // Whoever holds the lock says where its socket is: it may have been told by a service manager.
    let socket = lock::serving(&paths.lock()).map(|holder| holder.socket);
    if let Some(dir) = socket.as_deref().and_then(Path::parent) {
        dir.clone_into(&mut paths.runtime_dir);
    }
    Ok(paths)
}

fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    // The library panics where it cannot have what it needs.
    limits::suffice_for_a_tool()
        .map_err(|source| Error::Os { what: "start the event loop", source })?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Os { what: "start the event loop", source })
}

/// Prints data. A reader that went away has had enough; any other failure is told at the end.
fn print(text: &str) {
    if let Err(e) = printed(text)
        && !e.is_silent()
        && let Ok(mut unwritten) = UNWRITTEN.lock()
    {
        unwritten.get_or_insert(e);
    }
}

/// Prints data, where nothing else is to be done once nobody can read it.
fn printed(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n"));
    written.and_then(|()| out.flush()).map_err(|source| Error::Output { source })
}

/// What others wrote, as standard output may have it: a terminal takes no commands from them, a pipe gets all.
fn shown(text: String) -> String {
    if std::io::stdout().is_terminal() { supervisor::text::harmless(&text) } else { text }
}

/// Prints talk.
pub(crate) fn complain(text: &str) {
    stderr::write(format!("{}\n", secret::clean(text)).as_bytes());
}

fn print_json<T: serde::Serialize>(value: &T) {
    if let Ok(text) = serde_json::to_string_pretty(value) {
        HAS_TOLD.store(true, Ordering::Relaxed);
        print(&text);
    }
}

/// Prints data of a command that may have failed.
fn print_json_of<T: serde::Serialize>(data: &T, failed: Option<&Error>) {
    print_json(&Told { data, error: failed.map(|e| cleaned(e.refusal())) });
}

/// Whether to colour what goes to standard output.
fn colored(common: &Common) -> bool {
    match common.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            std::io::stdout().is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_bug_tells_no_secret() {
        let secret = secret::Secret::new("not-even-in-a-panic");
        let said = Arc::new(Mutex::new(String::new()));
        let hear = Arc::clone(&said);
        std::panic::set_hook(Box::new(move |panic| {
            hear.lock().unwrap().push_str(&last_words(panic));
        }));
        let ended = std::panic::catch_unwind(|| panic!("the key was {}", secret.expose()));
        let _ = std::panic::take_hook();
        assert!(ended.is_err());
        let said = said.lock().unwrap();
        assert!(said.contains("the key was ***") && !said.contains("not-even"), "{said}");
    }
}

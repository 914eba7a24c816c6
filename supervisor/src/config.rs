//! The configuration: one TOML file, read once, checked to the last key.
//!
//! A file that cannot be read as a whole stops the supervisor. A block that is wrong is the trouble of
//! its own instance only: that instance is held with the reason, its siblings serve.

mod agent;
mod block;
mod file;
mod hooks;
mod instance;
mod keys;
mod manners;
mod network;
mod platform;
mod routing;

use std::collections::BTreeSet;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::id::Instance;
use protocol::worker::{Network, Secret};

pub use self::agent::{AgentKind, AgentSettings};
use self::block::{Block, Place};
pub use self::hooks::Hooks;
pub use self::instance::{
    Body, ExecPlatform, Inbox, Kind, PlatformKind, PlatformSettings, Spec, Trouble,
};
pub use self::manners::Manners;
use crate::error::Error;
use crate::exit::Code;
use crate::paths::Environment;
use crate::policy::commands::Commands;
use crate::policy::routes;

/// The configuration that applies if there is no file.
pub const DEFAULT: &str = "[platform.local]\n\n[agent.echo]\n";
/// Within what container managers grant by default, which is ten seconds.
const STOP_S: u32 = 8;
/// A hundred times what an idle worker uses.
const MEMORY_MB: u32 = 512;
/// How much is said.
const LOG: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
const FILE_MIB: u32 = 100;
const FILES_MIB: u32 = 2048;
const FILES_HOURS: u32 = 72;
/// A file with every key, its default and its meaning.
pub const REFERENCE: &str = include_str!("../assets/config.toml");

/// A checked configuration.
#[derive(Debug)]
pub struct Config {
    /// The file; `None`: the built-in default.
    pub source: Option<PathBuf>,
    /// `gateway.state_dir`.
    pub state_dir: Option<PathBuf>,
    /// `gateway.runtime_dir`.
    pub runtime_dir: Option<PathBuf>,
    /// `gateway.log`.
    pub log: String,
    /// `gateway.stop_s`.
    pub stop: Duration,
    /// `gateway.memory_mb`, in bytes.
    pub memory: u64,
    /// `[files]`.
    pub files: Files,
    /// `[commands]`.
    pub commands: Commands,
    /// Platforms and agents, in the order of their names.
    pub instances: Vec<Spec>,
    /// What is no error, and surely not meant.
    pub warnings: Vec<String>,
}

/// What may lie in the exchange directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Files {
    /// The largest file, in bytes.
    pub max_bytes: u64,
    /// All of them together: then the oldest go.
    pub total_bytes: u64,
    /// How long each stays.
    pub keep: Duration,
}

/// What the file refers to: other files and the environment.
pub trait Surroundings {
    /// The content of a file without blanks and line ends around it, or why not. `what` is in it.
    fn file(&self, what: &str, path: &Path) -> Result<String, String>;
    /// The value of an environment variable, or why not.
    fn variable(&self, name: &str) -> Result<Secret, String>;
    /// The directory that a configuration lies in. `None`: it comes out of a pipe, which lies in none.
    fn directory(&self, config: &Path) -> Option<PathBuf>;
    /// What `~` means.
    fn home(&self) -> Option<PathBuf>;
    /// What `$CREDENTIALS_DIRECTORY` means.
    fn credentials(&self) -> Option<PathBuf>;
}

impl Config {
    /// Reads the file that `named` or the environment names, or the first candidate, or the built-in
    /// default.
    pub fn load(
        named: Option<&Path>,
        environment: &Environment,
        secrets: &dyn Surroundings,
    ) -> Result<Self, Error> {
        if let Some(path) = named.or(environment.config.as_deref()) {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            return Self::read(&path, secrets);
        }
        for candidate in environment.config_candidates() {
            match Self::read(&candidate, secrets) {
                Err(Error::ConfigMissing { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound => {}
                found => return found,
            }
        }
        Self::parse(DEFAULT, None, secrets)
    }

    fn read(path: &Path, secrets: &dyn Surroundings) -> Result<Self, Error> {
        let path = path.to_owned();
        let wrong = |message: String| Error::Config { path: path.clone(), message };
        let bytes = match file::config(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::FileTooLarge => {
                return Err(wrong(e.to_string()));
            }
            Err(source) => return Err(Error::ConfigMissing { path, source }),
        };
        let text = String::from_utf8(bytes).map_err(|e| {
            let at = e.utf8_error().valid_up_to();
            wrong(format!("it is no text in UTF-8 (byte {}): save it as such", at + 1))
        })?;
        let config = Self::parse(&text, Some(&path), secrets)?;
        if config.instances.is_empty() {
            let why = "it has no [platform.…] and no [agent.…], so there is nothing to serve; without any \
                       file the built-in default is used";
            return Err(wrong(why.into()));
        }
        Ok(config)
    }

    /// Checks `text`, which stands in `source`.
    pub fn parse(
        text: &str,
        source: Option<&Path>,
        secrets: &dyn Surroundings,
    ) -> Result<Self, Error> {
        let path = || source.unwrap_or(Path::new("(built in)")).to_owned();
        let wrong = |message: String| Error::Config { path: path(), message };
        let table: toml::Table =
            text.parse().map_err(|e: toml::de::Error| wrong(place_of(text, &e)))?;
        let dir = source.map_or_else(|| Some(".".into()), |source| secrets.directory(source));
        let place = Place { dir, home: secrets.home(), credentials: secrets.credentials() };
        let mut top = Block::new("", table);
        let mut gateway = top.table("gateway");
        let (state_dir, runtime_dir) =
            (gateway.path("state_dir", &place), gateway.path("runtime_dir", &place));
        let log = gateway.choice("log", &LOG.map(|word| (word, word))).unwrap_or("info").to_owned();
        let stop = gateway.number("stop_s", 2..=3600).unwrap_or(STOP_S);
        let memory = gateway.number("memory_mb", 1..=1_048_576).unwrap_or(MEMORY_MB);
        let network = network::network(&mut gateway, &place, secrets, &Network::default());
        // A file that is missing is no reason to reach the outside another way than was wanted.
        let network = network.map_err(|missing| Error::ConfigNeeds {
            path: path(),
            message: format!("[gateway] {}", missing.reason),
        })?;
        let mut files = top.table("files");
        let max_mib = files.number("max_mib", 1..=4096).unwrap_or(FILE_MIB);
        let total_mib = files.number("total_mib", 1..=1_048_576).unwrap_or(FILES_MIB);
        let keep_hours = files.number("keep_hours", 1..=8760).unwrap_or(FILES_HOURS);
        let mut words = top.table("commands");
        let said = manners::commands(&mut words);
        top.absorb(words);
        let mut routes = Vec::new();
        for mut block in top.list("route") {
            routes.extend(manners::route(&mut block));
            top.absorb(block);
        }
        let mut hooks = top.table("hooks");
        let commands = hooks.list("command");
        let platforms = top.tables("platform");
        let agents = top.tables("agent");
        top.absorb(gateway);
        top.absorb(files);
        top.finish().map_err(wrong)?;

        let mut instances = Vec::new();
        let mut names = BTreeSet::new();
        for (name, block) in platforms {
            let instance =
                Instance::new(&name).map_err(|e| wrong(format!("[platform.{name}]: {e}")))?;
            reserved(&name).map_err(|e| wrong(format!("[platform.{name}]: {e}")))?;
            names.insert(name);
            instances.push(platform::platform(instance, block, &place, secrets, &network));
        }
        for (name, block) in agents {
            let instance =
                Instance::new(&name).map_err(|e| wrong(format!("[agent.{name}]: {e}")))?;
            reserved(&name).map_err(|e| wrong(format!("[agent.{name}]: {e}")))?;
            if !names.insert(name.clone()) {
                return Err(wrong(format!(
                    "[platform.{name}] and [agent.{name}] have the same name; commands could not tell them apart"
                )));
            }
            instances.push(agent::agent(instance, block, &place, secrets, &network));
        }
        for route in &routes {
            let known = |name: &Instance, is: fn(Kind) -> bool| {
                instances.iter().any(|spec| spec.name == *name && is(spec.kind))
            };
            if !known(&route.agent, |kind| matches!(kind, Kind::Agent(_))) {
                return Err(wrong(format!("[[route]] agent: no [agent.{}]", route.agent)));
            }
            let platform = route.platform.as_ref();
            let there = |name: &Instance| known(name, |kind| matches!(kind, Kind::Platform(_)));
            if let Some(platform) = platform.filter(|name| !there(name)) {
                return Err(wrong(format!("[[route]] platform: no [platform.{platform}]")));
            }
        }
        let idle = routes::idle(&routes, |route| routing::is_group(&instances, route));
        let warnings = idle.iter().map(|(place, why)| {
            format!("[[route]] at place {place} of the file never fits: {why}")
        });
        let mut warnings: Vec<_> = warnings.collect();
        warnings.extend(instance::shared(&instances));
        warnings.extend(platform::nobodies(&instances));
        routing::route(&mut instances, &routes);
        instances.extend(hooks::hooks(hooks, commands, &place));
        let source = source.map(Path::to_owned);
        let stop = Duration::from_secs(stop.into());
        let memory = u64::from(memory) << 20;
        let files = Files {
            max_bytes: u64::from(max_mib) << 20,
            total_bytes: u64::from(total_mib) << 20,
            keep: Duration::from_secs(3600 * u64::from(keep_hours)),
        };
        Ok(Self {
            source,
            state_dir,
            runtime_dir,
            log,
            stop,
            memory,
            files,
            commands: said,
            instances,
            warnings,
        })
    }

    /// Every instance's trouble as one error; `Ok` if there is none.
    pub fn check(&self) -> Result<(), Error> {
        let troubles: Vec<_> =
            self.instances.iter().filter_map(|spec| spec.body.as_ref().err()).collect();
        let Some(code) = troubles.iter().map(|trouble| trouble.code).max() else {
            return Ok(());
        };
        let lines: Vec<_> = troubles.iter().map(|trouble| trouble.reason.as_str()).collect();
        Err(Error::Blocks {
            message: lines.join(
                "
",
            ),
            code,
        })
    }
}

/// Where a file is wrong, and how. The library would show the line itself, in which a secret may stand.
fn place_of(text: &str, error: &toml::de::Error) -> String {
    let start = error.span().map_or(0, |span| span.start);
    let before = text.get(..start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!("line {line}, column {column}: {}", error.message().trim_end())
}

/// Names that mean something else in commands, in the journal and in the store.
fn reserved(name: &str) -> Result<(), String> {
    if matches!(name, "gateway" | "hooks") {
        return Err("this name is the gateway's own: choose another, and set kind".into());
    }
    Ok(())
}

/// The file system and the environment of this process.
#[derive(Clone, Copy, Debug)]
pub struct System;

impl Surroundings for System {
    fn file(&self, what: &str, path: &Path) -> Result<String, String> {
        let read = file::secret(path);
        // A service that may not read it is handed it by systemd, under its name (`hermes-gw service install`).
        let handed = match (&read, self.credentials(), path.file_name()) {
            (Err(e), Some(dir), Some(name)) if e.kind() == ErrorKind::PermissionDenied => {
                file::secret(&dir.join(name)).ok()
            }
            _ => None,
        };
        bare(handed.map_or(read, Ok), what, &path.display().to_string())
    }

    fn variable(&self, name: &str) -> Result<Secret, String> {
        bare(std::env::var(name), "the secret", &variable(name)).map(Secret::new)
    }

    fn directory(&self, config: &Path) -> Option<PathBuf> {
        let is_file = std::fs::metadata(config).is_ok_and(|metadata| metadata.is_file());
        let dir = config.parent()?;
        // Where descriptors are shown: a file that is open there lies elsewhere, or nowhere.
        let real = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
        let is_shown = real == Path::new("/dev") || real.starts_with("/proc");
        (is_file && !is_shown).then(|| dir.to_owned())
    }

    fn home(&self) -> Option<PathBuf> {
        std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute())
    }

    /// <https://systemd.io/CREDENTIALS/>
    fn credentials(&self) -> Option<PathBuf> {
        std::env::var_os("CREDENTIALS_DIRECTORY").filter(|dir| !dir.is_empty()).map(PathBuf::from)
    }
}

/// An environment variable, as it is told. Somebody may have put the secret where its name belongs.
fn variable(name: &str) -> String {
    let is_usual = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if name.len() <= 64 && name.chars().all(is_usual) {
        return format!("the environment variable {name}");
    }
    "an environment variable whose name is not shown, since it looks like the secret itself (that belongs into a file)"
        .to_owned()
}

/// What was read there, without what editors and shells put around it: a byte order mark, blanks, line ends.
fn bare<E: fmt::Display>(
    read: Result<String, E>,
    what: &str,
    place: &str,
) -> Result<String, String> {
    let text = read.map_err(|e| format!("read {what} in {place}: {e}"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).trim();
    if text.is_empty() {
        return Err(format!("read {what} in {place}: it is empty"));
    }
    Ok(text.to_owned())
}

/// The worst of two codes for one answer: a missing file before a wrong key, as it is mended first.
impl Trouble {
    fn wrong(reason: String) -> Self {
        let remedy = "mend this block of the configuration, then `hermes-gw ctl reload`; `hermes-gw check` explains it";
        Self { reason, code: Code::Config, remedy }
    }
}

#[cfg(test)]
mod tests;

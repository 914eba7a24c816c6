//! Where things are, decided from the command line, the configuration and the environment.
//!
//! The sockets lie in the state directory unless a runtime directory is configured or the service
//! manager gives one: `XDG_RUNTIME_DIR` vanishes when its user logs out, and a gateway stays.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use protocol::id::{INSTANCE_MAX, Instance};

use crate::error::Error;

/// What the system allows for a local socket's path on every platform that we run on.
pub const SOCKET_PATH_MAX: usize = 100;
/// What the shipped unit of the system has systemd give the gateway (`StateDirectory=`).
pub const SYSTEM_STATE: &str = "/var/lib/hermes-gw";
/// And where its socket is (`RuntimeDirectory=`).
pub const SYSTEM_RUNTIME: &str = "/run/hermes-gw";
/// The longest name that is put into the runtime directory.
const LONGEST_NAME: usize = "agent-.sock".len() + INSTANCE_MAX;

/// The environment, as far as it matters here.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `XDG_STATE_HOME`.
    pub xdg_state: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub xdg_config: Option<PathBuf>,
    /// `STATE_DIRECTORY`, from systemd.
    pub systemd_state: Option<PathBuf>,
    /// `RUNTIME_DIRECTORY`, from systemd.
    pub systemd_runtime: Option<PathBuf>,
    /// `HERMES_GW_CONFIG`.
    pub config: Option<PathBuf>,
}

impl Environment {
    /// Picks what matters out of `get`; empty values are absent ones. A relative path has no place in a
    /// variable of XDG and is ignored, says its specification, and no home is one either; systemd puts colons
    /// between several directories, and the first is ours.
    pub fn from(get: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name| get(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let absolute = |name| path(name).filter(|path| path.is_absolute());
        let first = |name| {
            let several = get(name)?.into_encoded_bytes();
            let first = several.split(|byte| *byte == b':').find(|path| !path.is_empty())?;
            Some(PathBuf::from(OsString::from_vec(first.to_vec())))
        };
        Self {
            home: absolute("HOME"),
            xdg_state: absolute("XDG_STATE_HOME"),
            xdg_config: absolute("XDG_CONFIG_HOME"),
            systemd_state: first("STATE_DIRECTORY"),
            systemd_runtime: first("RUNTIME_DIRECTORY"),
            config: path("HERMES_GW_CONFIG"),
        }
    }

    /// Where a configuration may be if none is named, best first.
    pub fn config_candidates(&self) -> Vec<PathBuf> {
        let user = self.xdg_config.clone().or_else(|| Some(self.home.as_ref()?.join(".config")));
        let user = user.map(|dir| dir.join("hermes-gw/config.toml"));
        user.into_iter().chain([PathBuf::from("/etc/hermes-gw/config.toml")]).collect()
    }
}

/// Where the files of one gateway are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Paths {
    /// The lock, the store.
    pub state_dir: PathBuf,
    /// The sockets.
    pub runtime_dir: PathBuf,
}

impl Paths {
    /// The first of: command line, configuration, service manager, XDG.
    pub fn choose(
        flag: Option<&Path>,
        configured: Option<&Path>,
        runtime: Option<&Path>,
        environment: &Environment,
    ) -> Result<Self, Error> {
        let own = || {
            let home = environment.home.as_ref().map(|home| home.join(".local/state"));
            Some(environment.xdg_state.clone().or(home)?.join("hermes-gw"))
        };
        let explicit = flag.or(configured).map(Path::to_owned);
        let managed = explicit.is_none().then(|| environment.systemd_runtime.clone()).flatten();
        let state_dir = explicit
            .or_else(|| environment.systemd_state.clone())
            .or_else(own)
            .ok_or(Error::NoHome)?;
        let runtime_dir = runtime.map(Path::to_owned).or(managed);
        let runtime_dir = runtime_dir.unwrap_or_else(|| state_dir.clone());
        Ok(Self { state_dir, runtime_dir })
    }

    /// Refuses a runtime directory in which some socket's path would be too long.
    pub fn check(&self) -> Result<(), Error> {
        let len = self.runtime_dir.as_os_str().len();
        let max = SOCKET_PATH_MAX - 1 - LONGEST_NAME;
        if len > max {
            return Err(Error::PathTooLong { path: self.runtime_dir.clone(), len, max });
        }
        Ok(())
    }

    /// The lock file.
    pub fn lock(&self) -> PathBuf {
        self.state_dir.join("lock")
    }

    /// Where files are exchanged.
    pub fn exchange(&self) -> PathBuf {
        self.state_dir.join("exchange")
    }

    /// The supervisor's socket.
    pub fn socket(&self) -> PathBuf {
        self.runtime_dir.join("gw.sock")
    }

    /// Whether the supervisor's socket lies in the directory that it holds the lock of.
    pub fn holds_socket(&self) -> bool {
        self.runtime_dir == self.state_dir
    }

    /// The socket of a `local` platform.
    pub fn chat_socket(&self, instance: &Instance) -> PathBuf {
        self.runtime_dir.join(format!("chat-{instance}.sock"))
    }

    /// The socket of a `socket` agent.
    pub fn agent_socket(&self, instance: &Instance) -> PathBuf {
        self.runtime_dir.join(format!("agent-{instance}.sock"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(flag: Option<&str>, configured: Option<&str>, vars: &[(&str, &str)]) -> String {
        let environment =
            Environment::from(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()));
        match Paths::choose(flag.map(Path::new), configured.map(Path::new), None, &environment) {
            Ok(p) => format!("{} {}", p.state_dir.display(), p.runtime_dir.display()),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn flag_over_configuration_over_manager_over_user() {
        let all = [
            ("HOME", "/home/ann"),
            ("XDG_STATE_HOME", "/x"),
            ("STATE_DIRECTORY", "/var/lib/gw"),
            ("RUNTIME_DIRECTORY", "/run/gw"),
        ];
        assert_eq!(choose(Some("/f"), Some("/c"), &all), "/f /f");
        assert_eq!(choose(None, Some("/c"), &all), "/c /c");
        assert_eq!(choose(None, None, &all), "/var/lib/gw /run/gw");
        assert_eq!(choose(None, None, &all[..2]), "/x/hermes-gw /x/hermes-gw");
        let home = "/home/ann/.local/state/hermes-gw";
        assert_eq!(choose(None, None, &all[..1]), format!("{home} {home}"));
        assert!(choose(None, None, &[]).contains("HOME"));
        let several = [
            ("STATE_DIRECTORY", "/var/lib/gw:/var/lib/b"),
            ("RUNTIME_DIRECTORY", "/run/gw:/run/b"),
        ];
        assert_eq!(choose(None, None, &several), "/var/lib/gw /run/gw", "the first of several");
        let relative = [("HOME", "/home/ann"), ("XDG_STATE_HOME", "x")];
        assert_eq!(choose(None, None, &relative), format!("{home} {home}"), "as XDG says");
        let nowhere = choose(None, None, &[("HOME", "ann"), ("XDG_STATE_HOME", "x")]);
        assert!(
            nowhere.contains("neither XDG_STATE_HOME nor HOME is an absolute path"),
            "{nowhere}"
        );
        let relative =
            Environment::from(|name| Some(if name == "HOME" { "/h" } else { "x" }.into()));
        assert_eq!(relative.config_candidates()[0], Path::new("/h/.config/hermes-gw/config.toml"));
    }

    #[test]
    fn the_longest_socket_path_fits_or_is_refused() {
        let make = |n: usize| {
            let dir = PathBuf::from("/".to_owned() + &"d".repeat(n - 1));
            Paths { state_dir: dir.clone(), runtime_dir: dir }
        };
        let max = SOCKET_PATH_MAX - 1 - LONGEST_NAME;
        assert!(make(max).check().is_ok());
        let name = Instance::new("i".repeat(INSTANCE_MAX)).unwrap();
        assert_eq!(make(max).agent_socket(&name).as_os_str().len(), SOCKET_PATH_MAX);
        assert!(matches!(make(max + 1).check(), Err(Error::PathTooLong { .. })));
    }
}

//! systemd, as far as a service needs it: its tools, and what the machine says of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use protocol::control::Refusal;
use supervisor::error::Error;
use supervisor::exit::Code;
use supervisor::process::user;

use super::unit::{NAME, Scope};

/// What `systemctl show` is asked for.
const SHOWN: &str = "--property=ActiveState,SubState,MainPID,NRestarts,ExecMainStatus,UnitFileState,FragmentPath,\
    StatusText,NeedDaemonReload";

/// The manager of a scope.
#[derive(Clone, Copy, Debug)]
pub(super) struct Systemd {
    pub(super) scope: Scope,
}

/// What it says of the unit.
pub(super) struct Shown(HashMap<String, String>);

impl Shown {
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// Its last start failed, and the next one is a while away.
    pub(super) fn waits_for_restart(&self) -> bool {
        self.text("SubState").is_some_and(|state| state.starts_with("auto-restart"))
    }

    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.text(name)?.parse().ok()
    }
}

impl Systemd {
    /// The manager, if this machine was booted with one (`sd_booted(3)`).
    pub(super) fn reach(scope: Scope) -> Result<Self, Error> {
        if Path::new("/run/systemd/system").is_dir() {
            return Ok(Self { scope });
        }
        let hint = if is_wsl() {
            "put `systemd=true` under [boot] in /etc/wsl.conf and call `wsl --shutdown` in Windows; or let \
             `hermes-gw supervise` run in a terminal that stays open"
        } else {
            "let whatever starts programs here run `hermes-gw supervise`; in a container it is the command"
        };
        Err(refused(Code::Unavailable, "ask systemd: it does not run here".into(), hint.into()))
    }

    /// What a person types.
    pub(super) fn name(self) -> &'static str {
        match self.scope {
            Scope::System => "systemctl",
            Scope::User => "systemctl --user",
        }
    }

    /// Has it do something; what it prints.
    pub(super) fn ask(self, words: &[&str]) -> Result<String, Error> {
        let mut command = Command::new("systemctl");
        if self.scope == Scope::User {
            command.arg("--user");
            // `su` and `sudo` do not set it.
            let dir = format!("/run/user/{}", user::number());
            if std::env::var_os("XDG_RUNTIME_DIR").is_none() && Path::new(&dir).is_dir() {
                command.env("XDG_RUNTIME_DIR", dir);
            }
        }
        let command = command.args(["--no-pager", "--no-ask-password"]).args(words);
        let done = command.env("SYSTEMD_COLORS", "0").stdin(Stdio::null()).output();
        let done = done.map_err(|source| Error::Os { what: "run systemctl", source })?;
        if done.status.success() {
            return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&done.stderr);
        let said = said.lines().map(str::trim).find(|line| !line.is_empty());
        let asked = format!("{} {}", self.name(), words.join(" "));
        let said = said.map_or_else(|| done.status.to_string(), str::to_owned);
        let hint = match self.scope {
            Scope::User if said.contains("bus") => {
                "a user's services need a session of his own: log in as this user (`machinectl shell USER@`), or \
                 install one of the system with sudo and --system"
            }
            _ => "see what systemd says when you call it yourself",
        };
        Err(refused(Code::Os, format!("{asked}: {said}"), hint.into()))
    }

    pub(super) fn show(self) -> Result<Shown, Error> {
        let text = self.ask(&["show", SHOWN, NAME])?;
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        Ok(Shown(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
    }

    /// Whether it runs, or is about to; one that only waits for its next start does not.
    pub(super) fn is_up(self) -> Result<bool, Error> {
        let shown = self.show()?;
        let is_up =
            matches!(shown.text("ActiveState"), Some("active" | "activating" | "reloading"));
        Ok(is_up && !shown.waits_for_restart())
    }

    /// The unit of this name that lies elsewhere than ours would, for example in a package's directory.
    pub(super) fn other(self, path: &Path) -> Option<PathBuf> {
        let shown = self.show().ok()?;
        let found = shown.text("FragmentPath").map(PathBuf::from);
        found.filter(|found| found != path && !path.exists())
    }
}

/// Whether a user's services outlive his sessions (`loginctl(1)`).
pub(super) fn lingers(user: &str) -> bool {
    Path::new("/var/lib/systemd/linger").join(user).exists()
}

/// Has them outlive his sessions; false if that is not for him to decide.
pub(super) fn enable_linger(user: &str) -> bool {
    let command = ["enable-linger", user];
    let mut loginctl = Command::new("loginctl");
    let loginctl = loginctl.arg("--no-ask-password").args(command).stdin(Stdio::null());
    loginctl.output().is_ok_and(|done| done.status.success()) && lingers(user)
}

/// What a person must know of services in WSL (F91).
pub(super) fn ends_with_windows() -> Option<String> {
    is_wsl().then(|| {
        "this is WSL, which stops the machine, services and all, a while after its last terminal was closed: until \
         then platforms keep what comes"
            .to_owned()
    })
}

fn is_wsl() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").is_ok_and(|release| is_of_wsl(&release))
}

/// Microsoft's kernels say so in their release, `5.15.153.1-microsoft-standard-WSL2`.
fn is_of_wsl(release: &str) -> bool {
    release.to_lowercase().contains("microsoft")
}

fn refused(code: Code, message: String, hint: String) -> Error {
    Error::Refused(Refusal { code: code.number(), message, hint: Some(hint) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F91.
    #[test]
    fn windows_is_told_by_its_kernel() {
        assert!(is_of_wsl("5.15.153.1-microsoft-standard-WSL2\n"));
        assert!(is_of_wsl("4.4.0-19041-Microsoft\n"));
        assert!(!is_of_wsl("6.12.38-amd64\n"));
    }
}

//! `hermes-gw service status`: how it is, and what is not as it should be.

use std::path::{Path, PathBuf};

use serde::Serialize;
use supervisor::error::Error;
use supervisor::exit::Code;
use supervisor::process::user::{self, Login};

use super::systemd::{self, Systemd};
use super::unit::{self, NAME, Scope};
use super::{place, program, read, warn};
use crate::args::Common;
use crate::command::{print, print_json_of};

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    scope: &'a str,
    installed: bool,
    /// The unit's file.
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    /// systemd's words: `active`, `failed`, …
    active: String,
    /// systemd's words: `enabled`, `disabled`, …
    enabled: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    /// How often systemd has started it anew.
    restarts: u32,
    /// What it says of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    says: Option<String>,
    warnings: Vec<String>,
}

pub(super) fn status(common: &Common, systemd: Systemd, path: &Path) -> Result<(), Error> {
    let shown = systemd.show()?;
    let fragment = shown.text("FragmentPath").map(PathBuf::from);
    let installed = fragment.is_some();
    let report = Report {
        schema: 1,
        scope: systemd.scope.word(),
        installed,
        unit: fragment.as_ref().map(|path| path.display().to_string()),
        active: shown.text("ActiveState").unwrap_or("inactive").to_owned(),
        enabled: shown.text("UnitFileState").unwrap_or("disabled").to_owned(),
        pid: shown.number("MainPID").filter(|pid| *pid != 0),
        restarts: shown.number("NRestarts").unwrap_or(0),
        says: shown.text("StatusText").map(str::to_owned),
        warnings: fragment.map_or(Vec::new(), |path| doubts(systemd, &shown, &path)),
    };
    let failed = (report.active != "active").then(|| Error::Unfulfilled {
        code: Code::Unavailable,
        message: format!("{NAME} is {}", if installed { &report.active } else { "not installed" }),
        hint: Some(if installed {
            format!("`{} start {NAME}`", systemd.name())
        } else {
            "`hermes-gw service install`".into()
        }),
    });
    if common.json {
        print_json_of(&report, failed.as_ref());
    } else if installed {
        let pid = report.pid.map_or(String::new(), |pid| format!(", pid {pid}"));
        let restarts = match report.restarts {
            0 => String::new(),
            n => format!(", started anew {n} times"),
        };
        print(&format!(
            "{NAME} ({}): {}, {}{pid}{restarts}",
            report.scope, report.active, report.enabled
        ));
        print(&format!("unit  {}", report.unit.as_deref().unwrap_or_default()));
        if let Some(says) = &report.says {
            print(&format!("says  {says}"));
        }
        warn(&report.warnings);
    } else {
        print(&format!("{NAME}: not installed for the {}", report.scope));
        let other = match systemd.scope {
            Scope::System => Scope::User,
            Scope::User => Scope::System,
        };
        if place(other).is_ok_and(|place| place != path && place.exists()) {
            print(&format!(
                "hint: it is for the {0}: `hermes-gw service status --{0}`",
                other.word()
            ));
        } else {
            print("hint: `hermes-gw service install`");
        }
    }
    failed.map_or(Ok(()), Err)
}

/// An installed service, in short.
pub(in crate::command) struct Found {
    /// `system` or `user`.
    pub(in crate::command) scope: &'static str,
    /// systemd's words for it.
    pub(in crate::command) state: String,
    /// What is not as it should be.
    pub(in crate::command) doubts: Vec<String>,
}

/// What systemd can be asked about this scope, if it is installed there.
pub(super) fn found(scope: Scope) -> Option<Found> {
    let systemd = Systemd::reach(scope).ok()?;
    let shown = systemd.show().ok()?;
    let unit = PathBuf::from(shown.text("FragmentPath")?);
    let mut doubts = doubts(systemd, &shown, &unit);
    let word = |name, other: &str| shown.text(name).unwrap_or(other).to_owned();
    let (active, enabled) = (word("ActiveState", "inactive"), word("UnitFileState", "disabled"));
    if active != "active" {
        doubts.insert(0, format!("it is {active}: `{} start {NAME}`", systemd.name()));
    }
    Some(Found { scope: scope.word(), state: format!("{active}, {enabled}"), doubts })
}

/// What is not as it should be with an installed service.
fn doubts(systemd: Systemd, shown: &systemd::Shown, path: &Path) -> Vec<String> {
    let (scope, systemctl) = (systemd.scope, systemd.name());
    let mut doubts = Vec::new();
    let text = match read(path) {
        Ok(Some(text)) => {
            if !scope.is_ours(&text) {
                let path = path.display();
                doubts.push(format!("{path} is not of `service install`: nobody renews it"));
            } else if !scope.is_current(&text) {
                doubts.push(
                    "the unit is of another version: `hermes-gw service install` renews it".into(),
                );
            }
            text
        }
        Ok(None) => {
            doubts.push("its file has gone: `hermes-gw service install` writes it anew".into());
            String::new()
        }
        Err(e) => {
            doubts.push(e.to_string());
            String::new()
        }
    };
    match unit::program(&text) {
        Some(started) if !started.is_file() => doubts.push(format!(
            "{} is not there any more: call `hermes-gw service install` by the path that stays",
            started.display()
        )),
        Some(started) => {
            let other =
                |this: &PathBuf| started.canonicalize().is_ok_and(|started| started != *this);
            if let Some(this) =
                program().ok().and_then(|path| path.canonicalize().ok()).filter(other)
            {
                doubts.push(format!(
                    "it starts {}, and this is {}",
                    started.display(),
                    this.display()
                ));
            }
        }
        None => {}
    }
    if shown.text("NeedDaemonReload") == Some("yes") {
        doubts.push(format!(
            "systemd has not read the unit's last change: `{systemctl} daemon-reload`"
        ));
    }
    if shown.text("UnitFileState") == Some("disabled") {
        doubts.push(format!("no start of the machine starts it: `{systemctl} enable {NAME}`"));
    }
    if scope == Scope::User
        && let Some(Login { name, .. }) = user::login()
        && !systemd::lingers(&name)
    {
        doubts.push(format!("it ends when {name} logs out: `sudo loginctl enable-linger {name}`"));
    }
    doubts.extend(systemd::ends_with_windows());
    doubts
}

//! `hermes-gw service install`: what the unit is to say, and how it gets there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::control::{Refusal, Request, Status};
use serde::Serialize;
use supervisor::config::{Config, System};
use supervisor::error::Error;
use supervisor::exit::{self, Code};
use supervisor::paths::{Paths, SYSTEM_STATE};
use supervisor::process::user;
use supervisor::{clock, lock};
use toml::{Table, Value};

use super::systemd::{self, Systemd};
use super::unit::{self, NAME, Scope, hidden};
use super::{
    is_root, lies_elsewhere, login, only_root, program, read, somebody_elses, warn, write,
};
use crate::args::Common;
use crate::command::ctl::{self, Client};
use crate::command::{colored, environment, load, locate, paths, print, print_json, runtime};

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at it.
const PAUSE: Duration = Duration::from_millis(100);

/// Where a service of the system finds its configuration, if none is named.
const SYSTEM_CONFIG: &str = "/etc/hermes-gw/config.toml";

#[derive(Serialize)]
struct Installed<'a> {
    schema: u32,
    /// `installed`, `renewed` or `unchanged`.
    result: &'a str,
    scope: &'a str,
    unit: String,
    /// Whether it was started now; else it runs already.
    started: bool,
    state_dir: String,
    warnings: Vec<String>,
}

pub(super) fn install(common: &Common, systemd: Systemd, path: &Path) -> Result<(), Error> {
    let scope = systemd.scope;
    if scope == Scope::System {
        if !is_root() {
            return Err(only_root("install a service of the system"));
        }
        if common.state_dir.is_some() {
            return Err(Error::Usage {
                message: "install a service of the system with --state-dir: systemd gives it its directory"
                    .into(),
                hint: format!("it is {SYSTEM_STATE}; leave the flag out"),
            });
        }
    }
    let command = command(common, scope)?;
    let text = scope.unit(&command, &credentials(common, scope)?);
    let former = read(path)?;
    if let Some(former) = &former
        && !scope.is_ours(former)
    {
        return Err(somebody_elses("write over", path));
    }
    if let Some(other) = systemd.other(path) {
        return Err(lies_elsewhere("install", &other));
    }
    let result = match &former {
        None => "installed",
        Some(former) if *former == text => "unchanged",
        Some(_) => "renewed",
    };
    if result != "unchanged" {
        write(path, &text)?;
    }
    let mut warnings = Vec::new();
    if scope == Scope::User {
        warnings.extend(linger());
        await_manager(systemd);
    }
    systemd.ask(&["daemon-reload"])?;
    systemd.ask(&["enable", NAME])?;
    warnings.extend(systemd::ends_with_windows());
    let own = own_config(scope)?;
    if !command.iter().any(|word| word == "--config") && !own.exists() {
        warnings.push(format!(
            "there is no configuration: it serves the terminal alone; `hermes-gw init --config {}` writes one",
            own.display()
        ));
    }
    let started = !systemd.is_up()?;
    let system = (scope == Scope::System).then(|| SYSTEM_STATE.into());
    let state = Common { state_dir: state_dir(common, scope).or(system), ..common.clone() };
    // Not `locate`: where this one has served nobody yet, that finds the one of the system.
    let found = paths(&state, load(&state).ok().as_ref())?;
    if started {
        let waits = start(systemd, &found)?;
        warnings.extend(
            waits.map(|says| format!("it serves once another gateway has left; it is {says}")),
        );
    } else if result != "unchanged" {
        warnings.push(format!(
            "it runs on as it was started; `{} restart {NAME}` starts it anew",
            systemd.name()
        ));
    }
    let told = Installed {
        schema: 1,
        result,
        scope: scope.word(),
        unit: path.display().to_string(),
        started,
        state_dir: found.state_dir.display().to_string(),
        warnings,
    };
    if common.json {
        print_json(&told);
    } else if !common.quiet {
        print(&format!("{}: {result}", told.unit));
        let word = if started { "started" } else { "runs already" };
        print(&format!("{NAME}: enabled, {word}"));
        warn(&told.warnings);
        // What is held, for example since this user may not read a secret, is said there.
        if let Ok(status) = asked(&state) {
            print(&ctl::status_text(&status, colored(common)));
        }
    }
    Ok(())
}

/// What the unit is to start.
fn command(common: &Common, scope: Scope) -> Result<Vec<String>, Error> {
    let program = program()?;
    if let Some(why) = hidden(scope, &program, 0o001) {
        return Err(Error::Usage {
            message: format!("make {} a service: {why}", program.display()),
            hint: format!(
                "put it where it stays, `install -m 755 {} /usr/local/bin/`, and call it there",
                program.display()
            ),
        });
    }
    let mut words = vec![text_of(&program)?, "supervise".into(), "--wait".into()];
    if let Some(config) = config(common, scope)? {
        words.extend(["--config".into(), text_of(&config)?]);
    }
    if let Some(dir) = state_dir(common, scope) {
        words.extend(["--state-dir".into(), text_of(&dir)?]);
    }
    Ok(words)
}

/// The files of secrets that a service of the system may not read itself.
fn credentials(common: &Common, scope: Scope) -> Result<Vec<PathBuf>, Error> {
    let path = match config(common, scope)? {
        Some(path) => path,
        None => own_config(scope)?,
    };
    let table = std::fs::read_to_string(&path).ok().and_then(|text| text.parse::<Table>().ok());
    let (Scope::System, Some(table), Some(dir)) = (scope, table, path.parent()) else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    named_files(&table, &mut names);
    let mut files: Vec<PathBuf> = names.iter().map(|name| dir.join(name)).collect();
    files.retain(|file| file.is_file() && hidden(scope, file, 0o004).is_some());
    files.sort();
    files.dedup();
    if let Some((file, why)) = unit::unfit(&files) {
        return Err(Error::Usage {
            message: format!("hand {} to the service: {why}", file.display()),
            hint: "systemd hands each secret over under the name of its file: give it one of its own, in plain letters"
                .into(),
        });
    }
    Ok(files)
}

/// What the keys of a configuration that end with `_file` say.
fn named_files(table: &Table, names: &mut Vec<String>) {
    for (key, value) in table {
        match value {
            Value::String(name) if key.ends_with("_file") => names.push(name.clone()),
            Value::Table(below) => named_files(below, names),
            _ => {}
        }
    }
}

/// Where the service finds its configuration by itself.
fn own_config(scope: Scope) -> Result<PathBuf, Error> {
    Ok(match scope {
        Scope::System => PathBuf::from(SYSTEM_CONFIG),
        Scope::User => login()?.home.join(".config/hermes-gw/config.toml"),
    })
}

/// The configuration that holds in this shell, if the service would not find it by itself.
fn config(common: &Common, scope: Scope) -> Result<Option<PathBuf>, Error> {
    let environment = environment();
    let own = own_config(scope)?;
    let mut named = common.config.clone();
    if named.is_none() && environment.config.is_none() && scope == Scope::System {
        named = Some(own.clone()).filter(|path| path.exists());
    }
    let config = Config::load(named.as_deref(), &environment, &System)?;
    let Some(source) = config.source else { return Ok(None) };
    let source = std::path::absolute(&source).unwrap_or(source);
    if let Some(why) = hidden(scope, &source, 0o004) {
        return Err(Error::Usage {
            message: format!("make a service that reads {}: {why}", source.display()),
            hint: format!(
                "put it at {}, for others to read: the secrets have files of their own",
                own.display()
            ),
        });
    }
    Ok(Some(source).filter(|source| *source != own))
}

fn text_of(path: &Path) -> Result<String, Error> {
    let text = path.to_str().filter(|text| !text.contains(char::is_control));
    text.map(str::to_owned).ok_or_else(|| Error::Usage {
        message: format!("write {} into a unit: it is no text", path.display()),
        hint: "give it another name".into(),
    })
}

/// Where it is to keep its state, if it would not do so by itself: what a shell says holds for this user's `ctl`, too.
fn state_dir(common: &Common, scope: Scope) -> Option<PathBuf> {
    let of_shell = environment().xdg_state.map(|dir| dir.join("hermes-gw"));
    common.state_dir.clone().or(of_shell.filter(|_| scope == Scope::User))
}

/// Starts it, and tells why it did not. Where another gateway serves from the same state, it waits for its end, which
/// is told and not waited for.
fn start(systemd: Systemd, paths: &Paths) -> Result<Option<String>, Error> {
    // It may have failed before, for a reason that is no more, and wait for its next start.
    systemd.ask(&["stop", NAME])?;
    let _ = systemd.ask(&["reset-failed", NAME]);
    systemd.ask(&["start", "--no-block", NAME])?;
    let since = clock::now();
    let shown = loop {
        let shown = systemd.show()?;
        let says = shown.text("StatusText").filter(|says| says.starts_with("waiting for"));
        match shown.text("ActiveState") {
            Some("active") => return Ok(None),
            Some("failed") => break shown,
            _ if shown.waits_for_restart() => break shown,
            _ if says.is_some() => return Ok(says.map(str::to_owned)),
            _ if clock::now().duration_since(since) > PATIENCE => break shown,
            _ => pause(),
        }
    };
    let code = shown.number("ExecMainStatus").and_then(exit::code).filter(|code| *code != Code::Ok);
    let left = lock::holder(&paths.lock()).and_then(|holder| holder.left?.error);
    let reason = left.or_else(|| Some(format!("it ended with {}", code?.word())));
    let reason = reason.unwrap_or_else(|| {
        format!("it is {}", shown.text("SubState").unwrap_or("not what it should be"))
    });
    let of_user = if systemd.scope == Scope::User { "--user " } else { "" };
    Err(Error::Refused(Refusal {
        code: code.unwrap_or(Code::Os).number(),
        message: format!("start {NAME}: {reason}"),
        hint: Some(format!(
            "`journalctl {of_user}-u {NAME} -n 20` has the whole story; once that is mended: `{} restart {NAME}`",
            systemd.name()
        )),
    }))
}

/// A user's manager, and all its services, end with his last session, unless he lingers (F90).
fn linger() -> Option<String> {
    let user = user::login()?.name;
    if systemd::lingers(&user) || systemd::enable_linger(&user) {
        return None;
    }
    Some(format!(
        "it ends when {user} logs out, and no start of the machine starts it: `sudo loginctl enable-linger {user}`"
    ))
}

/// That a user lingers starts his manager, if he has none yet. What keeps it from answering is told by what comes next.
fn await_manager(systemd: Systemd) {
    let since = clock::now();
    while systemd.show().is_err() && clock::now().duration_since(since) < PATIENCE {
        pause();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "systemctl tells of no event that could be waited for"
)]
fn pause() {
    std::thread::sleep(PAUSE);
}

/// What the gateway says of itself.
fn asked(common: &Common) -> Result<Status, Error> {
    let socket = locate(common)?.socket();
    runtime()?.block_on(async {
        let mut client = Client::dial(&socket).await?;
        client.ask(&Request::Status, ctl::ANSWER).await
    })
}

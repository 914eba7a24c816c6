//! `hermes-gw service`: the gateway as a service of systemd, for the system or for one user: its unit is written,
//! started, looked at, taken away.

mod systemd;
mod unit;

use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::control::{Refusal, Status};
use serde::Serialize;
use supervisor::config::Config;
use supervisor::error::Error;
use supervisor::exit::{self, Code};
use supervisor::paths::{Paths, SYSTEM_STATE};
use supervisor::process::user::{self, Login};
use supervisor::{clock, lock};
use toml::{Table, Value};

use self::systemd::Systemd;
use self::unit::{NAME, Scope, hidden};
use super::ctl::{self, Client};
use super::{colored, environment, locate, print, print_json, print_json_of, runtime};
use crate::args::{Common, Service};

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at it.
const PAUSE: Duration = Duration::from_millis(100);
/// Where a service of the system finds its configuration, if none is named.
const SYSTEM_CONFIG: &str = "/etc/hermes-gw/config.toml";

pub(super) fn run(common: &Common, what: &Service) -> Result<(), Error> {
    let (Service::Install(scope) | Service::Uninstall(scope) | Service::Status(scope)) = what;
    let scope = match (scope.system, scope.user) {
        (true, _) => Scope::System,
        (_, true) => Scope::User,
        _ if is_root() => Scope::System,
        _ => Scope::User,
    };
    let systemd = Systemd::reach(scope)?;
    let path = place(scope)?;
    match what {
        Service::Install(_) => install(common, systemd, &path),
        Service::Uninstall(_) => uninstall(common, systemd, &path),
        Service::Status(_) => status(common, systemd, &path),
    }
}

/// The unit's file.
fn place(scope: Scope) -> Result<PathBuf, Error> {
    if scope == Scope::System {
        return Ok(Path::new("/etc/systemd/system").join(NAME));
    }
    Ok(login()?.home.join(".config/systemd/user").join(NAME))
}

/// Whose service it is. His manager knows his home from here, and nothing of the variables of a shell.
fn login() -> Result<Login, Error> {
    user::login().ok_or(Error::NoHome)
}

fn is_root() -> bool {
    user::number() == 0
}

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

fn install(common: &Common, systemd: Systemd, path: &Path) -> Result<(), Error> {
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
        return Err(somebody_elses(path));
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
    let found = locate(&state)?;
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
    let config = Config::load(named.as_deref(), &environment, &supervisor::config::System)?;
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

/// This program as it was called: a link stays where versions come and go (F89).
fn program() -> Result<PathBuf, Error> {
    let os = |source| Error::Os { what: "find this program", source };
    let real = std::env::current_exe().and_then(|path| path.canonicalize()).map_err(os)?;
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let is_path = called.components().count() > 1;
    let searched = std::env::var_os("PATH").filter(|_| !is_path).unwrap_or_default();
    let found = std::env::split_paths(&searched).map(|dir| dir.join(&called));
    let mut found = found.chain(std::path::absolute(&called).ok().filter(|_| is_path));
    let is_it = |path: &PathBuf| {
        let is_plain =
            path.is_absolute() && !path.components().any(|part| part.as_os_str() == "..");
        is_plain && path.canonicalize().is_ok_and(|path| path == real)
    };
    Ok(found.find(is_it).unwrap_or(real))
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
    // It may have failed before, for a reason that is no more.
    let _ = systemd.ask(&["reset-failed", NAME]);
    systemd.ask(&["start", "--no-block", NAME])?;
    let since = clock::now();
    let shown = loop {
        let shown = systemd.show()?;
        let says = shown.text("StatusText").filter(|says| says.starts_with("waiting for"));
        match (shown.text("ActiveState"), shown.text("SubState")) {
            (Some("active"), _) => return Ok(None),
            (Some("activating"), Some("auto-restart")) | (Some("failed"), _) => break shown,
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

#[derive(Serialize)]
struct Removed<'a> {
    schema: u32,
    /// `uninstalled` or `already_gone`.
    result: &'a str,
    scope: &'a str,
    unit: String,
}

fn uninstall(common: &Common, systemd: Systemd, path: &Path) -> Result<(), Error> {
    let scope = systemd.scope;
    let former = read(path)?;
    let result = match &former {
        None => "already_gone",
        Some(_) if scope == Scope::System && !is_root() => {
            return Err(only_root("take a service of the system away"));
        }
        Some(former) if !scope.is_ours(former) => return Err(somebody_elses(path)),
        Some(_) => {
            systemd.ask(&["disable", "--now", NAME])?;
            std::fs::remove_file(path).map_err(|source| Error::Create {
                what: "remove",
                path: path.into(),
                source,
            })?;
            systemd.ask(&["daemon-reload"])?;
            let _ = systemd.ask(&["reset-failed", NAME]);
            "uninstalled"
        }
    };
    let told = Removed { schema: 1, result, scope: scope.word(), unit: path.display().to_string() };
    if common.json {
        print_json(&told);
    } else if !common.quiet {
        print(&match result {
            "uninstalled" => format!("{NAME}: stopped, and {} removed; its state stays", told.unit),
            _ => format!("{NAME}: not installed for the {}", scope.word()),
        });
    }
    Ok(())
}

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

fn status(common: &Common, systemd: Systemd, path: &Path) -> Result<(), Error> {
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

/// What is not as it should be with an installed service.
fn doubts(systemd: Systemd, shown: &systemd::Shown, path: &Path) -> Vec<String> {
    let (scope, systemctl) = (systemd.scope, systemd.name());
    let mut doubts = Vec::new();
    let text = std::fs::read_to_string(path).unwrap_or_default();
    if !scope.is_ours(&text) {
        doubts.push(format!("{} is not of `service install`: nobody renews it", path.display()));
    } else if !scope.is_current(&text) {
        doubts.push("the unit is of another version: `hermes-gw service install` renews it".into());
    }
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

fn warn(warnings: &[String]) {
    for warning in warnings {
        print(&format!("warning: {warning}"));
    }
}

/// What the gateway says of itself.
fn asked(common: &Common) -> Result<Status, Error> {
    let socket = locate(common)?.socket();
    runtime()?.block_on(async {
        let mut client = Client::dial(&socket).await?;
        client.ask(&protocol::control::Request::Status, ctl::ANSWER).await
    })
}

/// A unit's text; `None` if there is none.
fn read(path: &Path) -> Result<Option<String>, Error> {
    match std::fs::read(path) {
        Ok(text) => Ok(Some(String::from_utf8_lossy(&text).into_owned())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Create { what: "read", path: path.into(), source }),
    }
}

/// In one piece: systemd never reads a half.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    let failed = |what| move |source| Error::Create { what, path: path.into(), source };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(failed("make the directory of"))?;
    }
    let new = path.with_extension("service.new");
    std::fs::write(&new, text).map_err(failed("write"))?;
    std::fs::rename(&new, path).map_err(failed("write"))
}

fn only_root(what: &str) -> Error {
    Error::Refused(Refusal {
        code: Code::NoPermission.number(),
        message: format!("{what}: only root may"),
        hint: Some("call it with sudo, or say --user for a service of your own".into()),
    })
}

fn somebody_elses(path: &Path) -> Error {
    let path = path.display();
    Error::Refused(Refusal {
        code: Code::CannotCreate.number(),
        message: format!("write over {path}: it is not of `service install`"),
        hint: Some(format!(
            "move it away; what it says beyond the shipped unit belongs into a drop-in, {path}.d/own.conf"
        )),
    })
}

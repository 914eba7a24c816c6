//! `hermes-gw service`: the gateway as a service of systemd, for the system or for one user: its unit is written,
//! started, looked at, taken away.

mod install;
mod status;
mod systemd;
mod unit;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use protocol::control::Refusal;
use serde::Serialize;
use supervisor::error::Error;
use supervisor::exit::Code;
use supervisor::process::user::{self, Login};

use self::systemd::Systemd;
use self::unit::{NAME, Scope};
use super::{print, print_json};
use crate::args::{Common, Service};

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
        Service::Install(_) => install::install(common, systemd, &path),
        Service::Uninstall(_) => uninstall(common, systemd, &path),
        Service::Status(_) => status::status(common, systemd, &path),
    }
}

/// The installed services that this user can ask about.
pub(super) fn found() -> Vec<status::Found> {
    let scopes: &[Scope] = if is_root() { &[Scope::System] } else { &[Scope::System, Scope::User] };
    scopes.iter().filter_map(|scope| status::found(*scope)).collect()
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
        None => match systemd.other(path) {
            Some(other) => return Err(lies_elsewhere("remove", &other)),
            None => "already_gone",
        },
        Some(_) if scope == Scope::System && !is_root() => {
            return Err(only_root("take a service of the system away"));
        }
        Some(former) if !scope.is_ours(former) => return Err(somebody_elses("remove", path)),
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

fn warn(warnings: &[String]) {
    for warning in warnings {
        print(&format!("warning: {warning}"));
    }
}

/// A unit's text; `None` if there is none.
fn read(path: &Path) -> Result<Option<String>, Error> {
    match std::fs::read(path) {
        Ok(text) => Ok(Some(String::from_utf8_lossy(&text).into_owned())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Create { what: "read", path: path.into(), source }),
    }
}

/// In one piece: systemd never reads a half. Everybody may read it, whatever may be read of what else is made here.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    let failed = |what| move |source| Error::Create { what, path: path.into(), source };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(failed("make the directory of"))?;
    }
    let new = path.with_extension("service.new");
    std::fs::write(&new, text).map_err(failed("write"))?;
    let mode = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&new, mode).map_err(failed("write"))?;
    std::fs::rename(&new, path).map_err(failed("write"))
}

fn only_root(what: &str) -> Error {
    Error::Refused(Refusal {
        code: Code::NoPermission.number(),
        message: format!("{what}: only root may"),
        hint: Some("call it with sudo, or say --user for a service of your own".into()),
    })
}

fn somebody_elses(what: &str, path: &Path) -> Error {
    let path = path.display();
    Error::Refused(Refusal {
        code: Code::CannotCreate.number(),
        message: format!("{what} {path}: it is not of `service install`"),
        hint: Some(format!(
            "move it away; what it says beyond the shipped unit belongs into a drop-in, {path}.d/own.conf"
        )),
    })
}

/// A unit of ours would hide one that somebody else renews.
fn lies_elsewhere(what: &str, path: &Path) -> Error {
    Error::Refused(Refusal {
        code: Code::CannotCreate.number(),
        message: format!("{what} {NAME}: it lies at {}, which is not of `service install`", path.display()),
        hint: Some(
            "whoever put it there, for example a package, renews it and takes it away; what you want otherwise \
             belongs into a drop-in: `systemctl edit hermes-gw`"
                .into(),
        ),
    })
}

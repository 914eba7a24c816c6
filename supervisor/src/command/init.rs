//! `hermes-gw init`: a first configuration and the files of its secrets, from answers of a person or from what a Hermes
//! Agent has. Nothing is written over.

mod dotenv;
mod hermes;
mod questions;
mod wanted;

use std::fs::{Permissions, set_permissions};
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use protocol::control::Refusal;
use protocol::secret::Secret;
use serde::Serialize;
use supervisor::clock;
use supervisor::error::Error;
use supervisor::exit::Code;
use supervisor::process::{terminal, user};

use self::questions::Person;
use self::wanted::{Agent, HERMES_ENV, Wanted};
use super::{check, complain, environment, print, print_json};
use crate::args::Common;

#[derive(Serialize)]
struct Written {
    schema: u32,
    config: String,
    files: Vec<String>,
    /// What a person has to know, or to do.
    notes: Vec<String>,
}

pub(super) fn run(common: &Common, from_hermes: Option<&Path>) -> Result<(), Error> {
    let environment = environment();
    let named = common.config.clone().or_else(|| environment.config.clone());
    let candidates = environment.config_candidates();
    let path = named.or_else(|| candidates.into_iter().next()).ok_or(Error::NoHome)?;
    let path = std::path::absolute(&path).unwrap_or(path);
    refuse_to_write_over(&path)?;
    let home = || environment.home.clone().ok_or(Error::NoHome);
    let random =
        clock::random::<32>().map_err(|source| Error::Os { what: "make a secret", source })?;
    let relay =
        Secret::new(random.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat());
    let (wanted, mut notes) = if let Some(dir) = from_hermes {
        let dir = match dir.strip_prefix("~") {
            Ok(below) => home()?.join(below),
            Err(_) => std::path::absolute(dir).unwrap_or_else(|_| dir.into()),
        };
        taken_over(&dir, relay)?
    } else {
        (answered(&home()?.join(".hermes"), relay)?, Vec::new())
    };
    let files = write(&path, &wanted)?;
    notes.extend(next(&path, &wanted, from_hermes.is_some(), common.config.is_some()));
    let config = path.display().to_string();
    if common.json {
        print_json(&Written { schema: 1, config, files, notes });
        return Ok(());
    }
    if !common.quiet {
        for file in &files {
            print(&format!("{file}: written"));
        }
        print("");
        // What it means, or what is wrong on this machine: that the configuration is there is no lie either way.
        check::run(&Common { config: Some(path), ..common.clone() })?;
        print("");
        for note in notes {
            print(&format!("- {note}"));
        }
    }
    Ok(())
}

/// What the Hermes Agent in `dir` has.
fn taken_over(dir: &Path, relay: Secret) -> Result<(Wanted, Vec<String>), Error> {
    let file = dir.join(".env");
    let refused = |why: String, hint: &str| {
        Error::Refused(Refusal {
            code: Code::NoInput.number(),
            message: format!("read {}: {why}", file.display()),
            hint: Some(hint.into()),
        })
    };
    let text = std::fs::read(&file).map_err(|e| {
        refused(
            e.to_string(),
            "name the directory of the agent: `--from-hermes DIR`; without it, `init` asks",
        )
    })?;
    let (variables, odd) = dotenv::read(&String::from_utf8_lossy(&text));
    let found = hermes::wanted(&variables, dir, relay);
    let (wanted, mut notes) = found.map_err(|why| refused(why, "`hermes-gw init` asks for it"))?;
    if odd > 0 {
        notes.push(format!("{odd} lines of {} were not understood, and left out", file.display()));
    }
    Ok((wanted, notes))
}

/// What a person answers.
fn answered(hermes: &Path, relay: Secret) -> Result<Wanted, Error> {
    if !io::stdin().is_terminal() {
        return Err(Error::Usage {
            message: "ask for what is to be configured: standard input is no terminal".into(),
            hint: "`hermes-gw init --from-hermes` asks nothing; or write the file by the example configuration".into(),
        });
    }
    questions::ask(&mut Terminal, hermes.into(), relay).map_err(|why| Error::Usage {
        message: format!("ask for what is to be configured: {why}; nothing was written"),
        hint: "call it again".into(),
    })
}

/// Who sits there.
struct Terminal;

impl Person for Terminal {
    fn tell(&mut self, text: &str) {
        complain(text);
    }

    fn ask(&mut self, question: &str, is_secret: bool) -> io::Result<String> {
        let mut talk = io::stderr();
        write!(talk, "{question}: ")?;
        talk.flush()?;
        let line = if is_secret { terminal::hidden_line()? } else { shown_line()? };
        if line.is_empty() {
            return Err(io::Error::other("the input has ended"));
        }
        Ok(line.trim_end_matches(['\n', '\r']).to_owned())
    }
}

fn shown_line() -> io::Result<String> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line)
}

/// All of it or nothing; the names of the files.
fn write(config: &Path, wanted: &Wanted) -> Result<Vec<String>, Error> {
    let dir = config.parent().unwrap_or(Path::new("/"));
    let secrets = wanted.secrets();
    let mut files: Vec<(PathBuf, u32, String)> =
        secrets.into_iter().map(|file| (dir.join(file.name), 0o600, file.text)).collect();
    files.push((config.into(), 0o644, wanted.config()));
    for (path, ..) in &files {
        refuse_to_write_over(path)?;
    }
    let failed = |what, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Create { what, path, source }
    };
    // What a service of the system reads is for others to read, whatever this shell's umask is, and the secrets are their
    // owner's anyway.
    let mode = if dir.starts_with("/etc") { 0o755 } else { 0o700 };
    let is_new = !dir.exists();
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(dir)
        .and_then(
            |()| if is_new { set_permissions(dir, Permissions::from_mode(mode)) } else { Ok(()) },
        )
        .map_err(failed("make the directory", dir))?;
    let mut made: Vec<String> = Vec::new();
    for (path, mode, text) in &files {
        if let Err(source) = write_one(path, *mode, text) {
            for name in &made {
                let _ = std::fs::remove_file(name);
            }
            return Err(Error::Create { what: "write", path: path.clone(), source });
        }
        made.push(path.display().to_string());
    }
    Ok(made)
}

fn write_one(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    let permitted = file.set_permissions(Permissions::from_mode(mode));
    let written =
        permitted.and_then(|()| file.write_all(text.as_bytes())).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = std::fs::remove_file(path);
    }
    written
}

fn refuse_to_write_over(path: &Path) -> Result<(), Error> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(Error::Refused(Refusal {
        code: Code::CannotCreate.number(),
        message: format!("write {}: it is there already", path.display()),
        hint: Some(
            "`hermes-gw check` explains a configuration; a second one goes into a directory of its own: `--config \
             DIR/config.toml`"
                .into(),
        ),
    }))
}

/// What is left to be done.
fn next(config: &Path, wanted: &Wanted, taken_over: bool, is_named: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if let Agent::Hermes { home, .. } = &wanted.agent {
        let lines = config.with_file_name(HERMES_ENV);
        let (lines, env) = (lines.display(), home.join(".env"));
        let surplus = hermes::surplus(wanted).join(", ");
        let from = if taken_over && !surplus.is_empty() {
            format!(", take {surplus} out of it, or two would read one bot")
        } else {
            String::new()
        };
        notes.push(format!(
            "put the lines of {lines} into {}{from}, and start Hermes anew once the gateway runs",
            env.display()
        ));
    }
    // Where none was named, it is found there.
    let flag = if is_named { format!(" --config {}", config.display()) } else { String::new() };
    // A service of the system is nobody's who could look into root's home.
    notes.push(if user::number() == 0 && !config.starts_with("/etc") {
        format!(
            "run it: `hermes-gw supervise{flag}`; a service of the system needs it elsewhere: `hermes-gw init --config \
             /etc/hermes-gw/config.toml`"
        )
    } else {
        format!(
            "run it: `hermes-gw supervise{flag}`, or as a service: `hermes-gw service install{flag}`"
        )
    });
    notes
}

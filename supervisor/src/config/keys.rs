//! Keys that blocks of several kinds have: the kind itself, what must be set, secrets, a program; and what a block comes
//! to once its keys are read.

use std::path::{Path, PathBuf};

use protocol::id::Instance;
use protocol::worker::Secret;

use super::Surroundings;
use super::block::{Block, Place};
use super::instance::Trouble;
use crate::exit::Code;

/// Something that the file refers to, and that is not there or no good.
#[derive(Debug)]
pub(super) struct Missing {
    pub(super) reason: String,
    /// What helps.
    remedy: &'static str,
}

impl Missing {
    /// It stands in a file.
    pub(super) fn in_file(reason: String) -> Self {
        let remedy = "put it into that file, which this user must be able to read, then `hermes-gw ctl reload`";
        Self { reason, remedy }
    }

    /// It stands in a variable.
    pub(super) fn in_variable(reason: String) -> Self {
        let remedy = "put it into the environment that the supervisor is started with, and start that anew: \
                      no reload changes the environment of a process";
        Self { reason, remedy }
    }
}

/// The kind that `kind` names, or the name of the block if it is absent.
pub(super) fn kind<T: Copy>(name: &Instance, block: &mut Block, kinds: &[(&str, T)]) -> Option<T> {
    if let Some(kind) = kinds.iter().find(|(word, _)| *word == name.as_str()) {
        return block.choice("kind", kinds).or(Some(kind.1));
    }
    let named = block.has("kind");
    let kind = block.choice("kind", kinds);
    // One that is wrong was told of already.
    if kind.is_none() && !named {
        let words: Vec<_> = kinds.iter().map(|(word, _)| *word).collect();
        block.problem(&format!("kind must be set to one of {}", words.join(", ")));
    }
    kind
}

pub(super) fn required(block: &mut Block, key: &'static str) -> Option<String> {
    let text = block.string(key).filter(|text| !text.trim().is_empty());
    if text.is_none() {
        block.problem(&format!("{key} must be set"));
    }
    text
}

/// A secret that must be there.
pub(super) fn secret(
    block: &mut Block,
    place: &Place,
    secrets: &dyn Surroundings,
    file: &'static str,
    variable: &'static str,
) -> Result<Option<Secret>, Missing> {
    let before = block.problem_count();
    let found = optional_secret(block, place, secrets, file, variable)?;
    if found.is_none() && block.problem_count() == before {
        block.problem(&format!("{file} or {variable} must be set"));
    }
    Ok(found)
}

/// A secret in a file or in the environment.
pub(super) fn optional_secret(
    block: &mut Block,
    place: &Place,
    secrets: &dyn Surroundings,
    file: &'static str,
    variable: &'static str,
) -> Result<Option<Secret>, Missing> {
    match (block.path(file, place), block.string(variable)) {
        (Some(path), None) => secret_in_file(secrets, file, &path).map(Some),
        (None, Some(name)) => secret_in_variable(secrets, variable, &name).map(Some),
        (Some(_), Some(_)) => {
            block.problem(&format!("{file} and {variable} exclude one another"));
            Ok(None)
        }
        (None, None) => Ok(None),
    }
}

/// The secret in a file that `key` names.
pub(super) fn secret_in_file(
    secrets: &dyn Surroundings,
    key: &str,
    path: &Path,
) -> Result<Secret, Missing> {
    let found = secrets.file("the secret", path).map(Secret::new);
    let place = format!(" in {}", path.display());
    found.and_then(|secret| one_line(secret, key, &place)).map_err(Missing::in_file)
}

/// The secret in a variable that `key` names.
pub(super) fn secret_in_variable(
    secrets: &dyn Surroundings,
    key: &str,
    name: &str,
) -> Result<Secret, Missing> {
    let found = secrets.variable(name);
    found.and_then(|secret| one_line(secret, key, "")).map_err(Missing::in_variable)
}

fn one_line(secret: Secret, key: &str, place: &str) -> Result<Secret, String> {
    let is_one = !secret.expose().contains(char::is_control);
    let why = "it has several lines, or characters that cannot be seen; a secret is one line";
    is_one.then_some(secret).ok_or_else(|| format!("{key}: read the secret{place}: {why}"))
}

/// A program that we start.
pub(super) struct Program {
    pub(super) command: Vec<String>,
    pub(super) dir: PathBuf,
    pub(super) variables: Vec<(String, Secret)>,
}

/// Its keys.
pub(super) fn program(
    block: &mut Block,
    place: &Place,
    secrets: &dyn Surroundings,
    missing: &mut Option<Missing>,
) -> Program {
    let command = block.strings("command").unwrap_or_default();
    if command.first().is_none_or(String::is_empty) {
        block.problem("command must be set: the program and its arguments, a list of texts");
    }
    let dir = block.path("dir", place).unwrap_or_else(|| place.for_programs());
    let mut variables = Vec::new();
    for name in block.strings("variables").unwrap_or_default() {
        match secrets.variable(&name) {
            Ok(value) => variables.push((name, value)),
            Err(reason) => *missing = Some(Missing::in_variable(reason)),
        }
    }
    Program { command, dir, variables }
}

/// Every problem of a block. Where the kind is unknown, so are its keys.
pub(super) fn finish(
    block: Block,
    kind_unknown: bool,
    missing: Option<Missing>,
) -> Option<Trouble> {
    let missing = missing.map(|Missing { reason, remedy }| Trouble {
        reason: format!("{}{reason}", block.prefix()),
        code: Code::NoInput,
        remedy,
    });
    if kind_unknown {
        let problems = block.finish().err().unwrap_or_default();
        let known: Vec<_> = problems.lines().filter(|line| !line.contains("is no key")).collect();
        return Some(Trouble::wrong(known.join("\n")));
    }
    match (block.finish(), missing) {
        (Ok(()), missing) => missing,
        (Err(problems), None) => Some(Trouble::wrong(problems)),
        (Err(problems), Some(Trouble { reason, .. })) => {
            Some(Trouble::wrong(format!("{problems}\n{reason}")))
        }
    }
}

//! What a program needs that is a platform.

use protocol::worker::Secret;

use crate::config::Surroundings;
use crate::config::block::{Block, Place};
use crate::config::instance::ExecPlatform;
use crate::config::keys::{Missing, Program, program, secret_in_file, secret_in_variable};

/// Reads the program's keys. `missing`: why a secret is not there.
pub(super) fn settings(
    block: &mut Block,
    place: &Place,
    surroundings: &dyn Surroundings,
    missing: &mut Option<Missing>,
) -> ExecPlatform {
    let Program { command, dir, variables } = program(block, place, surroundings, missing);
    let account = block.string("account");
    if account.as_ref().is_some_and(|account| account.trim().is_empty()) {
        block.problem("account must not be empty: leave the key out instead");
    }
    let mut inner = block.table("settings");
    let settings = inner.json().to_string();
    block.absorb(inner);
    let secrets = secrets(block, place, surroundings, missing);
    ExecPlatform { command, dir, variables, account, settings, secrets }
}

/// `NAME_file` or `NAME_env`, under whatever names the program wants.
fn secrets(
    block: &mut Block,
    place: &Place,
    surroundings: &dyn Surroundings,
    missing: &mut Option<Missing>,
) -> Vec<(String, Secret)> {
    let mut inner = block.table("secrets");
    let mut secrets: Vec<(String, Secret)> = Vec::new();
    for (key, text) in inner.entries() {
        let (name, found) = if let Some(name) = key.strip_suffix("_file") {
            let Some(path) = inner.placed(&key, &text, place) else { continue };
            (name, secret_in_file(surroundings, &key, &path))
        } else if let Some(name) = key.strip_suffix("_env") {
            (name, secret_in_variable(surroundings, &key, &text))
        } else {
            inner.problem(&format!(
                "{key:?} must end with _file or _env: a secret stands in a file or in the environment"
            ));
            continue;
        };
        if secrets.iter().any(|(known, _)| known == name) {
            inner.problem(&format!("{name}_file and {name}_env exclude one another"));
        }
        match found {
            Ok(secret) => secrets.push((name.to_owned(), secret)),
            Err(reason) => *missing = Some(reason),
        }
    }
    block.absorb(inner);
    secrets
}

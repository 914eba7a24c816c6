//! A program of the user's that we start: the same for every agent that is one. It belongs to the worker's
//! process group, which is ended as a whole, and dies with its handle.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use protocol::worker::Secret;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use crate::Error;

/// How long the last lines of a program that has ended may take. Something that it has left behind may hold its
/// output: only its own end counts.
pub(super) const LAST_LINES: Duration = Duration::from_secs(2);

/// A program, and our ends of its pipes.
pub(super) struct Program {
    pub(super) child: Child,
    pub(super) input: ChildStdin,
    pub(super) output: ChildStdout,
    pub(super) errors: ChildStderr,
}

/// Starts it in `dir`, not through a shell, with `variables` beyond our own environment. One that is not
/// there, or must not be run, is for a person to mend.
pub(super) fn start(
    command: &[String],
    dir: &Path,
    variables: &[(String, Secret)],
) -> Result<Program, Error> {
    let mut words = command.iter();
    let program = words.next().map_or("", String::as_str);
    let mut command = Command::new(program);
    command.args(words).current_dir(dir).kill_on_drop(true);
    for (name, value) in variables {
        command.env(name, value.expose());
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let what = format!("start {program}");
    let mut child = command.spawn().map_err(|source| match source.kind() {
        ErrorKind::NotFound | ErrorKind::PermissionDenied => {
            Error::Config { what: what.clone(), why: source.to_string() }
        }
        _ => Error::Os { what: what.clone(), source },
    })?;
    match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
        (Some(input), Some(output), Some(errors)) => Ok(Program { child, input, output, errors }),
        _ => Err(Error::Os { what, source: std::io::Error::other("it has no pipes") }),
    }
}

//! A program of the user's that we start: the same for every agent that is one. It belongs to the worker's
//! process group, which is ended as a whole, and dies with its handle.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use protocol::worker::Secret;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use crate::Error;

/// How long the last lines of a program that has ended may take. Something that it has left behind may hold its
/// output: only its own end counts.
pub(super) const LAST_LINES: Duration = Duration::from_secs(2);

/// The longest piece of what it prints that is passed on at once, in bytes.
const PIECE: u64 = 64 * 1024;

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

/// Takes what a program prints, to its end: line by line, a longer one in pieces of at most 64 KiB. The pipe is never
/// closed before: a program that goes on printing would end by that.
pub(super) async fn printed(from: impl AsyncRead + Unpin, mut takes: impl FnMut(&str)) {
    let mut from = BufReader::new(from);
    let mut piece = Vec::new();
    while let Ok(1..) = (&mut from).take(PIECE).read_until(b'\n', &mut piece).await {
        takes(&String::from_utf8_lossy(&piece));
        piece.clear();
    }
}

//! A program of the user's that we start: the same for every agent that is one. It belongs to the worker's
//! process group, which is ended as a whole, and dies with its handle.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use protocol::secret;
use protocol::worker::Secret;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use crate::Error;

/// How long the last lines of a program that has ended may take. Something that it has left behind may hold its
/// output: only its own end counts.
pub(super) const LAST_LINES: Duration = Duration::from_secs(2);

/// The longest piece of what it prints that is passed on at once, in bytes.
const PIECE: u64 = 64 * 1024;
/// Of a longer line, what waits for the next piece, in bytes: no secret is longer.
const KEPT: usize = 4 * 1024;

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
        // Nothing starts there, whichever program it is.
        ErrorKind::NotFound | ErrorKind::NotADirectory if !dir.is_dir() => Error::Config {
            what: what.clone(),
            why: format!("there is no directory {}", dir.display()),
        },
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

/// Takes what a program prints, without secrets, to its end: line by line, a longer one in pieces of at most 64 KiB.
/// The pipe is never closed before: a program that goes on printing would end by that.
pub(super) async fn printed(from: impl AsyncRead + Unpin, mut takes: impl FnMut(&str)) {
    let mut from = BufReader::new(from);
    let mut piece = Vec::new();
    loop {
        let room = PIECE - piece.len() as u64;
        let Ok(1..) = (&mut from).take(room).read_until(b'\n', &mut piece).await else { break };
        let text = String::from_utf8_lossy(&piece);
        let cleaned = secret::clean(&text);
        let is_cut = piece.len() as u64 == PIECE && !piece.ends_with(b"\n");
        let (kept, shown) = if is_cut { seam(&piece, &cleaned) } else { (0, cleaned.len()) };
        takes(cleaned.get(..shown).unwrap_or_default());
        piece.drain(..piece.len() - kept);
    }
}

/// Where to cut a piece of a line so that no secret is torn: the bytes that are kept for the next piece, and how
/// much of the cleaned text goes before them. A secret lies across a cut if what is kept reads otherwise on its own.
fn seam(piece: &[u8], cleaned: &str) -> (usize, usize) {
    let cut = |kept: usize| {
        let tail = piece.get(piece.len() - kept..).unwrap_or_default();
        let is_within = tail.first().is_some_and(|byte| byte & 0xC0 == 0x80);
        let alone = secret::cleaned(String::from_utf8_lossy(tail).into_owned());
        let shown = cleaned.strip_suffix(&alone).filter(|_| !is_within)?;
        Some((kept, shown.len()))
    };
    (KEPT..piece.len() / 2).step_by(KEPT - 1).find_map(cut).unwrap_or((0, cleaned.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wherever a line is too long to be passed on as a whole.
    #[tokio::test]
    async fn no_half_of_a_secret_is_passed_on() {
        let secret = Secret::new("cut-in-the-middle-of-日本");
        let most = usize::try_from(PIECE).unwrap();
        for before in (0..40).map(|more| most - 35 + more).chain([0, most - KEPT - 5, 2 * most - 9])
        {
            let (before, after) = ("é".repeat(before / 2), "x".repeat(3 * most));
            let said = format!("{before}{}{after}\nnext {}", secret.expose(), secret.expose());
            let mut passed = String::new();
            printed(said.as_bytes(), |text| passed.push_str(text)).await;
            assert!(passed == format!("{before}***{after}\nnext ***"), "{}", before.len());
        }
    }
}

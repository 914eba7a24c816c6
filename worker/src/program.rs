//! A program of the user's that we start: the same for every agent and every platform that is one. It belongs to the
//! worker's process group, which is ended as a whole, and dies with its handle.
//!
//! Where one run of it is one life of the worker ([`Running`]), the worker ends when the program does, and the
//! supervisor's rules for restarts apply to both. Its standard error goes on to the gateway's own, line by line and
//! without secrets.

use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use protocol::secret;
use protocol::worker::Secret;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{Error, stderr};

/// How long the last lines of a program that has ended may take. Something that it has left behind may hold its
/// output: only its own end counts.
pub(crate) const LAST_LINES: Duration = Duration::from_secs(2);

/// From the end of its input to the end of the program. Less than our own last breath.
const GRACE: Duration = Duration::from_millis(800);
/// How long what it printed at its end may take to be read.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// The signal by which a process is asked to end: signal(7).
const TERM: i32 = 15;
/// From that to the word on the link, or to our own decision that none will come.
const TOLD: Duration = Duration::from_millis(600);
/// Exit codes by which a program tells what would help: README has the table. Not 75, by which a
/// program would be started again and again without a pause.
const MEANT: [u8; 7] = [64, 66, 69, 71, 73, 77, 78];
/// For every other end: a crash.
const CRASH: u8 = 70;

/// The longest piece of what it prints that is passed on at once, in bytes.
const PIECE: u64 = 64 * 1024;
/// Of a longer line, what waits for the next piece, in bytes: no secret is longer.
const KEPT: usize = 4 * 1024;

/// A program, and our ends of its pipes.
pub(crate) struct Program {
    pub(crate) child: Child,
    pub(crate) input: ChildStdin,
    pub(crate) output: ChildStdout,
    pub(crate) errors: ChildStderr,
}

/// Starts it in `dir`, not through a shell, with `variables` beyond our own environment. One that is not
/// there, or must not be run, is for a person to mend.
pub(crate) fn start(
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

/// A program whose end is ours.
pub(crate) struct Running {
    child: Child,
    printing: JoinHandle<()>,
}

impl Running {
    /// Starts it as [`start`] does: it, and what it says and hears.
    pub(crate) fn start(
        command: &[String],
        dir: &Path,
        variables: &[(String, Secret)],
    ) -> Result<(Self, (ChildStdout, ChildStdin)), Error> {
        let Program { child, input, output, errors } = start(command, dir, variables)?;
        tracing::info!(pid = ?child.id(), program = command.join(" "), "started");
        let printing = tokio::spawn(pass_on(errors, stderr::write));
        Ok((Self { child, printing }, (output, input)))
    }

    /// Does `what` while it runs. `None`: it has ended, and its last lines took too long.
    pub(crate) async fn during<T>(&mut self, what: impl Future<Output = T>) -> Option<T> {
        let mut what = std::pin::pin!(what);
        tokio::select! {
            done = &mut what => Some(done),
            _ = self.child.wait() => tokio::time::timeout(LAST_LINES, what).await.ok(),
        }
    }

    /// Waits until it has ended, and then no longer: its input is closed by now. An error if it was not told to end:
    /// `reason` says what it did.
    pub(crate) async fn end(mut self, reason: &str, stop: &CancellationToken) -> Result<(), Error> {
        let mut status = None;
        if let Ok(left) = tokio::time::timeout(GRACE, self.child.wait()).await {
            status = left.ok();
        } else {
            let _ = self.child.kill().await;
        }
        // Its last words; something that it has left behind may keep them open.
        let _ = tokio::time::timeout(LAST_WORDS, self.printing).await;
        if status.is_some_and(|status| status.success() || status.signal() == Some(TERM)) {
            // Whoever ends us asks our whole group, and it may have been quicker.
            let _ = tokio::time::timeout(TOLD, stop.cancelled()).await;
        }
        if stop.is_cancelled() { Ok(()) } else { Err(ended(reason, status)) }
    }
}

/// Passes on what a program prints, line by line, without secrets. What cannot be printed is read all the same, so
/// that the program does not wait.
async fn pass_on(from: impl AsyncRead + Unpin, mut to: impl FnMut(&[u8])) {
    printed(from, |line| to(line.as_bytes())).await;
}

/// `status` is `None` where it had to be killed.
fn ended(reason: &str, status: Option<ExitStatus>) -> Error {
    let own = status.and_then(|status| status.code()).and_then(|code| u8::try_from(code).ok());
    let code = own.filter(|code| MEANT.contains(code)).unwrap_or(CRASH);
    let why = match status {
        Some(status) => format!("{reason}, {status}"),
        None => format!("{reason}, and was killed"),
    };
    Error::Program { why, code }
}

/// Takes what a program prints, without secrets, to its end: line by line, a longer one in pieces of at most 64 KiB.
/// The pipe is never closed before: a program that goes on printing would end by that.
pub(crate) async fn printed(from: impl AsyncRead + Unpin, mut takes: impl FnMut(&str)) {
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

    #[tokio::test]
    async fn what_a_program_prints_is_passed_on_without_secrets() {
        let secret = Secret::new("printed-by-mistake");
        let said = format!("one\nkey={}\nlast", secret.expose());
        let mut printed = Vec::new();
        pass_on(said.as_bytes(), |text| printed.extend_from_slice(text)).await;
        assert_eq!(String::from_utf8(printed).unwrap(), "one\nkey=***\nlast");
    }

    /// The signal goes to our whole group, and the program may have ended before we are told.
    #[tokio::test]
    async fn a_program_that_is_asked_to_end_together_with_us_has_not_crashed() {
        let ended = async |how: &str, stop: &CancellationToken| {
            let words = ["sh", "-c", how].map(str::to_owned);
            let (mut program, _pipes) = Running::start(&words, Path::new("/"), &[]).unwrap();
            let _ = program.child.wait().await;
            program.end("it left", stop).await
        };
        for how in ["kill -TERM $$", "exit 0"] {
            let stop = CancellationToken::new();
            let stranger = ended(how, &stop).await.unwrap_err();
            assert!(stranger.to_string().starts_with("the program ended: it left, "), "{stranger}");
            let soon = async {
                tokio::time::sleep(TOLD / 10).await;
                stop.cancel();
            };
            // First, so that a machine that stands still for longer than that judges nobody.
            assert!(tokio::join!(biased; soon, ended(how, &stop)).1.is_ok());
        }
    }

    #[test]
    fn a_program_may_tell_what_would_help_and_anything_else_is_a_crash() {
        let code = |raw: i32| ended("it left", Some(ExitStatus::from_raw(raw))).exit_code();
        assert_eq!((code(78 << 8), code(69 << 8), code(71 << 8)), (78, 69, 71));
        assert_eq!((code(0), code(1 << 8), code(75 << 8), code(9)), (70, 70, 70, 70));
        assert_eq!(ended("it left", None).exit_code(), 70);
    }

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

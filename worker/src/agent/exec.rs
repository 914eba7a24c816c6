//! Agent `exec`: a program that we start, which speaks the method set of [`protocol::rpc`] on its
//! standard input and output.
//!
//! One run of the program is one life of this worker: when the program ends, so does the worker, and
//! the supervisor's rules for restarts apply to both. The program belongs to the worker's process
//! group, which is ended as a whole. A program that stays silent although it should have renewed its
//! readiness hangs, and is ended too. Its standard error goes on to the gateway's own, line by line and
//! without secrets.

use std::pin::pin;
use std::process::ExitStatus;
use std::time::Duration;

use protocol::worker::{ExecSettings, FromWorker, Outside, Ready};
use tokio::io::AsyncRead;
use tokio::process::Child;

use super::program::{self, LAST_LINES, Program};
use super::rpc::connection::Connection;
use super::rpc::session::{Ended, Session};
use super::{Agent, Context};
use crate::{Error, stderr};

/// How long the program may be silent when it should speak.
const PATIENCE: Duration = Duration::from_secs(120);
/// From the end of its input to the end of the program. Less than our own last breath.
const GRACE: Duration = Duration::from_millis(800);
/// How long what it printed at its end may take to be read.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Exit codes by which a program tells what would help: README has the table. Not 75, by which a
/// program would be started again and again without a pause.
const MEANT: [u8; 7] = [64, 66, 69, 71, 73, 77, 78];
/// For every other end: a crash.
const CRASH: u8 = 70;

/// The adapter.
#[derive(Debug)]
pub struct Exec {
    settings: ExecSettings,
}

impl Exec {
    /// With its settings.
    pub fn new(settings: ExecSettings) -> Self {
        Self { settings }
    }
}

impl Agent for Exec {
    async fn run(self, mut context: Context) -> Result<(), Error> {
        let ExecSettings { command, dir, variables, .. } = &self.settings;
        let Program { mut child, input, output, errors } = program::start(command, dir, variables)?;
        let printing = tokio::spawn(pass_on(errors, stderr::write));
        let program = self.settings.command.join(" ");
        let pid = child.id();
        tracing::info!(?pid, program, "started");
        context.say.say(FromWorker::Ready(Ready { account: program, idempotent_ms: None })).await;
        let reason = "the program has not introduced itself yet".to_owned();
        context.say.say(FromWorker::Outside(Outside::Down { reason, remedy: None })).await;
        let connection = Connection::new((output, input));
        let mut session = Session::new(connection, self.settings.concurrency);
        let served = {
            let mut serve = pin!(session.serve(&mut context, None, Some(PATIENCE)));
            tokio::select! {
                served = &mut serve => served,
                _ = child.wait() => {
                    let last = tokio::time::timeout(LAST_LINES, serve).await;
                    last.unwrap_or_else(|_| Ended::Gone("it left".to_owned()))
                }
            }
        };
        let ended = match served {
            Ended::Stopped => {
                session.goodbye().await;
                drop(session);
                let _ = end(&mut child).await;
                Ok(())
            }
            Ended::Gone(reason) => {
                drop(session);
                Err(ended(&reason, end(&mut child).await))
            }
            Ended::Replaced(_) => Err(Error::Unexpected("a rival without a door")),
        };
        // Its last words; something that it has left behind may keep them open.
        let _ = tokio::time::timeout(LAST_WORDS, printing).await;
        ended
    }
}

/// Passes on what a program prints, line by line, without secrets. What cannot be printed is read all the same, so
/// that the program does not wait.
async fn pass_on(from: impl AsyncRead + Unpin, mut to: impl FnMut(&[u8])) {
    program::printed(from, |line| to(line.as_bytes())).await;
}

/// Waits for a program whose input has ended, and then no longer. `None`: it had to be killed.
async fn end(child: &mut Child) -> Option<ExitStatus> {
    if let Ok(status) = tokio::time::timeout(GRACE, child.wait()).await {
        return status.ok();
    }
    let _ = child.kill().await;
    None
}

fn ended(reason: &str, status: Option<ExitStatus>) -> Error {
    let own = status.and_then(|status| status.code()).and_then(|code| u8::try_from(code).ok());
    let code = own.filter(|code| MEANT.contains(code)).unwrap_or(CRASH);
    let why = match status {
        Some(status) => format!("{reason}, {status}"),
        None => format!("{reason}, and was killed"),
    };
    Error::Program { why, code }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[tokio::test]
    async fn what_a_program_prints_is_passed_on_without_secrets() {
        let secret = protocol::worker::Secret::new("printed-by-mistake");
        let said = format!("one\nkey={}\nlast", secret.expose());
        let mut printed = Vec::new();
        pass_on(said.as_bytes(), |text| printed.extend_from_slice(text)).await;
        assert_eq!(String::from_utf8(printed).unwrap(), "one\nkey=***\nlast");
    }

    #[test]
    fn a_program_may_tell_what_would_help_and_anything_else_is_a_crash() {
        let code = |raw: i32| ended("it left", Some(ExitStatus::from_raw(raw))).exit_code();
        assert_eq!((code(78 << 8), code(69 << 8), code(71 << 8)), (78, 69, 71));
        assert_eq!((code(0), code(1 << 8), code(75 << 8), code(9)), (70, 70, 70, 70));
        assert_eq!(ended("it left", None).exit_code(), 70);
    }
}

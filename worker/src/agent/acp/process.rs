//! One process of an agent: its lines, what it says to nobody, and its end.
//!
//! Lines are bounded; one that is longer ends the process, since nobody knows where the next one starts.
//! What is no text is skipped. A process that does not read what is written to it ends, too, and its output
//! is not read faster than it is worked on.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::secret;
use protocol::worker::AcpSettings;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin};
use tokio::sync::mpsc;

use super::machine::{Input, Number};
use crate::Error;
use crate::program::{self, LAST_LINES, Program};

/// The longest line.
const LINE_MAX: usize = 16 * 1024 * 1024;
/// Lines that a process may leave unread.
const UNREAD: usize = 256;
/// From the end of its input to the end of the process. Less than our own last breath.
const GRACE: Duration = Duration::from_millis(800);
/// How long all of them may take to say goodbye.
pub(super) const GOODBYE: Duration = Duration::from_millis(1500);
/// Of what it says to nobody, so many lines are kept, each so long.
const WORDS: usize = 3;
const WORD: usize = 200;

/// Where lines for a process go. Its end is the end of the process's input.
pub(super) type Writer = mpsc::Sender<String>;

/// Starts a process. Whatever it says comes by `heard`, its end at last.
pub(super) fn start(
    settings: &AcpSettings,
    number: Number,
    heard: mpsc::Sender<Input>,
) -> Result<Writer, Error> {
    let AcpSettings { command, dir, variables, .. } = settings;
    let Program { child, input, output, errors } = program::start(command, dir, variables)?;
    tracing::info!(number, pid = ?child.id(), program = command.join(" "), "started");
    let (writer, lines) = mpsc::channel(UNREAD);
    let last = Words::default();
    tokio::spawn(listen(errors, last.clone()));
    tokio::spawn(serve(child, input, BufReader::new(output), lines, (number, heard), last));
    Ok(writer)
}

/// The last words of a process on its standard error.
#[derive(Clone, Default)]
struct Words(Arc<Mutex<VecDeque<String>>>);

impl Words {
    fn add(&self, line: &str) {
        let line = line.trim();
        if line.is_empty() {
            return;
        }
        let mut words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        words.push_back(secret::excerpt(line, WORD));
        if words.len() > WORDS {
            words.pop_front();
        }
    }

    fn told(&self) -> String {
        let words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        words.iter().map(String::as_str).collect::<Vec<_>>().join(" | ")
    }
}

/// A pipe that nobody reads would stop the process.
async fn listen(errors: ChildStderr, last: Words) {
    let takes = |line: &str| {
        tracing::debug!(line = line.trim(), "the agent's standard error");
        last.add(line);
    };
    program::printed(errors, takes).await;
}

async fn serve(
    mut child: Child,
    mut input: ChildStdin,
    mut output: impl AsyncBufRead + Unpin,
    mut lines: mpsc::Receiver<String>,
    (number, heard): (Number, mpsc::Sender<Input>),
    last: Words,
) {
    let write = async {
        while let Some(line) = lines.recv().await {
            if let Err(e) = input.write_all(line.as_bytes()).await {
                return format!("it does not read: {e}");
            }
        }
        String::new()
    };
    let read = async {
        let mut line = Vec::new();
        loop {
            match next(&mut output, &mut line, LINE_MAX).await {
                Ok(Some(())) => {
                    let text = String::from_utf8_lossy(&line);
                    let text = text.trim_start_matches('\u{feff}').trim();
                    if text.is_empty() {
                        continue;
                    }
                    if heard.send(Input::Line(number, text.to_owned())).await.is_err() {
                        return "nobody listens".to_owned();
                    }
                }
                Ok(None) => return "it closed its output".to_owned(),
                Err(why) => return why,
            }
        }
    };
    let left = async {
        let _ = child.wait().await;
        tokio::time::sleep(LAST_LINES).await;
        "it left".to_owned()
    };
    let why = tokio::select! {
        why = write => why,
        why = read => why,
        why = left => why,
    };
    drop(input);
    let status = if let Ok(status) = tokio::time::timeout(GRACE, child.wait()).await {
        status.ok()
    } else {
        let _ = child.kill().await;
        None
    };
    let status = status.map_or("killed".to_owned(), |status| status.to_string());
    let parts = [why, status, last.told()];
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let _ = heard.send(Input::Ended(number, parts.join(", "))).await;
}

/// The next line, without its end; `None`: there is no more. A longer one is an error.
async fn next(
    input: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
    most: usize,
) -> Result<Option<()>, String> {
    line.clear();
    loop {
        let some = input.fill_buf().await.map_err(|e| e.to_string())?;
        if some.is_empty() {
            return Ok((!line.is_empty()).then_some(()));
        }
        let end = some.iter().position(|byte| *byte == b'\n');
        let (part, used) = match end {
            Some(at) => (some.get(..at), at + 1),
            None => (some.get(..), some.len()),
        };
        line.extend_from_slice(part.unwrap_or_default());
        input.consume(used);
        if line.len() > most {
            return Err(format!("it sent a line of more than {most} bytes"));
        }
        if end.is_some() {
            return Ok(Some(()));
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::worker::Permission;

    use super::*;

    /// A pipe that is closed would end the agent at its next word.
    #[tokio::test]
    async fn a_long_line_on_standard_error_costs_no_agent() {
        let script = "head -c 300000 /dev/zero | tr '\\0' x >&2; echo >&2; echo last word >&2; \
                      echo alive; read -r line; exit 3";
        let settings = AcpSettings {
            command: ["sh", "-c", script].map(str::to_owned).into(),
            dir: "/".into(),
            variables: Vec::new(),
            processes: 1,
            turns: 1,
            permission: Permission::Ask,
            permission_s: 1,
            silent_s: 1,
            turn_limit_s: 1,
            own_commands: false,
        };
        let (heard, mut hears) = mpsc::channel(8);
        let writer = start(&settings, 1, heard).unwrap();
        let first = hears.recv().await.unwrap();
        assert!(matches!(&first, Input::Line(1, line) if line == "alive"), "{first:?}");
        drop(writer);
        let last = hears.recv().await.unwrap();
        assert!(matches!(&last, Input::Ended(1, why) if why.contains("last word")), "{last:?}");
    }

    #[tokio::test]
    async fn lines_are_bounded_and_what_is_left_at_the_end_is_one() {
        let mut input = BufReader::with_capacity(3, &b"one\n\ntwo\r\nthree"[..]);
        let mut line = Vec::new();
        let mut found = Vec::new();
        while next(&mut input, &mut line, 9).await.unwrap().is_some() {
            found.push(String::from_utf8(line.clone()).unwrap());
        }
        assert_eq!(found, ["one", "", "two\r", "three"]);
        let mut long = BufReader::with_capacity(3, &b"0123456789\n"[..]);
        assert!(next(&mut long, &mut line, 9).await.is_err());
    }
}

//! A simulated platform as a program: commands come as JSON lines on stdin, observations leave as JSON lines on
//! stdout. It ends when stdin ends.

use std::io::Write as _;
use std::process::ExitCode;

use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// What the command line means, or how the program ends for it.
pub fn arguments<T>(
    name: &str,
    help: &str,
    parse: impl FnOnce(&[String]) -> Result<T, String>,
) -> Result<T, ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--help" || word == "-h") {
        print(help.trim_end());
        return Err(ExitCode::SUCCESS);
    }
    parse(&words).map_err(|why| fail(name, 64, &format!("{why}; see --help")))
}

/// Obeys each line, and tells its answer and what was observed. `observed` waits for observations beyond the
/// first so many.
pub async fn serve<T: Serialize>(
    mut obey: impl AsyncFnMut(&str) -> Value,
    observed: impl AsyncFn(usize) -> Vec<T>,
) -> ExitCode {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut seen = 0;
    loop {
        tokio::select! {
            line = lines.next_line() => match line {
                Ok(Some(line)) if line.trim().is_empty() => {}
                Ok(Some(line)) => print(&obey(&line).await.to_string()),
                Ok(None) | Err(_) => return ExitCode::SUCCESS,
            },
            entries = observed(seen) => {
                seen += entries.len();
                for entry in entries {
                    print(&serde_json::to_string(&entry).expect("an entry is plain data"));
                }
            }
        }
    }
}

/// Writes a line.
pub fn print(line: &str) {
    let mut stdout = std::io::stdout().lock();
    // Whoever stops reading has stopped caring; the end of stdin follows.
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// Says why the program ends, and with which code.
pub fn fail(name: &str, code: u8, why: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr().lock(), "{name}: {why}");
    ExitCode::from(code)
}

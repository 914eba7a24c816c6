//! The terminal of a person.

use std::io::{self, BufRead, ErrorKind};

use nix::sys::signal::{Signal, raise};
use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};

/// What is typed is not shown until this goes.
#[derive(Debug)]
struct Hidden(Termios);

impl Hidden {
    /// Standard input no longer shows what is typed, but for the end of each line. Ctrl-C ends a line, too: as a signal
    /// it would leave the terminal like this.
    fn begin() -> io::Result<Self> {
        let stdin = io::stdin();
        let before = termios::tcgetattr(&stdin)?;
        let mut now = before.clone();
        now.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
        now.local_modes.insert(LocalModes::ECHONL);
        now.special_codes[SpecialCodeIndex::VEOL] = before.special_codes[SpecialCodeIndex::VINTR];
        termios::tcsetattr(&stdin, OptionalActions::Flush, &now)?;
        Ok(Self(before))
    }

    fn interrupt(&self) -> u8 {
        self.0.special_codes[SpecialCodeIndex::VINTR]
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// A line of standard input, which is a terminal, with its end; empty where the input has ended. It is not shown while it
/// is typed.
///
/// # Errors
///
/// What keeps the terminal from being read. Ctrl-C does what it does elsewhere.
pub fn hidden_line() -> io::Result<String> {
    let hidden = Hidden::begin()?;
    let ends = [b'\n', hidden.interrupt()];
    let (mut line, mut stdin) = (Vec::new(), io::stdin().lock());
    loop {
        let found = match stdin.fill_buf() {
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            found => found?,
        };
        let end = found.iter().position(|byte| ends.contains(byte));
        let taken = end.map_or(found.len(), |at| at + 1);
        line.extend(found.iter().take(taken));
        stdin.consume(taken);
        if end.is_some() || taken == 0 {
            break;
        }
    }
    let is_interrupted = line.last() == Some(&hidden.interrupt());
    drop(hidden);
    if is_interrupted {
        raise(Signal::SIGINT)?;
    }
    String::from_utf8(line).map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is no text"))
}

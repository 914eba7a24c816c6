//! A terminal that types faster than anybody: `local` events, a number of them in flight.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use protocol::local::{FromTerminal, ToTerminal};

use super::stats::Slice;
use super::{PATIENCE, clock, fault};

/// The bytes of one text.
const TEXT: usize = 1024;
/// The random letters that texts are cut from.
const POOL: usize = 1 << 20;

/// A connection to a worker of kind `local`.
pub(super) struct Terminal {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
    pool: String,
    run: u64,
    said: u64,
    under_way: HashMap<String, Instant>,
    lines: Vec<u8>,
}

impl Terminal {
    /// Connects and joins a conversation; waits for the worker to listen.
    pub(super) fn join(socket: &Path, chat: &str) -> io::Result<Self> {
        let connect = || UnixStream::connect(socket).ok();
        let writer = clock::until("the terminal's socket", PATIENCE, connect)?;
        writer.set_read_timeout(Some(PATIENCE))?;
        let mut random = fastrand::Rng::new();
        let mut terminal = Self {
            reader: BufReader::new(writer.try_clone()?),
            writer,
            pool: (0..POOL).map(|_| random.alphanumeric()).collect(),
            run: random.u64(..),
            said: 0,
            under_way: HashMap::new(),
            lines: Vec::new(),
        };
        terminal.switch(chat)?;
        Ok(terminal)
    }

    /// What is said from now on belongs to this conversation.
    pub(super) fn switch(&mut self, chat: &str) -> io::Result<()> {
        self.put(&FromTerminal::Join { chat: chat.into(), user: "bench".into(), confirms: false })?;
        self.write()?;
        while self.read()? != ToTerminal::Joined {}
        Ok(())
    }

    /// A line such as those that are sent, for the baseline.
    pub(super) fn sample(&mut self) -> io::Result<Vec<u8>> {
        self.say()?;
        self.under_way.clear();
        Ok(std::mem::take(&mut self.lines))
    }

    /// Says one thing and waits for the agent's answer.
    pub(super) fn talk(&mut self) -> io::Result<()> {
        self.say()?;
        self.write()?;
        while !matches!(self.read()?, ToTerminal::Message { .. }) {}
        self.under_way.clear();
        Ok(())
    }

    /// Keeps `depth` texts in flight for a while.
    pub(super) fn run(&mut self, depth: usize, length: Duration) -> io::Result<Slice> {
        let since = clock::now();
        self.keep(depth, |_| clock::now().duration_since(since) < length)
    }

    /// Says this many texts, `depth` in flight.
    pub(super) fn pour(&mut self, depth: usize, count: usize) -> io::Result<Slice> {
        self.keep(depth, |accepted| accepted + depth <= count)
    }

    /// Keeps `depth` texts in flight while `on`, which is told how many are accepted.
    fn keep(&mut self, depth: usize, on: impl Fn(usize) -> bool) -> io::Result<Slice> {
        let since = clock::now();
        let mut times = Vec::new();
        for _ in 0..depth {
            self.say()?;
        }
        self.write()?;
        while !self.under_way.is_empty() {
            loop {
                if let ToTerminal::Accepted { id } = self.read()? {
                    let now = clock::now();
                    let then = self.under_way.remove(&id);
                    let then = then.ok_or_else(|| fault("accepted what nobody said"))?;
                    times.push(clock::ms(now.duration_since(then)));
                    if on(times.len()) {
                        self.say()?;
                    }
                }
                // What has come together is answered together.
                if !self.reader.buffer().contains(&b'\n') {
                    break;
                }
            }
            self.write()?;
        }
        Ok(Slice::of(&times, 1, clock::now().duration_since(since).as_secs_f64()))
    }

    fn say(&mut self) -> io::Result<()> {
        let id = format!("{:016x}-{}", self.run, self.said);
        let start = fastrand::usize(..POOL - TEXT);
        let text = self.pool.get(start..start + TEXT).unwrap_or_default().to_owned();
        self.said += 1;
        self.under_way.insert(id.clone(), clock::now());
        self.put(&FromTerminal::Say { id, text })
    }

    fn put(&mut self, line: &FromTerminal) -> io::Result<()> {
        serde_json::to_writer(&mut self.lines, line)?;
        self.lines.push(b'\n');
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        self.writer.write_all(&self.lines)?;
        self.lines.clear();
        Ok(())
    }

    fn read(&mut self) -> io::Result<ToTerminal> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(fault("the worker hung up"));
        }
        match serde_json::from_str(&line)? {
            ToTerminal::Refused { id } => Err(fault(format!("the gateway refused {id}"))),
            ToTerminal::Problem { reason } => Err(fault(reason)),
            heard => Ok(heard),
        }
    }
}

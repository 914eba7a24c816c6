//! Measuring the real program: what `gw-bench` runs.
//!
//! Disks and machines are noisy, so a figure counts only as a ratio to a baseline that was measured in
//! the same run: both take turns in short slices, and what is told is the median over the rounds. Each
//! measurement starts supervisors of its own on a scratch directory; they hold a leash of this process
//! and end with it, however it goes.

mod agent;
mod agents;
pub mod clock;
mod delivery;
mod facts;
mod feishu;
pub(crate) mod gateway;
mod hooks;
mod ingest;
pub mod link;
mod machine;
mod memory;
mod million;
mod raw;
pub(crate) mod stats;
mod syncs;
mod table;
mod terminal;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use machine::{file_system, line as machine_line};
pub use table::{Row, Table};

/// Longer than anything takes on a slow machine: who waits so long has found a fault.
const PATIENCE: Duration = Duration::from_secs(30);
/// After a start or a burst: the store rests after ten seconds, and what is not needed any more is given back
/// twice a minute.
const AT_REST: Duration = Duration::from_secs(70);

/// Where and how long to measure.
#[derive(Debug)]
pub struct Bench {
    /// The program and its directories.
    pub ground: Ground,
    /// This program, for the other ends of links.
    pub own: PathBuf,
    /// How often each slice is repeated.
    pub rounds: usize,
    /// The length of a slice.
    pub slice: Duration,
    /// Only this many events in flight, for who looks into it with a profiler.
    pub depth: Option<usize>,
    /// How much longer than on this disk each sync is to take.
    pub longer: Option<Duration>,
}

/// What a gateway of the real program needs.
#[derive(Debug)]
pub struct Ground {
    /// The program.
    pub program: PathBuf,
    /// Where states and raw files lie: on the disk in question.
    pub disk: Scratch,
    /// Where sockets lie: a short path.
    pub sockets: Scratch,
    last_words: LastWords,
}

/// The end of the log of the gateway that ended last.
type LastWords = Arc<Mutex<String>>;

impl Ground {
    /// The program beside `own`, and scratch directories; states below `dir` or beside the program.
    pub fn beside(own: &Path, dir: Option<&Path>) -> io::Result<Self> {
        let beside = own.parent().unwrap_or(Path::new("."));
        let program = beside.join("hermes-gw");
        if !program.exists() {
            let why = format!("{} is not there; build the workspace first", program.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, why));
        }
        let disk = Scratch::below(dir.or(beside.parent()).unwrap_or(Path::new(".")), "state")?;
        let sockets = Scratch::below(&std::env::temp_dir(), "sockets")?;
        Ok(Self { program, disk, sockets, last_words: LastWords::default() })
    }

    /// What went wrong, with the end of the log of the gateway with which it did.
    pub fn explain(&self, e: io::Error) -> io::Error {
        let last_words = self.last_words();
        if last_words.is_empty() {
            return e;
        }
        fault(format!("{e}\n--- the end of the gateway's log\n{last_words}"))
    }

    fn last_words(&self) -> String {
        std::mem::take(&mut *self.last_words.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One measurement: it adds its rows to the table.
pub type Measure = fn(&Bench, &mut Table) -> io::Result<()>;

/// What can be measured by name, in the order in which it is.
pub const MEASURES: [(&str, Measure); 8] = [
    ("ingest", ingest::measure),
    ("delivery", delivery::measure),
    ("link", link::measure),
    ("memory", memory::measure),
    ("facts", facts::measure),
    ("feishu", feishu::measure),
    ("hooks", hooks::measure),
    ("agents", agents::measure),
];

/// A million waiting events: minutes, so only when asked for.
pub const MILLION: (&str, Measure) = ("million", million::measure);

/// A directory that is removed with its value.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes a directory of this process below `parent`, for `what`.
    pub fn below(parent: &Path, what: &str) -> io::Result<Self> {
        let path = parent.join(format!("gw-{what}-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path.canonicalize()?))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A new directory in it.
    fn make(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.0.join(name);
        std::fs::create_dir_all(&path)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Something is not as it must be to be measured.
pub(crate) fn fault(what: impl Into<String>) -> io::Error {
    io::Error::other(what.into())
}

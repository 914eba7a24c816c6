//! What a disk can do at best: append a group, sync it, append the next.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::clock;
use super::stats::Slice;

/// A file that grows by groups. It is removed with its value.
pub(super) struct Raw {
    file: File,
    path: PathBuf,
    group: Vec<u8>,
    records: usize,
    longer: Duration,
}

impl Raw {
    /// Appends to a new file in `dir`, `records` times `record` in one group.
    pub(super) fn new(dir: &Path, record: &[u8], records: usize) -> io::Result<Self> {
        let path = dir.join(format!("raw-{records}"));
        let (file, group) = (File::create(&path)?, record.repeat(records));
        Ok(Self { file, path, group, records, longer: Duration::ZERO })
    }

    /// The same on a disk of which each sync takes so much longer.
    pub(super) fn on_slower(mut self, longer: Option<Duration>) -> Self {
        self.longer = longer.unwrap_or_default();
        self
    }

    /// Does so for a while; the rate is that of records.
    pub(super) fn run(&mut self, length: Duration) -> io::Result<Slice> {
        let (since, mut times) = (clock::now(), Vec::new());
        loop {
            times.push(self.group()?);
            let passed = clock::now().duration_since(since);
            if passed >= length {
                return Ok(Slice::of(&times, self.records, passed.as_secs_f64()));
            }
        }
    }

    /// Appends one group. The milliseconds until it was synced.
    pub(super) fn group(&mut self) -> io::Result<f64> {
        let since = clock::now();
        self.file.write_all(&self.group)?;
        if !self.longer.is_zero() {
            clock::pause(self.longer);
        }
        self.file.sync_data()?;
        Ok(clock::ms_since(since))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

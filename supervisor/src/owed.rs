//! Commands that came from within and whose outcome nobody has been told yet: whoever asked may be the very
//! one that is ended, and with it the supervisor.
//!
//! A small file in the state directory, synced before the command is answered. One that is missing or
//! damaged is an empty one, and one that cannot be written keeps no command from being carried out.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use protocol::event::Inbound;
use protocol::id::Instance;
use serde::{Deserialize, Serialize};

/// A report that is owed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Its name, the same however often it is tried.
    pub id: String,
    /// What was asked for, for people.
    pub wish: String,
    /// Which instance asked.
    pub from: Instance,
    /// When, in Unix milliseconds.
    pub asked_ms: i64,
    /// Whether it was begun.
    pub begun: bool,
    /// Where to tell it: the platform instance, and an event of the conversation in which it was asked for,
    /// without what it says. None: it was asked for in no conversation.
    pub place: Option<(Instance, Box<Inbound>)>,
}

/// All of them.
#[derive(Debug)]
pub struct Owed {
    path: PathBuf,
    reports: Vec<Report>,
}

impl Owed {
    /// As the file in `dir` tells. The caller holds the instance lock.
    pub fn open(dir: &Path) -> Self {
        let path = dir.join("owed.json");
        let text = std::fs::read(&path).unwrap_or_default();
        Self { path, reports: serde_json::from_slice(&text).unwrap_or_default() }
    }

    /// All, oldest first.
    pub fn all(&self) -> &[Report] {
        &self.reports
    }

    /// One.
    pub fn find(&self, id: &str) -> Option<&Report> {
        self.reports.iter().find(|report| report.id == id)
    }

    /// One more.
    pub fn add(&mut self, report: Report) {
        self.reports.push(report);
        self.write();
    }

    /// What was asked for is done from now on.
    pub fn begin(&mut self, id: &str) {
        if let Some(report) = self.reports.iter_mut().find(|report| report.id == id) {
            report.begun = true;
            self.write();
        }
    }

    /// It was told.
    pub fn settle(&mut self, id: &str) {
        let before = self.reports.len();
        self.reports.retain(|report| report.id != id);
        if self.reports.len() < before {
            self.write();
        }
    }

    fn write(&self) {
        if let Err(e) = self.try_to_write() {
            tracing::warn!(path = %self.path.display(), error = %e, "cannot note a command from within");
        }
    }

    fn try_to_write(&self) -> io::Result<()> {
        let aside = self.path.with_extension("new");
        let mut file = File::create(&aside)?;
        file.write_all(&serde_json::to_vec(&self.reports)?)?;
        file.sync_data()?;
        std::fs::rename(&aside, &self.path)?;
        self.path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(id: &str) -> Report {
        Report {
            id: id.into(),
            wish: "restart feishu".into(),
            from: Instance::new("hermes").unwrap(),
            asked_ms: 5,
            begun: false,
            place: None,
        }
    }

    #[test]
    fn what_is_owed_outlives_the_supervisor_until_it_is_told() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("owed.json"), "[{damaged").unwrap();
        let mut owed = Owed::open(dir.path());
        assert!(owed.all().is_empty());
        owed.add(report("a"));
        owed.add(report("b"));
        owed.begin("a");
        let mut next = Owed::open(dir.path());
        let found: Vec<_> = next.all().iter().map(|one| (one.id.as_str(), one.begun)).collect();
        assert_eq!(found, [("a", true), ("b", false)]);
        next.settle("a");
        let last = Owed::open(dir.path());
        assert!(last.find("a").is_none() && last.find("b").is_some());
    }
}

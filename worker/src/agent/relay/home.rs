//! The agent's own directory: whether it can be read, and what its state file tells.
//!
//! A worker may open only what was there when it began. A directory that is made, or made anew, later is
//! there for its successor, so such a worker ends as soon as that disturbs nobody.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::connector::Process;

/// A larger state file is none.
const STATE_MAX: u64 = 1024 * 1024;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    Readable,
    Absent,
    Shut,
}

/// The directory, as it was configured.
#[derive(Debug)]
pub(super) struct Home {
    path: PathBuf,
    began: Standing,
    now: Standing,
}

impl Home {
    /// As it is when the worker begins.
    pub(super) fn new(path: PathBuf) -> Self {
        let began = standing(&path);
        Self { path, began, now: began }
    }

    /// Looks again.
    pub(super) fn look(&mut self) {
        self.now = standing(&self.path);
    }

    /// What is wrong with it.
    pub(super) fn trouble(&self) -> Option<String> {
        let path = self.path.display();
        match self.now {
            Standing::Readable => None,
            Standing::Absent => Some(format!("home {path} is not there")),
            Standing::Shut => Some(format!("home {path} cannot be read")),
        }
    }

    /// Whether another worker may be able to read it.
    pub(super) fn wants_successor(&self) -> bool {
        self.now == Standing::Shut && self.began != Standing::Shut
    }

    /// What the agent's state file tells. It is small and local: reading it takes no time worth a thread.
    pub(super) fn process(&self) -> Option<Process> {
        let path = self.path.join("gateway_state.json");
        let size = std::fs::metadata(&path).ok()?.len();
        let text = (size <= STATE_MAX).then(|| std::fs::read(&path).ok()).flatten()?;
        process(&text)
    }
}

fn standing(path: &Path) -> Standing {
    match std::fs::read_dir(path) {
        Ok(_) => Standing::Readable,
        Err(e) if e.kind() == ErrorKind::NotFound => Standing::Absent,
        Err(_) => Standing::Shut,
    }
}

fn process(text: &[u8]) -> Option<Process> {
    let state: serde_json::Value = serde_json::from_slice(text).ok()?;
    let (pid, start) = (state.get("pid")?.as_u64()?, state.get("start_time")?);
    let active = state.get("active_agents").and_then(serde_json::Value::as_u64).unwrap_or(0);
    (!start.is_null()).then(|| Process { identity: format!("{pid} {start}"), active })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_file_that_tells_nothing_is_none() {
        let told = br#"{"pid":7,"start_time":12.5,"active_agents":2,"later":1}"#;
        let expected = Process { identity: "7 12.5".into(), active: 2 };
        assert_eq!(process(told), Some(expected));
        for nothing in [&b"{"[..], b"[]", br#"{"pid":7}"#, br#"{"pid":7,"start_time":null}"#] {
            assert_eq!(process(nothing), None);
        }
    }

    #[test]
    fn a_directory_that_is_not_there_is_named_until_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("home");
        let mut home = Home::new(path.clone());
        let named = format!("home {} is not there", path.display());
        assert_eq!(home.trouble(), Some(named));
        std::fs::create_dir(&path).unwrap();
        home.look();
        assert_eq!(home.trouble(), None);
        // A worker that is confined may not open what was made since.
        let can = |began, now| Home { path: path.clone(), began, now }.wants_successor();
        assert!(can(Standing::Absent, Standing::Shut) && can(Standing::Readable, Standing::Shut));
        assert!(!can(Standing::Shut, Standing::Shut), "another one cannot either");
        assert!(!can(Standing::Absent, Standing::Absent));
    }
}

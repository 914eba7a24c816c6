//! How often workers were started lately, also by supervisors before this one: a gateway that is itself
//! started again and again must not log in at a platform each time, since platforms count logins and
//! shut out who has too many.
//!
//! A small file in the state directory. One that is missing or damaged is an empty one, and one that
//! cannot be written keeps nobody from starting.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// At most so many starts of one instance…
pub const MOST: usize = 30;
/// …within so many milliseconds.
pub const WITHIN_MS: i64 = 10 * 60 * 1000;

/// The starts that still count.
#[derive(Debug)]
pub struct Starts {
    path: PathBuf,
    /// Unix milliseconds, since they must be understood after a reboot.
    at_ms: BTreeMap<String, Vec<i64>>,
}

impl Starts {
    /// As the file in `dir` tells. The caller holds the instance lock.
    pub fn open(dir: &Path) -> Self {
        let path = dir.join("starts.json");
        let text = std::fs::read(&path).unwrap_or_default();
        Self { path, at_ms: serde_json::from_slice(&text).unwrap_or_default() }
    }

    /// One more start; false: too many, and it is not counted.
    pub fn may(&mut self, instance: &str, now_ms: i64) -> bool {
        let starts = self.at_ms.entry(instance.to_owned()).or_default();
        // A clock that was set back makes no start of the future.
        starts.retain(|at| (now_ms - WITHIN_MS..=now_ms).contains(at));
        if starts.len() >= MOST {
            return false;
        }
        starts.push(now_ms);
        self.write();
        true
    }

    /// A person has acted: former starts do not count.
    pub fn forgive(&mut self, instance: &str) {
        if self.at_ms.remove(instance).is_some() {
            self.write();
        }
    }

    fn write(&self) {
        let written = serde_json::to_vec(&self.at_ms).map_err(std::io::Error::from);
        let aside = self.path.with_extension("new");
        let written = written.and_then(|text| std::fs::write(&aside, text));
        if let Err(e) = written.and_then(|()| std::fs::rename(&aside, &self.path)) {
            tracing::warn!(path = %self.path.display(), error = %e, "cannot note a start");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_count_beyond_the_life_of_a_supervisor() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("starts.json"), "{damaged").unwrap();
        for n in 0..30 {
            // A new supervisor each time.
            assert!(Starts::open(dir.path()).may("feishu", n), "{n}");
        }
        let mut starts = Starts::open(dir.path());
        assert!(!starts.may("feishu", 31) && starts.may("other", 31));
        assert!(starts.may("feishu", WITHIN_MS + 1), "the first ones are long ago");
        starts.forgive("feishu");
        assert!(Starts::open(dir.path()).may("feishu", 40));
        assert!(Starts::open(dir.path()).may("feishu", -1), "a clock that was set back");
    }
}

//! How often workers were started lately, also by supervisors before this one: a gateway that is itself
//! started again and again must not log in at a platform each time, since platforms count logins and
//! shut out who has too many. So many starts are free; then there is one a minute, which is little for a
//! platform, and no long silence where each start would have been a good one.
//!
//! A small file in the state directory. One that is missing or damaged is an empty one, and one that
//! cannot be written keeps nobody from starting.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// So many starts of one instance…
pub const FREE: usize = 30;
/// …within so many milliseconds are free.
pub const WITHIN_MS: i64 = 10 * 60 * 1000;
/// From one to the next, where more are wanted, in milliseconds.
const PACE_MS: i64 = 60 * 1000;

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

    /// One more start.
    pub fn note(&mut self, instance: &str, now_ms: i64) {
        let starts = self.at_ms.entry(instance.to_owned()).or_default();
        forget(starts, now_ms);
        starts.push(now_ms);
        self.write();
    }

    /// How long until the next start is due: never longer than the pace, however the clock was set.
    pub fn wait(&mut self, instance: &str, now_ms: i64) -> Option<Duration> {
        let starts = self.at_ms.get_mut(instance)?;
        forget(starts, now_ms);
        let first = starts.get(starts.len().checked_sub(FREE)?)?;
        let paced = starts.iter().max()?.saturating_add(PACE_MS);
        let due = paced.min(first.saturating_add(WITHIN_MS));
        u64::try_from(due - now_ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis)
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

/// What was long ago does not count, nor what a clock that was set back makes a start of the future.
fn forget(starts: &mut Vec<i64>, now_ms: i64) {
    starts.retain(|at| (now_ms.saturating_sub(WITHIN_MS)..=now_ms).contains(at));
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    #[test]
    fn starts_count_beyond_the_life_of_a_supervisor_and_beyond_the_free_ones_have_a_pace() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("starts.json"), "{damaged").unwrap();
        for n in 0..30 {
            // A new supervisor each time.
            let mut starts = Starts::open(dir.path());
            assert_eq!(starts.wait("feishu", n), None, "{n}");
            starts.note("feishu", n);
        }
        let mut starts = Starts::open(dir.path());
        assert_eq!(starts.wait("feishu", 29), Some(Duration::from_secs(60)));
        assert_eq!(starts.wait("feishu", 29 + MINUTE / 2), Some(Duration::from_secs(30)));
        assert_eq!(starts.wait("feishu", 29 + MINUTE), None);
        assert_eq!(starts.wait("other", 29), None);
        starts.note("feishu", 29 + MINUTE);
        assert_eq!(starts.wait("feishu", 30 + MINUTE), Some(Duration::from_millis(59_999)));
        // The first ones are long ago by then.
        assert_eq!(starts.wait("feishu", WITHIN_MS + 2), None);
        starts.forgive("feishu");
        assert_eq!(Starts::open(dir.path()).wait("feishu", 30 + MINUTE), None);
    }

    #[test]
    fn however_the_clock_is_set_nobody_waits_for_longer_than_the_pace() {
        let dir = tempfile::tempdir().unwrap();
        let mut starts = Starts::open(dir.path());
        let now = 1_900_000_000_000;
        for n in 0..100 {
            starts.note("feishu", now + n);
        }
        for set in
            [i64::MIN, -1, 0, now - MINUTE, now, now + 50, now + MINUTE, now + WITHIN_MS, i64::MAX]
        {
            let text = std::fs::read(dir.path().join("starts.json")).unwrap();
            let wait = Starts::open(dir.path()).wait("feishu", set).unwrap_or_default();
            assert!(wait <= Duration::from_secs(60), "{set}: {wait:?}");
            assert_eq!(std::fs::read(dir.path().join("starts.json")).unwrap(), text);
        }
        // Whatever stands in the file.
        std::fs::write(
            dir.path().join("starts.json"),
            format!("{{\"feishu\":{:?}}}", vec![i64::MAX; 99]),
        )
        .unwrap();
        assert_eq!(Starts::open(dir.path()).wait("feishu", now), None);
    }
}

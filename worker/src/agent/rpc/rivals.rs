//! Others that dial in while an agent is connected and ready: they are turned away, again and again, and a
//! person is told until they stay away. Pure.

use std::time::Duration;

use protocol::worker::Outside;

use crate::clock::Instant;

/// One that was turned away dials again sooner than that.
const QUIET: Duration = Duration::from_secs(60);

/// What is known of them.
#[derive(Debug, Default)]
pub(super) struct Rivals {
    until: Option<Instant>,
}

impl Rivals {
    /// One is turned away: what is to be told, if it is news.
    pub(super) fn came(&mut self, pid: Option<u32>, now: Instant) -> Option<Outside> {
        let is_news = self.until.replace(now + QUIET).is_none();
        is_news.then(|| {
            let who = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
            Outside::Limited {
                reason: format!("a second agent{who} is turned away while the first one is ready"),
                remedy: Some("end one of the two, or give each an [agent.…] of its own".to_owned()),
            }
        })
    }

    /// When they have stayed away for long enough.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// They have.
    pub(super) fn stay_away(&mut self) -> Outside {
        self.until = None;
        Outside::Up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_dials_in_vain_is_told_of_once_until_it_stays_away() {
        let now = crate::clock::now();
        let mut rivals = Rivals::default();
        assert_eq!(rivals.until(), None);
        let told = rivals.came(Some(7), now);
        let Some(Outside::Limited { reason, .. }) = told else { panic!("{told:?}") };
        assert!(reason.contains("(pid 7)"), "{reason}");
        let later = now + QUIET / 2;
        assert_eq!(rivals.came(Some(8), later), None);
        assert_eq!(rivals.until(), Some(later + QUIET));
        assert_eq!((rivals.stay_away(), rivals.until()), (Outside::Up, None));
        assert!(rivals.came(None, later).is_some(), "news again");
    }
}

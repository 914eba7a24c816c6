//! How the platform is, as people are told it: at once if it has not changed for a while, and ever more rarely while it
//! goes on changing, since each change is told to logs and hooks. What is told is always what was said last. Pure.

use std::time::Duration;

use protocol::worker::Outside;

use crate::clock::Instant;

/// From one change to the next, at first and at most. After as much peace as that it begins anew.
const FIRST: Duration = Duration::from_millis(250);
const MOST: Duration = Duration::from_secs(60);

/// What is said, and what of that is told.
pub(super) struct News {
    said: Option<Outside>,
    told: Option<Outside>,
    pause: Duration,
    /// Nothing is told sooner.
    next: Instant,
}

impl News {
    pub(super) fn new(now: Instant) -> Self {
        Self { said: None, told: None, pause: FIRST, next: now }
    }

    /// Whether the platform is heard, as it was last said.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.said, Some(Outside::Up | Outside::Limited { .. }))
    }

    /// Why it is not, if so.
    pub(super) fn trouble(&self) -> Option<&str> {
        match &self.said {
            Some(Outside::Down { reason, .. }) => Some(reason),
            _ => None,
        }
    }

    /// It is like that by now.
    pub(super) fn say(&mut self, outside: Outside) {
        self.said = Some(outside);
    }

    /// People know already that it is up.
    pub(super) fn is_told_up(&mut self) {
        self.told = Some(Outside::Up);
    }

    /// When there is something to tell.
    pub(super) fn due(&self) -> Option<Instant> {
        (self.said != self.told).then_some(self.next)
    }

    /// What is to be told now.
    pub(super) fn tell(&mut self, now: Instant) -> Option<Outside> {
        self.due().filter(|due| *due <= now)?;
        let is_peace = now.saturating_duration_since(self.next) >= MOST;
        self.pause = if is_peace { FIRST } else { MOST.min(self.pause * 2) };
        self.next = now + self.pause;
        self.told.clone_from(&self.said);
        self.told.clone()
    }
}

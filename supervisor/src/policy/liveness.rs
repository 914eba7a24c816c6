//! Whether a worker's event loop still turns: its heartbeats, judged by the supervisor's own clock.
//!
//! A pause of the supervisor itself (stopped, swapped out, suspended) is no evidence against anybody:
//! the shell reports it and it is taken off every wait. The silence of users proves nothing either; it
//! never comes here.

use std::time::{Duration, Instant};

/// The last sign of life of one worker.
#[derive(Clone, Copy, Debug)]
pub struct Liveness {
    last: Instant,
    limit: Duration,
}

impl Liveness {
    /// Alive at `now`; stale after `limit` without a heartbeat.
    pub fn new(limit: Duration, now: Instant) -> Self {
        Self { last: now, limit }
    }

    /// A heartbeat arrived.
    pub fn beat(&mut self, now: Instant) {
        self.last = self.last.max(now);
    }

    /// The supervisor itself did not run for `pause`.
    pub fn discount(&mut self, pause: Duration) {
        self.last += pause;
    }

    /// When the worker becomes stale.
    pub fn deadline(&self) -> Instant {
        self.last + self.limit
    }
}

//! Whether the agent endpoint takes events: a lease that it renews, not an event that it once sent.

use std::time::{Duration, Instant};

/// The readiness of one agent endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gate {
    open_until: Option<Instant>,
}

impl Gate {
    /// The agent promises to be ready for `ttl` from `now`.
    pub fn renew(&mut self, ttl: Duration, now: Instant) {
        self.open_until = Some(now + ttl);
    }

    /// The agent is not ready any more.
    pub fn shut(&mut self) {
        self.open_until = None;
    }

    /// May an event be delivered?
    pub fn is_open(&self, now: Instant) -> bool {
        self.open_until.is_some_and(|until| now < until)
    }

    /// When it shuts by itself.
    pub fn deadline(&self) -> Option<Instant> {
        self.open_until
    }
}

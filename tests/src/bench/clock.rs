//! The only place of the benchmarks that reads a clock or passes time.

use std::io;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::fault;

/// Now, by the clock that never jumps.
#[expect(clippy::disallowed_methods, reason = "this is the place that reads time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since `then`.
pub(crate) fn ms_since(then: Instant) -> f64 {
    ms(now().duration_since(then))
}

/// A time in milliseconds.
pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Asks every millisecond until there is an answer: for what sends no event, such as a socket that
/// is not there yet.
pub(crate) fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> io::Result<T> {
    let late = now() + limit;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if now() > late {
            return Err(fault(format!("waited {limit:?} for this: {what}")));
        }
        pause(Duration::from_millis(1));
    }
}

/// Lets time pass, between two looks or to keep a pace.
pub(crate) fn pause(time: Duration) {
    let (_keep, nothing) = mpsc::channel::<()>();
    let _ = nothing.recv_timeout(time);
}

//! The only place in the supervisor that reads a clock or draws a random number.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Now, by the clock that never jumps.
#[expect(clippy::disallowed_methods, reason = "this is the place that reads time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since the Unix epoch: for records and for people.
#[expect(clippy::disallowed_methods, reason = "this is the place that reads time")]
pub fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The time that files bear.
#[expect(clippy::disallowed_methods, reason = "this is the place that reads time")]
pub fn system() -> SystemTime {
    SystemTime::now()
}

/// Random bytes that nobody can guess.
pub fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| std::io::Error::other(e.to_string()))?;
    Ok(bytes)
}

/// Milliseconds since the machine was started, the time in which it slept as well.
pub fn boot_ms() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec.saturating_mul(1000).saturating_add(now.tv_nsec / 1_000_000)
}

/// An instant as [`monotonic_usec`] tells it.
pub fn usec_of(instant: Instant) -> u64 {
    let ago = now().saturating_duration_since(instant).as_micros();
    monotonic_usec().saturating_sub(u64::try_from(ago).unwrap_or(u64::MAX))
}

/// When [`monotonic_usec`] said `usec`.
pub fn at_usec(usec: u64) -> Instant {
    let now = now();
    let ago = Duration::from_micros(monotonic_usec().saturating_sub(usec));
    now.checked_sub(ago).unwrap_or(now)
}

/// The monotonic clock as other programs of this machine read it, in microseconds.
pub fn monotonic_usec() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let parts = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    parts.0.unwrap_or(0) * 1_000_000 + parts.1.unwrap_or(0) / 1000
}

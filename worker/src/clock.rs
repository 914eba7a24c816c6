//! The only place in a worker that reads a clock or draws a random number.

use std::time::Duration;

pub use tokio::time::Instant;

/// Now, by the clock that never jumps.
pub fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since the Unix epoch: for records and for people, never for deciding.
#[expect(clippy::disallowed_methods, reason = "this is the place that reads time")]
pub fn unix_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

/// Random bytes that nobody can guess.
pub fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| std::io::Error::other(e.to_string()))?;
    Ok(bytes)
}

/// A random duration below `limit`.
pub fn jitter(limit: Duration) -> Duration {
    let mut bytes = [0; 4];
    if getrandom::fill(&mut bytes).is_err() {
        return limit / 2;
    }
    limit.mul_f64(f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX))
}

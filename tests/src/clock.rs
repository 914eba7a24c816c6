//! Wall time for the fields that Feishu fills with it. Deadlines use tokio's clock, which tests can pause.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970, the unit of every time in an event.
#[expect(clippy::disallowed_methods, reason = "a platform stamps its events with wall time")]
pub(crate) fn wall_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis()
}

/// The date as HTTP writes it, so much ago.
#[expect(clippy::disallowed_methods, reason = "a platform stamps its answers with wall time")]
pub(crate) fn http_date(ago: Duration) -> String {
    httpdate::fmt_http_date(SystemTime::now() - ago)
}

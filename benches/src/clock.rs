//! The one place that asks the clock: what is measured here is real time.

use std::time::Instant;

/// The time now.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub fn now() -> Instant {
    Instant::now()
}

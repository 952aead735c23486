//! Entry points for the fuzz targets. Each takes any bytes at all; a panic is a bug.

use std::time::Instant;

/// A server connection whose owner agrees to everything.
#[allow(clippy::disallowed_methods)] // a first instant; time does not pass
pub fn connection(bytes: &[u8]) {
    crate::endpoint::fuzzing::connection(bytes, Instant::now());
}

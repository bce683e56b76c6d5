//! The time that ids carry: the one place of this crate that asks for it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970. Processes of one machine agree on it.
pub fn unix_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

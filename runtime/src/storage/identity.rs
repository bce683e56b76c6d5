//! What makes two requests the same event, and for how long.

use sheaf_bundles::hook::DEDUPE_WINDOW_MS_MAX;

use crate::queue::types::{Content, Publish};

/// How long an identity is remembered at least, milliseconds.
pub const WINDOW_MS: i64 = DEDUPE_WINDOW_MS_MAX;

/// The identity of an event, its connection mixed in.
pub type Key = [i64; 2];

/// The identity of an event within one database.
pub fn key(connection: i64, [h1, h2]: [u64; 2]) -> Key {
    /// The golden ratio's bits: spreads small connection numbers over the whole word.
    const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
    [(h1 ^ connection.unsigned_abs().wrapping_mul(SPREAD)).cast_signed(), h2.cast_signed()]
}

/// The time after which an event of the same identity was received if it is this one, among those that are remembered. It is
/// reckoned from when the request was received: however long its copy waits in a spool, it is the event it was.
pub fn known_after_ms(publish: &Publish, now_ms: i64) -> i64 {
    let window_ms = match &publish.content {
        Content::Event(accepted) => accepted.window_ms,
        Content::Quarantine { .. } => WINDOW_MS,
    };
    publish.received.received_ms.min(now_ms) - window_ms
}

//! What makes two requests the same event, and for how long.

/// How long an identity is remembered at least, milliseconds: 35 days.
pub const WINDOW_MS: i64 = 35 * 24 * 60 * 60 * 1000;

/// The identity of an event, its connection mixed in.
pub type Key = [i64; 2];

/// The identity of an event within one database.
pub fn key(connection: i64, [h1, h2]: [u64; 2]) -> Key {
    /// The golden ratio's bits: spreads small connection numbers over the whole word.
    const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
    [(h1 ^ connection.unsigned_abs().wrapping_mul(SPREAD)).cast_signed(), h2.cast_signed()]
}

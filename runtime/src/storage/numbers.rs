//! What the small numbers in stored rows mean, the same on every database.

/// Kinds of the `event` table.
pub const EVENT_ACCEPTED: i64 = 0;
pub const EVENT_QUARANTINED: i64 = 1;

/// States of the `run` table.
pub const RUN_DELIVERED: i64 = 0;
pub const RUN_PARKED: i64 = 1;
pub const RUN_DISCARDED: i64 = 2;
/// `state` of a pending run where both tables are read as one; beyond the states of the `run` table.
pub const RUN_PENDING: i64 = 3;

/// Outcomes of the `attempt` table; the first two are those of `run`.
pub const ATTEMPT_REPEAT: i64 = 2;
pub const ATTEMPT_CRASHED: i64 = 3;

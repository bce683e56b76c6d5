//! Makes ids: time-sorted, never the same twice, never going back.

use sheaf_bundles::id::{SEQUENCE_BITS, compose};

/// Ids that fit into one millisecond; more borrow from the next one.
const SEQUENCE_END: u16 = 1 << SEQUENCE_BITS;

/// The ids of one node. Runs get theirs right after their event, so the runs of an event lie between its id and the
/// next event's; readers rely on that instead of on an index.
#[derive(Debug, Clone)]
pub struct Ids {
    node: u16,
    time_ms: i64,
    sequence: u16,
}

impl Ids {
    /// Ids later than everything made until `last_ms`, which a clock that went back may have left ahead of now.
    pub fn after(node: u16, last_ms: i64) -> Ids {
        Ids { node, time_ms: last_ms + 1, sequence: 0 }
    }

    /// The next id.
    pub fn next(&mut self, now_ms: i64) -> i64 {
        if now_ms > self.time_ms {
            (self.time_ms, self.sequence) = (now_ms, 0);
        } else if self.sequence == SEQUENCE_END {
            (self.time_ms, self.sequence) = (self.time_ms + 1, 0);
        }
        let id = compose(self.time_ms, self.node, self.sequence);
        self.sequence += 1;
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_past_a_full_millisecond_and_a_clock_that_goes_back() {
        let mut ids = Ids::after(0, 0);
        let mut last = 0;
        for turn in 0..10_000 {
            let id = ids.next(if turn < 6_000 { 1_000 } else { 900 });
            assert!(id > last);
            last = id;
        }
    }
}

//! When to try again: a fixed schedule with jitter, or the wait the vendor asks for. Pure: takes the time and a seed.

use crate::verdict::{Class, Disposition};

/// Waits after the first, second, … failed attempt, in milliseconds:
/// 5 s, 30 s, 2 m, 10 m, 30 m, 2 h, 5 h, 10 h, 14 h, 24 h.
pub const SCHEDULE_MS: [i64; 10] =
    [5_000, 30_000, 120_000, 600_000, 1_800_000, 7_200_000, 18_000_000, 36_000_000, 50_400_000, 86_400_000];
/// The shortest `Retry-After` that is honoured; a shorter one becomes this.
pub const RETRY_AFTER_MIN_MS: i64 = 1_000;
/// The longest `Retry-After` that is honoured; a longer one becomes this.
pub const RETRY_AFTER_MAX_MS: i64 = 86_400_000;
/// Jitter lengthens a wait by at most this share of it, in percent; it never shortens one.
pub const JITTER_PERCENT_MAX: i64 = 10;

/// What to do after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Try again, not before this time (unix milliseconds).
    Retry {
        /// When.
        due_ms: i64,
    },
    /// Park the run for a person.
    GiveUp,
}

/// Decides after attempt number `attempt` (the first is 1) ended with `class`.
///
/// `retry_after_ms` is the wait the vendor asked for, from now; `seed` is any number, the same seed gives the same jitter.
pub fn next(attempt: u32, class: Class, retry_after_ms: Option<i64>, now_ms: i64, seed: u64) -> Next {
    match class.disposition() {
        Disposition::Delivered | Disposition::Park => return Next::GiveUp,
        Disposition::Repeat => {}
    }
    let Some(scheduled_ms) = SCHEDULE_MS.get(attempt.saturating_sub(1) as usize) else { return Next::GiveUp };
    let wait_ms = match retry_after_ms {
        Some(asked_ms) => asked_ms.clamp(RETRY_AFTER_MIN_MS, RETRY_AFTER_MAX_MS),
        None => *scheduled_ms,
    };
    Next::Retry { due_ms: now_ms.saturating_add(wait_ms + jitter_ms(wait_ms, seed)) }
}

/// Between 0 and `JITTER_PERCENT_MAX` of the wait.
fn jitter_ms(wait_ms: i64, seed: u64) -> i64 {
    let span_ms = wait_ms * JITTER_PERCENT_MAX / 100;
    let share = (mix(seed) >> 33) as i64;
    if span_ms == 0 { 0 } else { share % (span_ms + 1) }
}

/// SplitMix64's finaliser: neighbouring seeds (ids, attempts) give unrelated numbers.
fn mix(seed: u64) -> u64 {
    let seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    seed ^ (seed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_ms(attempt: u32, asked_ms: Option<i64>, seed: u64) -> Option<i64> {
        match next(attempt, Class::Retry, asked_ms, 1_000_000, seed) {
            Next::Retry { due_ms } => Some(due_ms - 1_000_000),
            Next::GiveUp => None,
        }
    }

    #[test]
    fn the_schedule_is_ten_waits_then_the_run_is_parked() {
        for (index, scheduled_ms) in SCHEDULE_MS.iter().enumerate() {
            for seed in 0..50 {
                let waited_ms = wait_ms(index as u32 + 1, None, seed).expect("a retry");
                assert!(waited_ms >= *scheduled_ms && waited_ms <= scheduled_ms * 11 / 10);
            }
        }
        assert_eq!(wait_ms(11, None, 1), None);
    }

    #[test]
    fn retry_after_is_honoured_between_a_second_and_a_day() {
        assert!((1_000..=1_100).contains(&wait_ms(3, Some(0), 7).expect("a retry")));
        assert!((90_000..=99_000).contains(&wait_ms(1, Some(90_000), 7).expect("a retry")));
        assert!(wait_ms(1, Some(i64::MAX), 7).expect("a retry") <= RETRY_AFTER_MAX_MS * 11 / 10);
        assert_eq!(wait_ms(11, Some(1_000), 7), None, "a vendor cannot make us try for ever");
    }

    #[test]
    fn jitter_spreads_and_never_fires_early() {
        let waits: std::collections::BTreeSet<_> = (0..100).map(|seed| wait_ms(1, None, seed)).collect();
        assert!(waits.len() > 50);
        assert!(waits.iter().all(|wait_ms| wait_ms.expect("a retry") >= 5_000));
    }

    #[test]
    fn what_a_repeat_cannot_help_is_not_repeated() {
        for class in
            [Class::BadRequest, Class::AuthBroken, Class::NotFound, Class::PlanDenied, Class::Unknown]
        {
            assert_eq!(next(1, class, None, 0, 0), Next::GiveUp);
        }
    }
}

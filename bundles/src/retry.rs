//! When to try again: a fixed schedule with jitter, or the wait the vendor asks for. Pure: takes the time and a seed.

use std::borrow::Cow;

/// Waits after the first, second, … failure of a step that says nothing about them, in milliseconds:
/// 5 s, 30 s, 2 m, 10 m, 30 m, 2 h, 5 h, 10 h, 14 h, 24 h.
pub const SCHEDULE_MS: [i64; 10] =
    [5_000, 30_000, 120_000, 600_000, 1_800_000, 7_200_000, 18_000_000, 36_000_000, 50_400_000, 86_400_000];
/// The most waits a schedule may have.
pub const WAITS_MAX: usize = 20;
/// The shortest wait, milliseconds; a vendor that asks for a shorter one gets this.
pub const WAIT_MIN_MS: i64 = 1_000;
/// The longest wait, milliseconds; a vendor that asks for a longer one gets this.
pub const WAIT_MAX_MS: i64 = 86_400_000;
/// Jitter lengthens a wait by at most this share of it, in percent; it never shortens one.
pub const JITTER_PERCENT_MAX: i64 = 10;

/// The waits between the tries of one step. Empty: it is tried once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// In milliseconds, each between [`WAIT_MIN_MS`] and [`WAIT_MAX_MS`], no more than [`WAITS_MAX`].
    pub waits_ms: Cow<'static, [i64]>,
}

impl Default for Schedule {
    fn default() -> Schedule {
        Schedule { waits_ms: Cow::Borrowed(&SCHEDULE_MS) }
    }
}

impl Schedule {
    /// When to try again after the step failed for the `failures`-th time (the first is 1), unix milliseconds; none when
    /// the schedule is over.
    ///
    /// `asked_ms` is the wait the vendor asked for, from now; `seed` is any number, the same seed gives the same jitter.
    pub fn next(&self, failures: u32, asked_ms: Option<i64>, now_ms: i64, seed: u64) -> Option<i64> {
        let scheduled_ms = self.waits_ms.get(failures.saturating_sub(1) as usize)?;
        let wait_ms = asked_ms.map_or(*scheduled_ms, |asked_ms| asked_ms.clamp(WAIT_MIN_MS, WAIT_MAX_MS));
        Some(now_ms.saturating_add(wait_ms + jitter_ms(wait_ms, seed)))
    }
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

    fn wait_ms(failures: u32, asked_ms: Option<i64>, seed: u64) -> Option<i64> {
        Schedule::default().next(failures, asked_ms, 1_000_000, seed).map(|due_ms| due_ms - 1_000_000)
    }

    #[test]
    fn the_default_is_ten_waits_and_then_no_more() {
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
        assert!(wait_ms(1, Some(i64::MAX), 7).expect("a retry") <= WAIT_MAX_MS * 11 / 10);
        assert_eq!(wait_ms(11, Some(1_000), 7), None, "a vendor cannot make us try for ever");
    }

    #[test]
    fn jitter_spreads_and_never_fires_early() {
        let waits: std::collections::BTreeSet<_> = (0..100).map(|seed| wait_ms(1, None, seed)).collect();
        assert!(waits.len() > 50);
        assert!(waits.iter().all(|wait_ms| wait_ms.expect("a retry") >= 5_000));
    }

    #[test]
    fn a_schedule_of_its_own_is_kept_to_and_an_empty_one_tries_once() {
        let own = Schedule { waits_ms: vec![1_000, 60_000].into() };
        let due_ms = |failures| own.next(failures, None, 0, 3);
        assert!((1_000..=1_100).contains(&due_ms(1).expect("a retry")));
        assert!((60_000..=66_000).contains(&due_ms(2).expect("a retry")));
        assert_eq!(due_ms(3), None);
        assert_eq!(Schedule { waits_ms: Cow::Borrowed(&[]) }.next(1, Some(5_000), 0, 3), None);
    }
}

//! A histogram of durations: exact up to 32 µs, within about 3 % above, constant memory, mergeable.

use serde::Serialize;

/// Buckets for each doubling.
const STEPS: u64 = 32;
/// Bits of [`STEPS`].
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Enough for 64 bits of microseconds.
const BUCKETS: usize = ((64 - STEP_BITS as usize) + 1) * STEPS as usize;

/// Durations, counted.
#[derive(Clone)]
pub struct Latencies {
    counts: Vec<u64>,
    total: u64,
}

/// The points people ask for, in milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Points {
    /// Median.
    pub p50_ms: f64,
    /// 95th percentile.
    pub p95_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
}

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies { counts: vec![0; BUCKETS], total: 0 }
    }
}

impl Latencies {
    /// Counts one duration; a negative one is 0.
    pub fn record_ns(&mut self, duration_ns: i64) {
        let microseconds = u64::try_from(duration_ns / 1000).unwrap_or(0);
        self.counts[bucket(microseconds)] += 1;
        self.total += 1;
    }

    /// Adds all of the other's.
    pub fn merge(&mut self, other: &Latencies) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The smallest duration that this share of all does not pass; 0 when there are none.
    pub fn percentile_us(&self, share: f64) -> u64 {
        let rank = (self.total as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return highest(index);
            }
        }
        0
    }

    /// p50, p95 and p99.
    pub fn points(&self) -> Points {
        let at = |share| self.percentile_us(share) as f64 / 1000.0;
        Points { p50_ms: at(0.50), p95_ms: at(0.95), p99_ms: at(0.99) }
    }
}

fn bucket(microseconds: u64) -> usize {
    let doublings = (63 - (microseconds | 1).leading_zeros()).saturating_sub(STEP_BITS);
    let step = microseconds >> doublings;
    (u64::from(doublings) * STEPS + step) as usize
}

/// The largest value of a bucket.
fn highest(index: usize) -> u64 {
    let index = index as u64;
    let doublings = (index / STEPS).saturating_sub(1);
    let step = index - doublings * STEPS;
    ((step + 1) << doublings) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_falls_into_a_bucket_whose_end_is_within_four_percent() {
        for value in (0..2000).chain([12_345, 999_999, 1 << 40]) {
            let end = highest(bucket(value));
            assert!(end >= value && end as f64 <= value as f64 * 1.04 + 1.0, "{value}: {end}");
        }
    }

    #[test]
    fn percentiles_are_read_from_the_sorted_whole() {
        let mut first = Latencies::default();
        let mut second = Latencies::default();
        (1..=50).for_each(|ms| first.record_ns(ms * 1_000_000));
        (51..=100).for_each(|ms| second.record_ns(ms * 1_000_000));
        first.merge(&second);
        let near = |share: f64, ms: f64| (first.percentile_us(share) as f64 / 1000.0 - ms).abs() < ms * 0.04;
        assert!(near(0.5, 50.0) && near(0.95, 95.0) && near(0.99, 99.0) && near(1.0, 100.0));
        assert_eq!((first.count(), Latencies::default().percentile_us(0.5)), (100, 0));
    }
}

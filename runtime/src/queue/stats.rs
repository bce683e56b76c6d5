//! What the writer has done since it started; read by metrics and benches.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Running totals.
#[derive(Debug, Default)]
pub struct Stats {
    commits: AtomicU64,
    published: AtomicU64,
    settled: AtomicU64,
    claimed: AtomicU64,
    stale: AtomicU64,
    commit_us: AtomicU64,
}

/// The totals at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// Turns committed.
    pub commits: u64,
    /// Requests in them.
    pub published: u64,
    /// Ends of attempts in them.
    pub settled: u64,
    /// Runs claimed from the database; those handed over in memory are not among them.
    pub claimed: u64,
    /// Ends of attempts whose lease had been taken over.
    pub stale: u64,
    /// Time spent in commits, microseconds.
    pub commit_us: u64,
}

impl Stats {
    pub(super) fn committed(&self, (published, settled, claimed): (usize, usize, usize), took: Duration) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.published.fetch_add(published as u64, Ordering::Relaxed);
        self.settled.fetch_add(settled as u64, Ordering::Relaxed);
        self.claimed.fetch_add(claimed as u64, Ordering::Relaxed);
        self.commit_us.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn stale(&self, count: usize) {
        self.stale.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// The totals now.
    pub fn snapshot(&self) -> StatsSnapshot {
        StatsSnapshot {
            commits: self.commits.load(Ordering::Relaxed),
            published: self.published.load(Ordering::Relaxed),
            settled: self.settled.load(Ordering::Relaxed),
            claimed: self.claimed.load(Ordering::Relaxed),
            stale: self.stale.load(Ordering::Relaxed),
            commit_us: self.commit_us.load(Ordering::Relaxed),
        }
    }
}

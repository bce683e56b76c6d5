//! The only place that knows what time it is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::sync::watch;

/// A clock that can be set by a test.
#[derive(Debug, Clone)]
pub struct Clock(Kind);

#[derive(Debug, Clone)]
enum Kind {
    /// The machine's clock, and how far the right one is ahead of it, milliseconds.
    System(Arc<AtomicI64>),
    Set(Arc<watch::Sender<i64>>),
}

impl Clock {
    /// The machine's clock, until it is corrected.
    pub fn system() -> Clock {
        Clock(Kind::System(Arc::default()))
    }

    /// A clock that stands still until it is set, and the handle that sets it.
    pub fn stopped_at(now_ms: i64) -> (Clock, SetClock) {
        let sender = Arc::new(watch::Sender::new(now_ms));
        (Clock(Kind::Set(sender.clone())), SetClock(sender))
    }

    /// Unix milliseconds.
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            Kind::System(ahead_ms) => system_now_ms() + ahead_ms.load(Ordering::Relaxed),
            Kind::Set(sender) => *sender.borrow(),
        }
    }

    /// Moves the clock and all its copies, so that it shows another clock's time: nodes that share a database have one time,
    /// the database's. A clock that tests set stays as they set it.
    pub fn correct_by_ms(&self, by_ms: i64) {
        if let Kind::System(ahead_ms) = &self.0 {
            ahead_ms.fetch_add(by_ms, Ordering::Relaxed);
        }
    }

    /// Returns when the clock shows `due_ms` or later.
    pub async fn sleep_until_ms(&self, due_ms: i64) {
        match &self.0 {
            Kind::System(_) => {
                let left_ms = due_ms.saturating_sub(self.now_ms());
                tokio::time::sleep(Duration::from_millis(left_ms.max(0).unsigned_abs())).await;
            }
            Kind::Set(sender) => {
                // The sender is held right here, so the wait cannot fail.
                let _ = sender.subscribe().wait_for(|now_ms| *now_ms >= due_ms).await;
            }
        }
    }
}

/// Sets a stopped clock.
#[derive(Debug, Clone)]
pub struct SetClock(Arc<watch::Sender<i64>>);

impl SetClock {
    /// Sets the time; whoever sleeps until then wakes.
    pub fn set_ms(&self, now_ms: i64) {
        self.0.send_replace(now_ms);
    }

    /// Moves the time forward.
    pub fn advance_ms(&self, by_ms: i64) {
        self.0.send_modify(|now_ms| *now_ms += by_ms);
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the machine's clock")]
fn system_now_ms() -> i64 {
    // A clock before 1970 is shown as 1970.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |past| i64::try_from(past.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_correction_is_seen_by_every_copy() {
        let clock = Clock::system();
        let copy = clock.clone();
        let before_ms = clock.now_ms();
        copy.correct_by_ms(3_600_000);
        assert!((3_600_000..3_660_000).contains(&(clock.now_ms() - before_ms)));
    }

    #[tokio::test]
    async fn a_sleeper_wakes_when_a_stopped_clock_reaches_its_time() {
        let (clock, set) = Clock::stopped_at(1_000);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move {
                clock.sleep_until_ms(2_000).await;
                clock.now_ms()
            }
        });
        set.advance_ms(500);
        set.set_ms(2_000);
        assert_eq!(sleeper.await.ok(), Some(2_000));
    }
}

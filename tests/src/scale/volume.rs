//! So many events, however long that takes.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::lab::tell;
use crate::{bench, load::Load, sink::Sink};

/// How long one load runs before it is counted and told.
const STRETCH: Duration = Duration::from_secs(2);
/// How often people are told.
const TELL_EVERY: Duration = Duration::from_secs(20);

/// What was sent.
#[derive(Debug, Default)]
pub struct Sent {
    /// Ids answered 200.
    pub acknowledged: Vec<i64>,
    /// Requests with another answer.
    pub refused: u64,
    /// Requests without one.
    pub unanswered: u64,
    /// How long it took, seconds.
    pub seconds: f64,
}

impl Sent {
    /// Acknowledged a second.
    pub fn per_second(&self) -> f64 {
        self.acknowledged.len() as f64 / self.seconds
    }
}

/// Sends until at least so many are acknowledged.
pub async fn send(load: &Load, count: usize) -> anyhow::Result<Sent> {
    let (begun, mut told) = (Instant::now(), Instant::now());
    let mut sent = Sent::default();
    while sent.acknowledged.len() < count {
        let done = Load { duration: STRETCH, ..load.clone() }.run().await;
        ensure!(!done.acknowledged.is_empty(), "nothing was acknowledged for {} s", STRETCH.as_secs());
        sent.refused += done.refused;
        sent.unanswered += done.unanswered;
        sent.acknowledged.extend(done.acknowledged);
        sent.seconds = begun.elapsed().as_secs_f64();
        if told.elapsed() > TELL_EVERY {
            told = Instant::now();
            tell(&format!("{} of {count} acknowledged, {:.0}/s", sent.acknowledged.len(), sent.per_second()));
        }
    }
    Ok(sent)
}

/// Waits for these calls, but not when none has come for `stuck`; says how far it is.
pub async fn arrived(sink: &Sink, calls: &[i64], stuck: Duration) {
    let telling = async {
        let mut ticks = tokio::time::interval(TELL_EVERY);
        ticks.tick().await;
        let mut before = sink.unique();
        loop {
            ticks.tick().await;
            let now = sink.unique();
            let speed = (now - before) as f64 / TELL_EVERY.as_secs_f64();
            tell(&format!("{now} of {} arrived, {speed:.0}/s", calls.len()));
            before = now;
        }
    };
    tokio::select! {
        () = bench::arrived(sink, calls, stuck) => {}
        () = telling => {}
    }
}

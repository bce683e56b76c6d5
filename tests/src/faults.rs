//! kill -9 at random moments under load, judged by ledgers outside the product.
//!
//! It shows that a crash of the process loses nothing; a power cut is another matter, since the page cache survives a kill.

pub mod equations;
pub mod judge;
pub mod ledger;
mod subject;
pub mod traffic;

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::Context;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::Serialize;
use tokio::sync::watch;

use crate::clock::unix_ns;
use judge::Judgement;
use ledger::{Entry, Ledger};
pub use subject::Who;
use subject::{Subject, Up};
use traffic::Gauge;

/// Longest random wait between the first acknowledgement after a start and the kill.
const KILL_AFTER_MS_MAX: u64 = 250;
/// A kill that could not bite within this time makes the campaign invalid.
const BITE_WITHIN: Duration = Duration::from_secs(10);

/// What to do.
#[derive(Debug, Clone)]
pub struct Campaign {
    /// Whom to kill.
    pub who: Who,
    /// Where data and ledgers are made.
    pub data_root: PathBuf,
    /// How many kills.
    pub kills: usize,
    /// Where all randomness starts.
    pub seed: u64,
    /// Senders, so requests in flight at most.
    pub senders: usize,
}

/// One kill.
#[derive(Debug, Clone, Serialize)]
pub struct Kill {
    /// Which.
    pub round: usize,
    /// After the first acknowledgement.
    pub after_ms: u64,
    /// Requests without an answer at that moment.
    pub in_flight: usize,
    /// Acknowledged since the last start.
    pub acknowledged_since: usize,
    /// How long the product took to be ready again.
    pub ready_ms: f64,
}

/// What came of a campaign.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Where all randomness started.
    pub seed: u64,
    /// The kills.
    pub kills: Vec<Kill>,
    /// Kills without requests in flight or without acknowledgements before: with one of these it proves nothing.
    pub without_bite: Vec<usize>,
    /// What the ledgers come to.
    pub judgement: Judgement,
    /// How often the product's own equations were checked; they held each time.
    pub equations_checked: usize,
}

impl Report {
    /// True when every kill bit and every promise held.
    pub fn holds(&self) -> bool {
        self.without_bite.is_empty() && self.judgement.acknowledged > 0 && self.judgement.holds()
    }
}

impl Campaign {
    /// Runs it. An error is a product that did not start, broke an equation, or did not finish what it had.
    pub async fn run(&self, mut tell: impl FnMut(&Kill)) -> anyhow::Result<Report> {
        let folder = tempfile::Builder::new().prefix("faults-").tempdir_in(&self.data_root)?;
        let sent = Ledger::create(&folder.path().join("sender.ledger"))?;
        let received = Ledger::create(&folder.path().join("receiver.ledger"))?;
        let receiver = traffic::receiver(self.seed, received.pen()).await?;
        let subject = self.who.at(folder.path(), receiver.origin())?;

        let gauge = Arc::new(Gauge::default());
        let (target, targets) = watch::channel(None);
        let senders = traffic::senders(self.senders, self.seed, &targets, &sent.pen(), &gauge);
        let mut randomness = StdRng::seed_from_u64(self.seed);
        let mut kills = Vec::new();
        let pen = sent.pen();
        for round in 0..self.kills {
            let up = self.start(&subject, &target, round).await?;
            let after_ms = randomness.random_range(0..=KILL_AFTER_MS_MAX);
            let kill = strike(up, &target, &gauge, round, after_ms).await?;
            // What the dead process had sent is read to its end, so each arrival is from one process for certain.
            receiver.quiet().await;
            pen.write(Entry::Killed(round, unix_ns()));
            tell(&kill);
            kills.push(kill);
        }
        let _last = self.start(&subject, &target, self.kills).await?;
        gauge.over.store(true, Ordering::Relaxed);
        senders.join_all().await;
        drop(pen);
        let sent = closed(sent).await?;
        subject.drain().await?;
        drop(receiver);
        let judgement = Judgement::of(&sent, &closed(received).await?, self.who.concurrency());
        let bites = |kill: &&Kill| kill.in_flight == 0 || kill.acknowledged_since == 0;
        Ok(Report {
            seed: self.seed,
            without_bite: kills.iter().filter(bites).map(|kill| kill.round).collect(),
            kills,
            judgement,
            equations_checked: self.kills + 1,
        })
    }

    async fn start(
        &self,
        subject: &Subject,
        target: &watch::Sender<traffic::Target>,
        round: usize,
    ) -> anyhow::Result<Up> {
        let up = subject.start().await.with_context(|| format!("start {round}, seed {}", self.seed))?;
        target.send_replace(Some(up.target.clone()));
        Ok(up)
    }
}

/// The last writers may still be on their way out on this very runtime, so nobody waits for them here.
async fn closed(ledger: Ledger) -> anyhow::Result<Vec<Entry>> {
    tokio::task::spawn_blocking(move || ledger.close()).await?
}

/// Waits for the moment, and kills.
async fn strike(
    mut up: Up,
    target: &watch::Sender<traffic::Target>,
    gauge: &Gauge,
    round: usize,
    after_ms: u64,
) -> anyhow::Result<Kill> {
    let before = gauge.acknowledged.load(Ordering::Relaxed);
    let since = || gauge.acknowledged.load(Ordering::Relaxed) - before;
    let deadline = Instant::now() + BITE_WITHIN;
    while since() == 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(after_ms)).await;
    while gauge.in_flight.load(Ordering::Relaxed) == 0 && Instant::now() < deadline {
        tokio::task::yield_now().await;
    }
    let in_flight = gauge.in_flight.load(Ordering::Relaxed);
    let acknowledged_since = since();
    target.send_replace(None);
    up.process.kill()?;
    let ready_ms = up.ready_after.as_secs_f64() * 1000.0;
    Ok(Kill { round, after_ms, in_flight, acknowledged_since, ready_ms })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let it = &self.judgement;
        let most = it.repeats_by_kill.values().max().copied().unwrap_or(0);
        let repeats: usize = it.repeats_by_kill.values().sum();
        writeln!(
            f,
            "seed {}: {} kills, {} without bite",
            self.seed,
            self.kills.len(),
            self.without_bite.len()
        )?;
        writeln!(
            f,
            "{} acknowledged, {} unknown, {} refused, {} delivered",
            it.acknowledged, it.unknown, it.refused, it.delivered
        )?;
        writeln!(
            f,
            "{} acknowledged are missing, {} came unexpectedly",
            it.missing.len(),
            it.unexpected.len()
        )?;
        writeln!(f, "{repeats} repeats, at most {most} at one kill, {} unexplained", it.unexplained.len())?;
        writeln!(f, "both ledger equations held {} times", self.equations_checked)?;
        let verdict = match (self.without_bite.is_empty() && it.acknowledged > 0, it.holds()) {
            (false, _) => "INVALID: a kill did not bite",
            (true, true) => "every promise held",
            (true, false) => "A PROMISE WAS BROKEN",
        };
        write!(f, "{verdict}")
    }
}

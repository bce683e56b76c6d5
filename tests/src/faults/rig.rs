//! The product between two ledgers: senders before it, a receiver behind it, all of which outlive it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinSet};

use super::{
    equations,
    judge::{Judgement, Rules},
    ledger::{Entry, Ledger, Pen},
    traffic::{self, Gauge, Target},
};
use crate::{
    clock::unix_ns,
    postgres::TestDatabase,
    process::Process,
    product::{Product, Setup},
    wire::Server,
};

/// A drain in which nothing happens for so long has failed.
const DRAIN_STUCK: Duration = Duration::from_secs(60);
/// How often a drain is looked at.
const DRAIN_EVERY: Duration = Duration::from_millis(100);
/// A fault that could not bite within this time makes the run invalid.
const BITE_WITHIN: Duration = Duration::from_secs(10);
/// Nodes that serve the same hooks have it in common.
pub const MASTER_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// Runs the product has under way at most.
pub const SLOTS: usize = 32;
/// Senders, so requests in flight at most.
pub const SENDERS: usize = 32;

/// How a rig is put together.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The binary under test.
    pub binary: PathBuf,
    /// The promise it breaks, if it is a broken build.
    pub fault: Option<&'static str>,
    /// Where the folder of data and ledgers is made.
    pub data_root: PathBuf,
    /// Where the product's data lies, when not beside the ledgers.
    pub data: Option<PathBuf>,
    /// More settings of the product.
    pub settings: Vec<(&'static str, String)>,
    /// Senders at random; none when a scenario sends by itself.
    pub senders: usize,
    /// Where all randomness starts.
    pub seed: u64,
}

impl Plan {
    /// The same with one more setting.
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Plan {
        self.settings.push((name, value.to_string()));
        self
    }

    /// The same on a PostgreSQL, where every node has one master key.
    pub fn on(self, database: &TestDatabase) -> Plan {
        self.with("SHEAF_DATABASE", database.url()).with("SHEAF_MASTER_KEY", MASTER_KEY)
    }

    /// The product with its files and data in that folder.
    pub fn setup(&self, folder: &Path, receiver: String) -> anyhow::Result<Setup> {
        let setup = Setup::fresh(&self.binary, folder, receiver)?;
        let mut settings: Vec<(String, String)> =
            self.settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        settings.insert(0, ("SHEAF_SLOTS".to_owned(), SLOTS.to_string()));
        settings.extend(self.fault.map(|fault| ("SHEAF_FAULT".to_owned(), fault.to_owned())));
        Ok(Setup { data: self.data.clone().unwrap_or(setup.data), settings, ..setup })
    }
}

/// See above.
pub struct Rig {
    /// The product's files, data and settings.
    pub setup: Setup,
    /// What the senders are doing.
    pub gauge: Arc<Gauge>,
    target: watch::Sender<Target>,
    senders: JoinSet<()>,
    sent: Ledger,
    received: Ledger,
    receiver: Server,
    folder: TempDir,
    broken_build: bool,
}

/// What was going on when the product was struck.
#[derive(Debug, Clone, Copy)]
pub struct Struck {
    /// Requests without an answer at that moment.
    pub in_flight: usize,
    /// Acknowledged since it was up.
    pub acknowledged: usize,
}

impl Struck {
    /// Whether it can have mattered.
    pub fn bit(self) -> bool {
        self.in_flight > 0 && self.acknowledged > 0
    }
}

impl Rig {
    /// Puts it together; the product is not started.
    pub async fn new(plan: Plan) -> anyhow::Result<Rig> {
        let folder = tempfile::Builder::new().prefix("faults-").tempdir_in(&plan.data_root)?;
        let sent = Ledger::create(&folder.path().join("sender.ledger"))?;
        let received = Ledger::create(&folder.path().join("receiver.ledger"))?;
        let receiver = traffic::receiver(plan.seed, received.pen()).await?;
        let setup = plan.setup(folder.path(), receiver.origin())?;
        let gauge = Arc::new(Gauge::default());
        let (target, targets) = watch::channel(None);
        let senders = traffic::senders(plan.senders, plan.seed, &targets, &sent.pen(), &gauge);
        Ok(Rig {
            setup,
            gauge,
            target,
            senders,
            sent,
            received,
            receiver,
            folder,
            broken_build: plan.fault.is_some(),
        })
    }

    /// Starts the product, whose own equations must hold as soon as it is up. The senders wait for [`Rig::aim`].
    pub async fn start(&self) -> anyhow::Result<Product> {
        let product = self.setup.start().await?;
        self.pending(false)?;
        Ok(product)
    }

    /// Lets the senders go.
    pub fn aim(&self, product: &Product) -> anyhow::Result<()> {
        self.target.send_replace(Some((product.hooks, self.setup.hook_path()?)));
        Ok(())
    }

    /// Holds the senders; requests in flight stay so.
    pub fn hold(&self) {
        self.target.send_replace(None);
    }

    /// Waits for an acknowledgement, some time, and a request in flight: now is the moment to strike.
    pub async fn ripe(&self, after: Duration) -> Struck {
        let before = self.gauge.acknowledged.load(Ordering::Relaxed);
        let since = || self.gauge.acknowledged.load(Ordering::Relaxed) - before;
        let deadline = Instant::now() + BITE_WITHIN;
        while since() == 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(after).await;
        while self.gauge.in_flight.load(Ordering::Relaxed) == 0 && Instant::now() < deadline {
            tokio::task::yield_now().await;
        }
        Struck { in_flight: self.gauge.in_flight.load(Ordering::Relaxed), acknowledged: since() }
    }

    /// Kills the product and notes it once all that it had sent is read, so each arrival is from one process for certain.
    pub async fn kill(&self, process: &mut Process, number: usize) -> anyhow::Result<()> {
        self.hold();
        process.kill()?;
        self.died(number).await;
        Ok(())
    }

    /// Notes that the product has died.
    pub async fn died(&self, number: usize) {
        self.receiver.quiet().await;
        self.pen().write(Entry::Killed(number, unix_ns()));
    }

    /// Writes into the senders' ledger.
    pub fn pen(&self) -> Pen {
        self.sent.pen()
    }

    /// Where hooks are, while the senders are let go.
    pub fn target(&self) -> Option<(SocketAddr, String)> {
        self.target.borrow().clone()
    }

    /// A place for more files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Ends the senders, waits until the product has nothing left to do, and judges.
    pub async fn finish(self, rules: Rules) -> anyhow::Result<Judgement> {
        self.end_load().await?;
        let Rig { target, senders, sent, received, receiver, folder, broken_build, .. } = self;
        drop(target);
        senders.join_all().await;
        let sent = closed(sent).await?;
        drop(receiver);
        let judgement = Judgement::of(&sent, &closed(received).await?, rules);
        if !judgement.holds() && !broken_build {
            eprintln!("ledgers and log are kept in {}", folder.keep().display());
        }
        Ok(judgement)
    }

    /// Ends the senders and waits until the product has nothing left to do.
    pub async fn end_load(&self) -> anyhow::Result<()> {
        self.gauge.over.store(true, Ordering::Relaxed);
        self.drain().await
    }

    /// Waits until it has nothing left to do, then has every row of its ledger counted.
    pub async fn drain(&self) -> anyhow::Result<()> {
        let mut seen = (u64::MAX, Instant::now());
        loop {
            let pending = self.pending(false)?;
            if pending == 0 && self.gauge.in_flight.load(Ordering::Relaxed) == 0 {
                return self.pending(true).map(drop);
            }
            if pending != seen.0 {
                seen = (pending, Instant::now());
            }
            ensure!(
                seen.1.elapsed() < DRAIN_STUCK,
                "{pending} decisions stay pending; see {}",
                self.setup.log().display()
            );
            tokio::time::sleep(DRAIN_EVERY).await;
        }
    }

    /// Decisions still to be carried out, after both equations were found to hold; `verify` has every row counted as well.
    pub fn pending(&self, verify: bool) -> anyhow::Result<u64> {
        let ledger = equations::read(&self.setup.ledger(verify)?)?;
        equations::check(&ledger)?;
        Ok(ledger.connections.iter().map(|it| it.pending).sum())
    }
}

/// The last writers may still be on their way out on this very runtime, so nobody waits for them here.
async fn closed(ledger: Ledger) -> anyhow::Result<Vec<Entry>> {
    tokio::task::spawn_blocking(move || ledger.close()).await?.context("a ledger")
}

//! Who is killed: the product, or as a control something that is known to lose.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::ensure;

use super::equations;
use crate::{
    ceiling,
    process::Process,
    product::{self, Setup},
};

/// A drain in which nothing happens for so long has failed.
const DRAIN_STUCK: Duration = Duration::from_secs(60);
/// How often a drain is looked at.
const DRAIN_EVERY: Duration = Duration::from_millis(200);
/// How long the control is given: it has nothing that one could ask.
const CONTROL_DRAIN: Duration = Duration::from_secs(1);

/// Whom to kill.
#[derive(Debug, Clone)]
pub enum Who {
    /// The product's binary, with this many runs under way at most.
    Sheaf {
        /// The binary.
        binary: PathBuf,
        /// Runs under way at most.
        slots: usize,
    },
    /// Ceiling (a), started from the bench's binary: it answers before anything is stored, so it must be found to lose.
    Control {
        /// The bench's binary.
        harness: PathBuf,
    },
}

/// The same, with its place and its receiver.
pub(super) enum Subject {
    Sheaf(Setup),
    Control { harness: PathBuf, receiver: String },
}

/// It is up.
pub(super) struct Up {
    pub(super) process: Process,
    pub(super) target: (SocketAddr, String),
    pub(super) ready_after: Duration,
}

impl Who {
    pub(super) fn at(&self, folder: &Path, receiver: String) -> anyhow::Result<Subject> {
        match self {
            Who::Sheaf { binary, slots } => {
                let directory = folder.join("integration");
                product::write_bundles(&directory)?;
                let data = folder.join("data");
                Ok(Subject::Sheaf(Setup {
                    binary: binary.clone(),
                    directory,
                    data,
                    receiver,
                    slots: Some(*slots),
                }))
            }
            Who::Control { harness } => Ok(Subject::Control { harness: harness.clone(), receiver }),
        }
    }

    /// Deliveries under way at most.
    pub(super) fn concurrency(&self) -> usize {
        match self {
            Who::Sheaf { slots, .. } => *slots,
            Who::Control { .. } => usize::MAX,
        }
    }
}

impl Subject {
    /// Starts it; the product's own equations must hold as soon as it is up.
    pub(super) async fn start(&self) -> anyhow::Result<Up> {
        match self {
            Subject::Sheaf(setup) => {
                let product = setup.start().await?;
                pending(setup, false)?;
                let target = (product.hooks, setup.hook_path()?);
                Ok(Up { process: product.process, target, ready_after: product.ready_after })
            }
            Subject::Control { harness, receiver } => {
                let it = ceiling::process::start(harness, receiver, None)?;
                let target = (it.address, ceiling::PATH.to_owned());
                Ok(Up { process: it.process, target, ready_after: it.ready_after })
            }
        }
    }

    /// Waits until it has nothing left to do.
    pub(super) async fn drain(&self) -> anyhow::Result<()> {
        let Subject::Sheaf(setup) = self else {
            tokio::time::sleep(CONTROL_DRAIN).await;
            return Ok(());
        };
        let mut seen = (u64::MAX, Instant::now());
        loop {
            let pending = pending(setup, false)?;
            if pending == 0 {
                return self::pending(setup, true).map(drop);
            }
            if pending != seen.0 {
                seen = (pending, Instant::now());
            }
            ensure!(seen.1.elapsed() < DRAIN_STUCK, "{pending} decisions stay pending");
            tokio::time::sleep(DRAIN_EVERY).await;
        }
    }
}

/// Decisions still to be carried out, after both equations were found to hold; `verify` has every row counted as well.
fn pending(setup: &Setup, verify: bool) -> anyhow::Result<u64> {
    let ledger = equations::read(&setup.ledger(verify)?)?;
    equations::check(&ledger)?;
    Ok(ledger.connections.iter().map(|it| it.pending).sum())
}

//! A database that already holds many finished runs beside an empty one. On SQLite; `bench --postgres --filled` has the
//! other database beside its ceiling.

use std::time::Duration;

use super::{
    duplicates,
    lab::{Lab, tell},
    pairs::{self, Compared},
};
use crate::{faults::report::Outcome, product::Setup};

/// The least speed, as a share of an empty database's: the same, but for what a machine varies by.
const SHARE_MIN: f64 = 0.95;

/// So many runs are executed first.
pub async fn run(lab: &Lab, runs: usize, outcome: &mut Outcome) -> anyhow::Result<()> {
    let folder = lab.folder()?;
    let sink = lab.sink(Duration::ZERO).await?;
    let fresh = |folder: &std::path::Path| Setup::fresh(&lab.sheaf, folder, sink.origin());
    let setup = fresh(folder.path())?;
    let product = setup.start().await?;
    let sent = duplicates::delivered(lab, &setup, &product, &sink, runs, outcome).await?;
    drop(product);
    let bytes = std::fs::metadata(setup.data.join("sheaf.db"))?.len();
    outcome.figure("runs in it before", sent.acknowledged.len() as f64);
    outcome.figure("database, MiB", bytes as f64 / f64::from(1 << 20));
    tell(&format!(
        "{} runs are in it, {:.0} MiB",
        sent.acknowledged.len(),
        bytes as f64 / f64::from(1 << 20)
    ));
    let compared = Compared { what: "filled", this: &setup, fresh: &fresh, share_min: SHARE_MIN };
    pairs::compare(lab, &sink, &compared, outcome).await?;
    Ok(())
}

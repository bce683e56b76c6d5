//! P4: without faults each delivery is made exactly once.

use std::time::Duration;

use super::{
    lab::Lab,
    volume::{self, Sent},
};
use crate::{
    faults::{equations, report::Outcome},
    load,
    product::{Product, Setup},
    sink::Sink,
};

/// A drain without a new arrival for so long has failed.
pub const STUCK: Duration = Duration::from_secs(30);
/// Longest time until the last settle is committed.
const SETTLED: Duration = Duration::from_secs(30);

/// So many deliveries at full speed.
pub async fn run(lab: &Lab, deliveries: usize, outcome: &mut Outcome) -> anyhow::Result<()> {
    let folder = lab.folder()?;
    let sink = lab.sink(Duration::ZERO).await?;
    let setup = Setup::fresh(&lab.sheaf, folder.path(), sink.origin())?;
    let product = setup.start().await?;
    let sent = delivered(lab, &setup, &product, &sink, deliveries, outcome).await?;
    outcome.figure("acknowledged/s", sent.per_second());
    let (_, most_kib) = product.process.memory_kib()?;
    outcome.figure("memory at most, MiB", most_kib as f64 / 1024.0);
    outcome.cycle(format!("{} calls", sent.acknowledged.len()), sent.acknowledged.len() >= deliveries);
    Ok(())
}

/// Sends so many, waits for all of them, and judges: each came exactly once, and the product's own ledger says the same.
pub async fn delivered(
    lab: &Lab,
    setup: &Setup,
    product: &Product,
    sink: &Sink,
    deliveries: usize,
    outcome: &mut Outcome,
) -> anyhow::Result<Sent> {
    sink.reset();
    let load = lab.load(product.hooks, load::calls(product.hooks, &setup.hook_path()?));
    let sent = volume::send(&load, deliveries).await?;
    volume::arrived(sink, &sent.acknowledged, STUCK).await;
    let ledger = equations::drained(setup, SETTLED).await?;
    let counted: u64 = ledger.connections.iter().map(|it| it.delivered).sum();
    let (missing, repeats) = (sink.missing(&sent.acknowledged), sink.repeats());
    outcome.count("acknowledged", sent.acknowledged.len());
    outcome.count("refused", usize::try_from(sent.refused)?);
    outcome.count("without an answer", usize::try_from(sent.unanswered)?);
    outcome.count("delivered", sink.unique());
    outcome.count("acknowledged and missing", missing);
    outcome.count("repeated", usize::try_from(repeats)?);
    outcome.expect(missing == 0, || format!("{missing} acknowledged are missing"));
    outcome.expect(repeats == 0, || format!("{repeats} repeats without a fault"));
    outcome.expect(sink.unreadable() == 0, || "requests without a call id came".to_owned());
    outcome.expect(counted == sink.unique() as u64, || {
        format!("the ledger counts {counted} delivered, {} came", sink.unique())
    });
    Ok(sent)
}

//! F10: the same call again: from many sides at once, one after the other, after a restart, and an hour later. It is one
//! event, and the ledger counts the others.

use std::{net::SocketAddr, time::Duration};

use anyhow::ensure;
use tokio::task::JoinSet;

use super::{
    equations, faketime,
    judge::Rules,
    ledger::{Entry, Pen},
    report::Outcome,
    rig::{Plan, Rig},
};
use crate::{clock::unix_ns, load::Template, product::Product, wire::Client};

/// Connections that send the same call at once.
const AT_ONCE: usize = 8;
/// Seconds in an hour.
const HOUR_S: i64 = 3_600;
/// Longest time a stop takes.
const STOPPED_WITHIN: Duration = Duration::from_secs(10);

/// So many calls, each sent at once, again, after a restart and an hour later.
pub async fn run(plan: Plan, calls: usize) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome { missing_tool: faketime::missing(), ..Outcome::default() };
    if outcome.missing_tool.is_some() {
        return Ok(outcome);
    }
    let mut rig = Rig::new(plan).await?;
    let clock = rig.folder().join("clock");
    faketime::set(&clock, 0)?;
    rig.setup.settings.extend(faketime::settings(&clock));
    let ids: Vec<i64> = (0..calls).map(|_| rig.gauge.next_id()).collect();
    // At once and again, by the process that knows them; then by one that reads them back; then late.
    for (passes, offset_s) in [(2, 0), (1, 0), (1, HOUR_S)] {
        faketime::set(&clock, offset_s)?;
        let product = rig.start().await?;
        for _ in 0..passes {
            send_all(&rig, &product, &ids).await?;
        }
        rig.drain().await?;
        stop(product).await?;
    }
    let last = rig.start().await?;
    judge(&rig, calls, &mut outcome)?;
    // No fault is in the ledger, so no repeat is explained.
    rig.finish(Rules::default()).await?.tell(&mut outcome);
    drop(last);
    Ok(outcome)
}

fn judge(rig: &Rig, calls: usize, outcome: &mut Outcome) -> anyhow::Result<()> {
    let ledger = equations::read(&rig.setup.ledger(true)?)?;
    let accepted: u64 = ledger.connections.iter().map(|it| it.accepted).sum();
    let duplicate: u64 = ledger.connections.iter().map(|it| it.duplicate).sum();
    outcome.figure("duplicates known as such", duplicate as f64);
    let sent = calls * AT_ONCE * 4;
    outcome.expect(accepted == calls as u64 && accepted + duplicate == sent as u64, || {
        format!("of {calls} calls sent {sent} times {accepted} are events and {duplicate} duplicates")
    });
    for _ in 0..calls {
        outcome.cycle(format!("a call sent {} times", AT_ONCE * 4), duplicate > 0);
    }
    Ok(())
}

async fn send_all(rig: &Rig, product: &Product, ids: &[i64]) -> anyhow::Result<()> {
    let path = rig.setup.hook_path()?;
    for id in ids {
        let mut request = Vec::new();
        Template::call(product.hooks, &path, true).fill(*id, &mut request);
        let mut sends: JoinSet<anyhow::Result<()>> =
            (0..AT_ONCE).map(|_| send(product.hooks, request.clone(), *id, rig.pen())).collect();
        while let Some(sent) = sends.join_next().await {
            sent??;
        }
    }
    Ok(())
}

async fn send(address: SocketAddr, request: Vec<u8>, id: i64, pen: Pen) -> anyhow::Result<()> {
    let status = Client::connect(address).await?.exchange(&request).await?.status();
    ensure!(status == 200, "a repeated call was answered {status}");
    pen.write(Entry::Acknowledged(id, unix_ns()));
    Ok(())
}

async fn stop(mut product: Product) -> anyhow::Result<()> {
    let ended = product.process.stop(STOPPED_WITHIN).await?;
    ensure!(ended.is_some(), "it did not stop within {STOPPED_WITHIN:?}");
    Ok(())
}

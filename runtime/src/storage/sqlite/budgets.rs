//! Budgets: paid from in the turn that takes the runs, settled in the one that hears of their ends.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr};
use sheaf_bundles::{
    budget::{Accounts, Bill},
    id::RunId,
};

use super::shape::fixed;
use crate::{
    queue::{backend::Batch, gate::GateId},
    storage::budgets::Purse,
};

const WRITE: &str = "INSERT INTO budget (gate, name, accounts) VALUES (?, ?, ?) \
                     ON CONFLICT (gate) DO UPDATE SET name = excluded.name, accounts = excluded.accounts";

/// What is left for runs behind a gate; `None` when its connection has no budgets.
pub async fn open<'a>(
    tx: &DatabaseTransaction,
    batch: &Batch<'a>,
    gate: GateId,
) -> Result<Option<Purse<'a>>, DbErr> {
    const READ: &str = "SELECT accounts FROM budget WHERE gate = ?";
    let Some(purse) = Purse::needed(batch.gates, gate, batch.now_ms) else { return Ok(None) };
    let row = tx.query_one_raw(fixed(READ, [purse.gate.0.into()])).await?;
    Ok(Some(purse.with(row.map(|row| row.try_get_by_index(0)).transpose()?)))
}

/// Pays for so many runs.
pub async fn pay(
    tx: &DatabaseTransaction,
    mut purse: Purse<'_>,
    runs: usize,
) -> Result<(GateId, Accounts), DbErr> {
    if runs > 0 {
        purse.pay(runs);
        write(tx, &purse).await?;
    }
    Ok((purse.gate, purse.accounts))
}

/// Settles the bills of a turn whose settles are not among the stale.
pub async fn settle(
    tx: &DatabaseTransaction,
    batch: &Batch<'_>,
    stale: &[(RunId, u32)],
) -> Result<Vec<(GateId, Accounts)>, DbErr> {
    const PENDING: &str = "SELECT count(*) FROM queue WHERE gate = ?";
    let mut bills: BTreeMap<GateId, Vec<&Bill>> = BTreeMap::new();
    let live = batch.bills.iter().filter(|row| !stale.contains(&(row.run, row.fence)));
    live.for_each(|row| bills.entry(row.gate).or_default().push(&row.bill));
    let mut settled = Vec::with_capacity(bills.len());
    for (gate, bills) in bills {
        let Some(mut purse) = open(tx, batch, gate).await? else { continue };
        let row = tx.query_one_raw(fixed(PENDING, [gate.place().into()])).await?;
        purse.settle(&bills, row.map_or(Ok(0), |row| row.try_get_by_index(0))?);
        write(tx, &purse).await?;
        settled.push((gate, purse.accounts));
    }
    Ok(settled)
}

async fn write(tx: &DatabaseTransaction, purse: &Purse<'_>) -> Result<(), DbErr> {
    let values = [purse.gate.0.into(), purse.limit.name.as_str().into(), purse.text().into()];
    tx.execute_raw(fixed(WRITE, values)).await?;
    Ok(())
}

//! Budgets: paid from in the turn that takes the runs, settled in the one that hears of their ends. Whoever reads or writes
//! one holds the lock of its gate until the turn ends, as for places: taking runs never waits for it, settling does, in the
//! order of the gates. Whoever holds such a lock takes runs, and waits for no row that another has locked.

use std::collections::BTreeMap;

use sheaf_bundles::budget::{Accounts, Bill};
use sqlx::PgConnection;

use crate::{
    queue::{
        backend::{Batch, BillRow},
        gate::GateId,
    },
    storage::budgets::Purse,
};

const WRITE: &str = "INSERT INTO budget (gate, name, accounts) VALUES ($1, $2, $3) \
                     ON CONFLICT (gate) DO UPDATE SET name = excluded.name, accounts = excluded.accounts";
const LOCK: &str = "SELECT pg_advisory_xact_lock(gate) FROM unnest($1::bigint[]) gate";

/// What is left for runs behind a gate whose lock is held; `None` when its connection has no budgets.
pub async fn open<'a>(
    connection: &mut PgConnection,
    batch: &Batch<'a>,
    gate: GateId,
) -> Result<Option<Purse<'a>>, sqlx::Error> {
    const READ: &str = "SELECT accounts FROM budget WHERE gate = $1";
    let Some(purse) = Purse::needed(batch.gates, gate, batch.now_ms) else { return Ok(None) };
    let stored: Option<String> =
        sqlx::query_scalar(READ).bind(purse.gate.0).fetch_optional(connection).await?;
    Ok(Some(purse.with(stored)))
}

/// Pays for so many runs.
pub async fn pay(
    connection: &mut PgConnection,
    mut purse: Purse<'_>,
    runs: usize,
) -> Result<(GateId, Accounts), sqlx::Error> {
    if runs > 0 {
        purse.pay(runs);
        write(connection, &purse).await?;
    }
    Ok((purse.gate, purse.accounts))
}

/// The bills of a turn whose runs are held still. To be asked before their settles are written: a batch that was stored,
/// whose answer was lost, and that was given up leaves its bills with the writer, and they come again beside settles that are
/// stale or that move a run to where it is already.
pub async fn unsettled<'a>(
    connection: &mut PgConnection,
    batch: &Batch<'a>,
) -> Result<Vec<&'a BillRow>, sqlx::Error> {
    const HELD: &str = "SELECT q.id FROM unnest($1::bigint[], $2::int[]) s (id, fence) JOIN queue q ON q.id = s.id \
                        WHERE q.fence = s.fence AND q.owner <> 0";
    if batch.bills.is_empty() {
        return Ok(Vec::new());
    }
    let (runs, fences): (Vec<i64>, Vec<i32>) =
        batch.bills.iter().map(|row| (row.run.0, row.fence.cast_signed())).unzip();
    let held: Vec<i64> = sqlx::query_scalar(HELD).bind(runs).bind(fences).fetch_all(connection).await?;
    Ok(batch.bills.iter().filter(|row| held.contains(&row.run.0)).collect())
}

/// Settles these bills of a turn.
pub async fn settle(
    connection: &mut PgConnection,
    batch: &Batch<'_>,
    unsettled: &[&BillRow],
) -> Result<Vec<(GateId, Accounts)>, sqlx::Error> {
    const PENDING: &str = "SELECT count(*) FROM queue WHERE gate = $1";
    if unsettled.is_empty() {
        return Ok(Vec::new());
    }
    let mut bills: BTreeMap<GateId, Vec<&Bill>> = BTreeMap::new();
    unsettled.iter().for_each(|row| bills.entry(row.gate).or_default().push(&row.bill));
    let gates: Vec<i64> = bills.keys().map(|gate| gate.0).collect();
    sqlx::query(LOCK).bind(gates).execute(&mut *connection).await?;
    let mut settled = Vec::with_capacity(bills.len());
    for (gate, bills) in bills {
        let Some(mut purse) = open(connection, batch, gate).await? else { continue };
        let pending = sqlx::query_scalar(PENDING).bind(gate.place()).fetch_one(&mut *connection).await?;
        purse.settle(&bills, pending);
        write(connection, &purse).await?;
        settled.push((gate, purse.accounts));
    }
    Ok(settled)
}

async fn write(connection: &mut PgConnection, purse: &Purse<'_>) -> Result<(), sqlx::Error> {
    let write = sqlx::query(WRITE).bind(purse.gate.0).bind(&purse.limit.name).bind(purse.text());
    write.execute(connection).await?;
    Ok(())
}

//! Gates: what is stored about them, and the breakers that changed in a turn.

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr};

use sheaf_bundles::id::VersionId;

use super::shape::fixed;
use crate::{
    queue::{
        gate::{GateId, GateKind},
        gates::{BreakerChange, Stored},
    },
    storage::gates,
};

/// Reads what is stored about gates.
pub async fn read(connection: &DatabaseConnection, stands: bool) -> Result<Stored, DbErr> {
    gates::stored(connection, stands).await
}

/// Stores breakers that opened, go on or closed.
pub async fn write(tx: &DatabaseTransaction, changes: &[BreakerChange]) -> Result<(), DbErr> {
    for change in changes {
        match change.open {
            Some(open) => {
                let values = gates::opened(change.gate, &change.name, open);
                tx.execute_raw(fixed(gates::OPEN, values)).await?;
            }
            None => _ = tx.execute_raw(fixed(gates::CLOSE, [change.gate.0.into()])).await?,
        }
    }
    if changes.iter().any(|change| change.open.is_none()) {
        tx.execute_raw(fixed(gates::CLEAN, [])).await?;
    }
    Ok(())
}

/// Pauses the bundles of versions that keep failing.
pub async fn pause(tx: &DatabaseTransaction, failing: &[VersionId], now_ms: i64) -> Result<(), DbErr> {
    for version in failing {
        if let Some(row) = tx.query_one_raw(fixed(gates::BUNDLE, [version.0.into()])).await? {
            let name: String = row.try_get_by_index(0)?;
            let gate = GateId::of(GateKind::Bundle, &name);
            tx.execute_raw(fixed(gates::PAUSE_FAILING, [gate.0.into(), name.into(), now_ms.into()])).await?;
        }
    }
    Ok(())
}

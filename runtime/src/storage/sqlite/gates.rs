//! Gates: what is stored about them, and the breakers that changed in a turn.

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr};

use super::shape::fixed;
use crate::{
    queue::gates::{BreakerChange, Stored},
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

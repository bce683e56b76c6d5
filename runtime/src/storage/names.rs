//! Which bundles and connections the database has heard of.

use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr};

use super::sql::statement;
use crate::queue::gate::{GateId, GateKind};

/// Whether a bundle was ever in force, or a connection brought an event or has runs that go through it now.
pub async fn known(connection: &DatabaseConnection, kind: GateKind, name: &str) -> Result<bool, DbErr> {
    const BUNDLE: &str = "SELECT 1 FROM version WHERE bundle = ? LIMIT 1";
    const CONNECTION: &str = "SELECT 1 FROM connection WHERE name = ?";
    const THROUGH: &str = "SELECT 1 FROM queue WHERE through = ? LIMIT 1";
    let asked = match kind {
        GateKind::Bundle => vec![(BUNDLE, name.into())],
        GateKind::Connection | GateKind::Source => {
            vec![(CONNECTION, name.into()), (THROUGH, GateId::of(GateKind::Connection, name).0.into())]
        }
    };
    for (sql, value) in asked {
        if connection.query_one_raw(statement(connection, sql, [value])).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

//! Gates: what is stored about them, the breakers that changed in a turn, and probes that only one node may send.

use sea_orm::{DatabaseConnection, DbErr};
use sheaf_bundles::id::VersionId;
use sqlx::PgConnection;

use crate::{
    queue::{
        gate::{GateId, GateKind},
        gates::{BreakerChange, Stored},
    },
    storage::gates,
};

const OPEN: &str = "
INSERT INTO gate (id, kind, name, why, opened_ms, until_ms, tries, probe_until_ms) VALUES ($1, 0, $2, $3, $4, $5, $6, $7)
ON CONFLICT (id) DO UPDATE SET why = excluded.why, opened_ms = excluded.opened_ms, until_ms = excluded.until_ms,
    tries = excluded.tries, probe_until_ms = excluded.probe_until_ms";
const CLOSE: &str = "UPDATE gate SET opened_ms = NULL WHERE id = $1";
const PROBE: &str = "
UPDATE gate SET probe_until_ms = $3
WHERE id = $1 AND opened_ms IS NOT NULL AND until_ms <= $2 AND coalesce(probe_until_ms, 0) <= $2";
/// Places of a connection that runs hold. Those whose lease ran out are given back by [`super::node::give_back`].
const PLACES: &str = "SELECT count(*) FROM queue WHERE gate = -$1";
/// Held by the node that gives out places, until its turn is committed. The key is the gate's own number.
const LOCK: &str = "SELECT pg_try_advisory_xact_lock($1)";

/// Reads what is stored about gates.
pub async fn read(connection: &DatabaseConnection, stands: bool) -> Result<Stored, DbErr> {
    gates::stored(connection, stands).await
}

/// Stores breakers that opened, go on or closed. In the order of their gates, as every node does.
pub async fn write(connection: &mut PgConnection, changes: &[BreakerChange]) -> Result<(), sqlx::Error> {
    for change in changes {
        match change.open {
            Some(open) => {
                let store = sqlx::query(OPEN).bind(change.gate.0).bind(&change.name).bind(open.why.name());
                let store = store.bind(open.since_ms).bind(open.until_ms).bind(open.tries.cast_signed());
                store.bind(open.probe_until_ms).execute(&mut *connection).await?;
            }
            None => _ = sqlx::query(CLOSE).bind(change.gate.0).execute(&mut *connection).await?,
        }
    }
    if changes.iter().any(|change| change.open.is_none()) {
        sqlx::query(gates::CLEAN).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Pauses the bundles of versions that keep failing.
pub async fn pause(
    connection: &mut PgConnection,
    failing: &[VersionId],
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    for version in failing {
        let bundle =
            sqlx::query_scalar(gates::BUNDLE).bind(version.0).fetch_optional(&mut *connection).await?;
        if let Some(name) = bundle {
            let name: String = name;
            let gate = GateId::of(GateKind::Bundle, &name);
            let pause = sqlx::query(gates::PAUSE_FAILING).bind(gate.0).bind(name).bind(now_ms);
            pause.execute(&mut *connection).await?;
        }
    }
    Ok(())
}

/// Whether the probe of a broken connection is this node's to send.
pub async fn probe(
    connection: &mut PgConnection,
    gate: GateId,
    now_ms: i64,
    lease_end_ms: i64,
) -> Result<bool, sqlx::Error> {
    let probe = sqlx::query(PROBE).bind(gate.0).bind(now_ms).bind(lease_end_ms);
    Ok(probe.execute(connection).await?.rows_affected() == 1)
}

/// How many places of a connection runs hold, on all nodes; none is given by another until this turn ends. `None` when
/// another node is giving some right now.
pub async fn places(connection: &mut PgConnection, gate: GateId) -> Result<Option<usize>, sqlx::Error> {
    let locked: bool = sqlx::query_scalar(LOCK).bind(gate.0).fetch_one(&mut *connection).await?;
    if !locked {
        return Ok(None);
    }
    let held: i64 = sqlx::query_scalar(PLACES).bind(gate.0).fetch_one(connection).await?;
    Ok(Some(usize::try_from(held).unwrap_or(0)))
}

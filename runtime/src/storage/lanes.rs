//! Lanes, apart from turns: what a person's replay locks, and the look after lanes that have no head.

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, TransactionTrait};
use sheaf_bundles::{id::RunId, lane::LaneId};

use super::{sql::statement, sqlite::connect::immediate};
use crate::queue::lane::lane_gate;

/// The first half of the locks of lanes in PostgreSQL; locks with two halves are apart from those with one.
pub const LOCK_SPACE: i32 = 832_594_112;
/// How many locks all lanes share: a turn holds one for each of its lanes, and the server has room for some thousands.
const STRIPES: i64 = 4_096;

/// The lock of a lane.
pub fn stripe(lane: LaneId) -> i32 {
    i32::try_from(lane.0 % STRIPES).unwrap_or_default()
}

/// Lanes looked at in one go.
pub const LOOK_LANES: u32 = 2_000;

/// From lane to lane by the index, however many runs are in each. A head has no gate, or one above that of lanes.
pub const LOOK: &str = concat!(
    "
WITH RECURSIVE l (lane, nth) AS (
    SELECT min(lane), 1 FROM queue WHERE lane IS NOT NULL AND lane > ?1
    UNION ALL
    SELECT (SELECT min(lane) FROM queue WHERE lane IS NOT NULL AND lane > l.lane), nth + 1 FROM l
    WHERE l.lane IS NOT NULL AND nth < ?2
)
SELECT l.lane, CAST(CASE WHEN EXISTS (SELECT 1 FROM queue q WHERE q.lane = l.lane AND q.gate IS NULL)
    OR EXISTS (SELECT 1 FROM queue q WHERE q.lane = l.lane AND q.gate > ",
    lane_gate!(),
    ") THEN 1 ELSE 0 END AS BIGINT)
FROM l WHERE l.lane IS NOT NULL"
);

/// Lanes after that one without a head, and where to look on; from the first lane again after the last.
pub async fn headless(
    connection: &DatabaseConnection,
    after: LaneId,
) -> Result<(Vec<LaneId>, LaneId), DbErr> {
    let values = [after.0.into(), i64::from(LOOK_LANES).into()];
    let rows = connection.query_all_raw(statement(connection, LOOK, values)).await?;
    let mut without = Vec::new();
    let mut last = after;
    for row in &rows {
        last = LaneId(row.try_get_by_index(0)?);
        if row.try_get_by_index::<i64>(1)? == 0 {
            without.push(last);
        }
    }
    let all = rows.len() < LOOK_LANES as usize;
    Ok((without, if all { LaneId::FIRST } else { last }))
}

/// Gives them heads, unless they have got one meanwhile; how many did.
pub async fn mend(connection: &DatabaseConnection, lanes: &[LaneId], now_ms: i64) -> Result<usize, DbErr> {
    const MEND: &str = concat!(
        "UPDATE queue SET gate = NULL, due_ms = CASE WHEN due_ms < ?2 THEN ?2 ELSE due_ms END \
         WHERE id = (SELECT min(id) FROM queue WHERE lane = ?1 AND gate = ",
        lane_gate!(),
        ") AND NOT EXISTS (SELECT 1 FROM queue WHERE lane = ?1 AND (gate IS NULL OR gate > ",
        lane_gate!(),
        "))"
    );
    let mut mended = 0;
    for lane in lanes {
        let tx = connection.begin_with_options(immediate()).await?;
        lock(&tx, "SELECT CAST(?1 AS BIGINT) AS lane", &[lane.0]).await?;
        mended += usize::from(
            tx.execute_raw(statement(&tx, MEND, [lane.0.into(), now_ms.into()])).await?.rows_affected() > 0,
        );
        tx.commit().await?;
    }
    Ok(mended)
}

/// Locks the lanes of finished runs that come back, before anything else of them is.
pub async fn lock_of_runs(tx: &DatabaseTransaction, runs: &[RunId]) -> Result<(), DbErr> {
    let places = vec!["?"; runs.len()].join(", ");
    let lanes = format!("SELECT lane FROM run WHERE id IN ({places}) AND lane IS NOT NULL");
    lock(tx, &lanes, &runs.iter().map(|run| run.0).collect::<Vec<_>>()).await
}

/// SQLite's writers are one at a time anyway.
async fn lock(tx: &DatabaseTransaction, lanes: &str, values: &[i64]) -> Result<(), DbErr> {
    if tx.get_database_backend() != DbBackend::Postgres {
        return Ok(());
    }
    let lock = format!(
        "SELECT pg_advisory_xact_lock({LOCK_SPACE}, s.stripe) \
         FROM (SELECT DISTINCT (lane % {STRIPES})::int AS stripe FROM ({lanes}) l ORDER BY 1) s"
    );
    tx.execute_raw(statement(tx, &lock, values.iter().map(|value| (*value).into()))).await?;
    Ok(())
}

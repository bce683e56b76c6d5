//! The ledger recounted in chunks: what the counters say at one moment, and the rows up to that moment's newest id.

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, QueryResult};
use sheaf_bundles::id::compose;

use super::sql::statement;
use crate::queue::{
    history::LedgerMismatch,
    observe::{Chunk, Counters, Rows},
};

/// One statement, so one snapshot: the counters and the newest id belong together.
const COUNTERS: &str = "
SELECT c.name, l.accepted, l.quarantined, l.filtered, l.delivered + l.parked + l.pending + l.discarded,
    max((SELECT coalesce(max(id), 0) FROM event), (SELECT coalesce(max(id), 0) FROM queue),
        (SELECT coalesce(max(id), 0) FROM run))
FROM ledger l JOIN connection c ON c.id = l.connection ORDER BY c.name";

/// The same on a database that several nodes share. A turn that is being committed may bring ids below the newest one, so
/// the count ends at an id that is older than any turn takes, and what is newer is left out of the counters again.
const COUNTERS_OF_NODES: &str = "
WITH newer AS (
    SELECT connection, sum(accepted)::bigint AS accepted, sum(quarantined)::bigint AS quarantined,
        sum(filtered)::bigint AS filtered, sum(runs)::bigint AS runs
    FROM (
        SELECT connection, (kind = 0)::int AS accepted, (kind = 1)::int AS quarantined,
            coalesce(length(filtered), 0) / 8 AS filtered, 0 AS runs
        FROM event WHERE id > ?1
        UNION ALL SELECT connection, 0, 0, 0, 1 FROM queue WHERE id > ?1
        UNION ALL SELECT connection, 0, 0, 0, 1 FROM run WHERE id > ?1
    ) r GROUP BY connection
)
SELECT c.name, l.accepted - coalesce(n.accepted, 0), l.quarantined - coalesce(n.quarantined, 0),
    l.filtered - coalesce(n.filtered, 0),
    l.delivered + l.parked + l.pending + l.discarded - coalesce(n.runs, 0), ?1::bigint
FROM ledger l JOIN connection c ON c.id = l.connection LEFT JOIN newer n ON n.connection = l.connection ORDER BY c.name";

/// Older than any turn takes, milliseconds.
const TURN_MS_MAX: i64 = 60_000;

/// Where a chunk ends: right before the event after its last one, so that the runs of its events are in it.
const END: &str = "SELECT id - 1 FROM event WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT 1 OFFSET ?3";

/// Both tables that hold runs are read in one statement: a run that moves between them is counted once.
pub const CHUNK: &str = "
SELECT c.name, sum(r.accepted), sum(r.quarantined), sum(r.filtered), sum(r.runs) FROM (
    SELECT connection, CASE kind WHEN 0 THEN 1 ELSE 0 END AS accepted, CASE kind WHEN 1 THEN 1 ELSE 0 END AS quarantined,
        coalesce(length(filtered), 0) / 8 AS filtered, 0 AS runs
    FROM event WHERE id > ?1 AND id <= ?2
    UNION ALL SELECT connection, 0, 0, 0, 1 FROM queue WHERE id > ?1 AND id <= ?2
    UNION ALL SELECT connection, 0, 0, 0, 1 FROM run WHERE id > ?1 AND id <= ?2
) r LEFT JOIN connection c ON c.id = r.connection GROUP BY c.name";

/// What is pending and what is parked, each compared in this one snapshot, unless it is much.
pub const FEW: &str = "
WITH small (pending, parked) AS (SELECT sum(pending) <= ?1, sum(parked) <= ?1 FROM ledger),
q (connection, rows) AS (SELECT connection, count(*) FROM queue WHERE (SELECT pending FROM small) GROUP BY connection),
p (connection, rows) AS (SELECT connection, count(*) FROM run WHERE state = 1 AND (SELECT parked FROM small) GROUP BY connection)
SELECT c.name, 'pending', l.pending, coalesce(q.rows, 0)
FROM ledger l JOIN connection c ON c.id = l.connection LEFT JOIN q ON q.connection = l.connection
WHERE (SELECT pending FROM small) AND l.pending <> coalesce(q.rows, 0)
UNION ALL
SELECT c.name, 'parked', l.parked, coalesce(p.rows, 0)
FROM ledger l JOIN connection c ON c.id = l.connection LEFT JOIN p ON p.connection = l.connection
WHERE (SELECT parked FROM small) AND l.parked <> coalesce(p.rows, 0)";

/// What the counters say now, and the newest id.
pub async fn counters(connection: &DatabaseConnection, now_ms: i64) -> Result<Counters, DbErr> {
    let counters = match connection.get_database_backend() {
        DbBackend::Postgres => {
            let settled = compose(now_ms - TURN_MS_MAX, 0, 0);
            statement(connection, COUNTERS_OF_NODES, [settled.into()])
        }
        _ => statement(connection, COUNTERS, []),
    };
    let rows = connection.query_all_raw(counters).await?;
    let until_id = rows.first().map_or(Ok(0), |row| row.try_get_by_index(5))?;
    Ok(Counters { until_id, said: rows.iter().map(counts).collect::<Result<_, _>>()? })
}

/// Counts rows with ids after `after` up to `until`, at most `events_max` events and their runs.
pub async fn chunk(
    connection: &DatabaseConnection,
    after: i64,
    until: i64,
    events_max: u32,
) -> Result<Chunk, DbErr> {
    let values = [after.into(), until.into(), i64::from(events_max).into()];
    let row = connection.query_one_raw(statement(connection, END, values)).await?;
    let end = row.map_or(Ok(until), |row| row.try_get_by_index(0))?;
    let rows = connection.query_all_raw(statement(connection, CHUNK, [after.into(), end.into()])).await?;
    Ok(Chunk { until_id: end, rows: rows.iter().map(counts).collect::<Result<_, _>>()? })
}

/// Counters of what is pending and parked that differ from their rows, when there are no more than `rows_max` of them.
pub async fn few_mismatches(
    connection: &DatabaseConnection,
    rows_max: u32,
) -> Result<Vec<LedgerMismatch>, DbErr> {
    let rows = connection.query_all_raw(statement(connection, FEW, [i64::from(rows_max).into()])).await?;
    let mismatch = |row: &QueryResult| {
        Ok(LedgerMismatch {
            connection: row.try_get_by_index(0)?,
            counter: row.try_get_by_index(1)?,
            counted: row.try_get_by_index(2)?,
            rows: row.try_get_by_index(3)?,
        })
    };
    rows.iter().map(mismatch).collect()
}

fn counts(row: &QueryResult) -> Result<Rows, DbErr> {
    Ok(Rows {
        connection: row.try_get_by_index::<Option<String>>(0)?.unwrap_or_default(),
        accepted: row.try_get_by_index(1)?,
        quarantined: row.try_get_by_index(2)?,
        filtered: row.try_get_by_index(3)?,
        runs: row.try_get_by_index(4)?,
    })
}

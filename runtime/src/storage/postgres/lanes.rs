//! Lanes: who is the head of a key's runs, and which of them a newer event took over. Several nodes may bring and settle
//! runs of one key at a time, so a turn locks its lanes before it looks at any of them.

use std::collections::{BTreeSet, HashMap, HashSet};

use sheaf_bundles::{
    id::{EventId, RunId},
    lane::{Keeps, LaneId},
};
use sqlx::{PgConnection, Row as _};

use crate::{
    queue::{
        backend::Batch,
        lane::{lane_gate, newness, superseded_by},
    },
    storage::{
        lanes::{LOCK_SPACE, stripe},
        ledger::{Count, Tally},
    },
};

const OCCUPIED: &str = "
SELECT l FROM unnest($1::bigint[]) l WHERE EXISTS (SELECT 1 FROM queue q WHERE q.lane = l)";

/// Due now at the soonest: claims do not look behind their cursor.
const OPEN: &str = concat!(
    "
UPDATE queue q SET gate = NULL, due_ms = greatest(q.due_ms, $2)
FROM (
    SELECT (SELECT id FROM queue WHERE lane = l AND gate = ",
    lane_gate!(),
    " ORDER BY lane, gate, id LIMIT 1) AS id
    FROM unnest($1::bigint[]) l
    WHERE NOT EXISTS (SELECT 1 FROM queue WHERE lane = l AND gate IS NULL)
        AND NOT EXISTS (SELECT 1 FROM queue WHERE lane = l AND gate > ",
    lane_gate!(),
    ")
) head
WHERE q.id = head.id RETURNING q.due_ms"
);

/// What another node is taking right now is being begun.
const NOT_BEGUN: &str = "
SELECT q.id, q.event, q.lane, e.received_ms FROM unnest($1::bigint[]) l JOIN queue q ON q.lane = l
JOIN event e ON e.id = q.event WHERE q.fence = 0 FOR UPDATE OF q SKIP LOCKED";

/// Nothing is done to these, so they are not locked.
const BEGUN: &str = "
SELECT q.id, q.event, q.lane, e.received_ms FROM unnest($1::bigint[]) l JOIN queue q ON q.lane = l
JOIN event e ON e.id = q.event WHERE q.fence <> 0";

const SUPERSEDE: &str = "
WITH gone AS (DELETE FROM queue WHERE id = ANY($1) RETURNING id, event, version, connection, lane)
INSERT INTO run (id, event, version, connection, fence, attempt, generation, state, started_ms, finished_ms, reason,
    deliveries, class, lane)
SELECT gone.id, gone.event, gone.version, gone.connection, 0, 0, 0, 2, 0, $3, s.reason, '[]', '', gone.lane
FROM gone JOIN unnest($1::bigint[], $2::text[]) s (id, reason) ON s.id = gone.id
RETURNING connection";

/// Locks the lanes that a turn changes, until it ends; in the order of the locks, so that no two wait for each other.
pub async fn lock(connection: &mut PgConnection, batch: &Batch<'_>) -> Result<(), sqlx::Error> {
    const LOCK: &str = "SELECT pg_advisory_xact_lock($1, s) FROM unnest($2::int[]) s";
    let entered = [Keeps::Every, Keeps::Latest].map(|keeps| batch.lanes_entered(keeps));
    let lanes = entered.into_iter().flatten().chain(batch.lanes_left(&[]));
    let stripes: BTreeSet<i32> = lanes.map(stripe).collect();
    if !stripes.is_empty() {
        let stripes: Vec<i32> = stripes.into_iter().collect();
        sqlx::query(LOCK).bind(LOCK_SPACE).bind(stripes).execute(connection).await?;
    }
    Ok(())
}

/// Which of these lanes have a run in the queue.
pub async fn occupied(
    connection: &mut PgConnection,
    lanes: &BTreeSet<LaneId>,
) -> Result<HashSet<LaneId>, sqlx::Error> {
    if lanes.is_empty() {
        return Ok(HashSet::new());
    }
    let found: Vec<i64> = sqlx::query_scalar(OCCUPIED).bind(numbers(lanes)).fetch_all(connection).await?;
    Ok(found.into_iter().map(LaneId).collect())
}

/// Gives a head to those of these lanes that have none; the soonest due time among the new heads.
pub async fn open(
    connection: &mut PgConnection,
    now_ms: i64,
    lanes: &BTreeSet<LaneId>,
) -> Result<Option<i64>, sqlx::Error> {
    if lanes.is_empty() {
        return Ok(None);
    }
    let due: Vec<i64> =
        sqlx::query_scalar(OPEN).bind(numbers(lanes)).bind(now_ms).fetch_all(connection).await?;
    Ok(due.into_iter().min())
}

/// Gives up the runs of these lanes that nobody has begun, unless they are the latest of their lane.
pub async fn supersede(
    connection: &mut PgConnection,
    tally: &mut Tally,
    now_ms: i64,
    lanes: &BTreeSet<LaneId>,
) -> Result<(), sqlx::Error> {
    if lanes.is_empty() {
        return Ok(());
    }
    let found = sqlx::query(NOT_BEGUN).bind(numbers(lanes)).fetch_all(&mut *connection).await?;
    let begun = sqlx::query(BEGUN).bind(numbers(lanes)).fetch_all(&mut *connection).await?;
    let mut latest = HashMap::new();
    for row in found.iter().chain(&begun) {
        let run = newness(row.try_get(3)?, RunId(row.try_get(0)?), now_ms);
        let run = (run, EventId(row.try_get(1)?));
        let latest = latest.entry(row.try_get::<i64, _>(2)?).or_insert(run);
        *latest = (*latest).max(run);
    }
    let (mut gone, mut reasons): (Vec<i64>, Vec<String>) = (Vec::new(), Vec::new());
    for row in &found {
        let ((_, _, kept), by) = latest[&row.try_get(2)?];
        let run = row.try_get(0)?;
        if RunId(run) != kept {
            gone.push(run);
            reasons.push(superseded_by(by));
        }
    }
    if gone.is_empty() {
        return Ok(());
    }
    let supersede = sqlx::query_scalar(SUPERSEDE).bind(gone).bind(reasons).bind(now_ms);
    let connections: Vec<i32> = supersede.fetch_all(connection).await?;
    for connection in connections {
        tally.add(connection.into(), Count::Pending, -1);
        tally.add(connection.into(), Count::Discarded, 1);
    }
    Ok(())
}

fn numbers(lanes: &BTreeSet<LaneId>) -> Vec<i64> {
    lanes.iter().map(|lane| lane.0).collect()
}

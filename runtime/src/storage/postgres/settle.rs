//! The ends of attempts: history, the next due time, the ledger.

use std::collections::HashSet;

use sheaf_bundles::id::RunId;
use sqlx::{PgConnection, Row as _, postgres::PgRow};

use super::publish::{small, sparse, without_nul};
use crate::{
    queue::{
        backend::{Batch, SettleRow, SettleStep},
        delivery::DeliveryRecord,
    },
    storage::{
        ledger::{Count, Tally},
        numbers::{ATTEMPT_CRASHED, ATTEMPT_REPEAT, RUN_DELIVERED, RUN_PARKED},
    },
};

const EXTEND: &str = "
UPDATE queue q SET due_ms = $3, owner = $4 FROM unnest($1::bigint[], $2::int[]) s (id, fence)
WHERE q.id = s.id AND q.fence = s.fence RETURNING q.id";

/// What is not in the run's row is taken out of the arrays by its place there: a join would write both sides aside.
const FINISH: &str = "
WITH gone AS (
    DELETE FROM queue q
    USING (SELECT unnest($1::bigint[]), unnest($2::int[]), generate_subscripts($1::bigint[], 1)) s (id, fence, place)
    WHERE q.id = s.id AND q.fence = s.fence
    RETURNING q.id, q.event, q.version, q.connection, q.fence, q.attempt, q.generation, q.lane, s.place
)
INSERT INTO run (id, event, version, connection, fence, attempt, generation, state, started_ms, finished_ms, reason,
    deliveries, class, lane)
SELECT id, event, version, connection, fence, attempt, generation, ($3::smallint[])[place], ($4::bigint[])[place], $8,
    ($5::text[])[place], ($6::text[])[place], ($7::text[])[place], lane
FROM gone
RETURNING id";

const MOVE: &str = "
UPDATE queue q SET due_ms = s.due_ms, attempt = s.attempt, crashes = s.crashes, through = s.through, gate = NULL, owner = 0
FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::int[], $5::int[], $6::bigint[])
    s (id, fence, due_ms, attempt, crashes, through)
WHERE q.id = s.id AND q.fence = s.fence RETURNING q.id";

/// A batch that was stored, whose answer was lost, and that was given up leaves its settles with the writer: they come again
/// in another one, and a run that was moved on and not claimed since has their fence still.
const ATTEMPT: &str = "
INSERT INTO attempt (run, fence, outcome, started_ms, finished_ms, deliveries)
SELECT s.run, s.fence, s.outcome, s.started_ms, $6, s.deliveries
FROM unnest($1::bigint[], $2::int[], $3::smallint[], $4::bigint[], $5::text[])
    s (run, fence, outcome, started_ms, deliveries)
ON CONFLICT (run, fence) DO NOTHING";

const STATE: &str = "
INSERT INTO run_state (run, state) SELECT * FROM unnest($1::bigint[], $2::bytea[])
ON CONFLICT (run) DO UPDATE SET state = excluded.state";

const STATE_GONE: &str = "DELETE FROM run_state WHERE run = ANY($1)";

/// Extends leases and writes the ends of attempts. Claims that met another fence changed nothing; they are returned.
pub async fn settle(
    connection: &mut PgConnection,
    tally: &mut Tally,
    batch: &Batch<'_>,
    owner: i64,
) -> Result<Vec<(RunId, u32)>, sqlx::Error> {
    let mut stale = extend(connection, batch, owner).await?;
    let ends = |settle: &&SettleRow| settle.step.next_due_ms(0).is_none();
    let (finished, moved): (Vec<&SettleRow>, Vec<&SettleRow>) = batch.settles.iter().partition(ends);
    let mut alive = finish(connection, &finished, batch.now_ms).await?;
    alive.extend(move_on(connection, &moved, batch.now_ms).await?);
    let (settled, late): (Vec<&SettleRow>, Vec<&SettleRow>) =
        batch.settles.iter().partition(|settle| alive.contains(&settle.row.run));
    stale.extend(late.iter().map(|settle| (settle.row.run, settle.row.fence)));
    for settle in &settled {
        count(settle, tally);
    }
    history(connection, &settled, batch.now_ms).await?;
    Ok(stale)
}

#[cfg(not(feature = "faulty"))]
fn fenced(sql: &'static str) -> &'static str {
    sql
}

/// A build with this promise broken does not compare fences.
#[cfg(feature = "faulty")]
fn fenced(sql: &'static str) -> sqlx::AssertSqlSafe<String> {
    let broken = crate::faulty::has(crate::faulty::Fault::NoFence);
    sqlx::AssertSqlSafe(if broken { sql.replace(" AND q.fence = s.fence", "") } else { sql.to_owned() })
}

async fn extend(
    connection: &mut PgConnection,
    batch: &Batch<'_>,
    owner: i64,
) -> Result<Vec<(RunId, u32)>, sqlx::Error> {
    if batch.extended.is_empty() {
        return Ok(Vec::new());
    }
    let (ids, fences): (Vec<i64>, Vec<i32>) =
        batch.extended.iter().map(|(run, fence)| (run.0, fence.cast_signed())).unzip();
    let extend = sqlx::query(fenced(EXTEND)).bind(ids).bind(fences).bind(batch.lease_end_ms).bind(owner);
    let alive = runs(&extend.fetch_all(connection).await?)?;
    Ok(batch.extended.iter().filter(|(run, _)| !alive.contains(run)).copied().collect())
}

async fn finish(
    connection: &mut PgConnection,
    settles: &[&SettleRow],
    now_ms: i64,
) -> Result<HashSet<RunId>, sqlx::Error> {
    if settles.is_empty() {
        return Ok(HashSet::new());
    }
    let (ids, fences) = keys(settles);
    let end = |settle: &&SettleRow| match &settle.step {
        SettleStep::Parked { reason, .. } => (small(RUN_PARKED), Some(without_nul(reason))),
        SettleStep::Delivered { reason } => (small(RUN_DELIVERED), reason.as_deref().map(without_nul)),
        _ => (small(RUN_DELIVERED), None),
    };
    let (states, reasons): (Vec<i16>, Vec<Option<String>>) = settles.iter().map(end).unzip();
    let started: Vec<i64> = settles.iter().map(|settle| settle.started_ms).collect();
    let texts: Vec<String> = settles.iter().map(|settle| deliveries(&settle.deliveries)).collect();
    let class = |settle: &&SettleRow| settle.deliveries.last().map_or("", |last| last.class.name());
    let classes: Vec<&str> = settles.iter().map(class).collect();
    let finish = sqlx::query(fenced(FINISH)).bind(ids).bind(fences).bind(states).bind(started);
    let finish = finish.bind(sparse(&reasons));
    runs(&finish.bind(texts).bind(classes).bind(now_ms).fetch_all(connection).await?)
}

async fn move_on(
    connection: &mut PgConnection,
    settles: &[&SettleRow],
    now_ms: i64,
) -> Result<HashSet<RunId>, sqlx::Error> {
    if settles.is_empty() {
        return Ok(HashSet::new());
    }
    let (ids, fences) = keys(settles);
    let due: Vec<i64> =
        settles.iter().map(|settle| settle.step.next_due_ms(now_ms).unwrap_or(now_ms)).collect();
    let counts = |settle: &&SettleRow| {
        let refused = u32::from(matches!(settle.step, SettleStep::Retry { .. }));
        let crashed = u32::from(matches!(settle.step, SettleStep::Crashed { .. }));
        ((settle.row.attempt + refused).cast_signed(), (settle.row.crashes + crashed).cast_signed())
    };
    let (attempts, crashes): (Vec<i32>, Vec<i32>) = settles.iter().map(counts).unzip();
    let through: Vec<i64> = settles.iter().map(|settle| settle.through.0).collect();
    let moved =
        sqlx::query(fenced(MOVE)).bind(ids).bind(fences).bind(due).bind(attempts).bind(crashes).bind(through);
    runs(&moved.fetch_all(connection).await?)
}

fn count(settle: &SettleRow, tally: &mut Tally) {
    let connection = settle.row.connection;
    let counter = match &settle.step {
        SettleStep::Delivered { .. } => Count::Delivered,
        SettleStep::Parked { .. } => Count::Parked,
        SettleStep::Retry { .. }
        | SettleStep::Onward { .. }
        | SettleStep::Released { .. }
        | SettleStep::Crashed { .. } => return,
    };
    tally.add(connection, counter, 1);
    tally.add(connection, Count::Pending, -1);
}

/// What the settled leave beside the queue: attempts to be repeated, states for the next attempt or a replay.
async fn history(
    connection: &mut PgConnection,
    settled: &[&SettleRow],
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    let mut attempts = Vec::new();
    let (mut kept, mut states, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    for settle in settled {
        match &settle.step {
            SettleStep::Delivered { .. } if settle.row.has_state => gone.push(settle.row.run.0),
            SettleStep::Delivered { .. }
            | SettleStep::Released { .. }
            | SettleStep::Parked { state: None, .. } => {}
            SettleStep::Parked { state: Some(state), .. } => {
                kept.push(settle.row.run.0);
                states.push(state.as_slice());
            }
            SettleStep::Retry { state, .. } | SettleStep::Onward { state } => {
                if !settle.deliveries.is_empty() || matches!(settle.step, SettleStep::Retry { .. }) {
                    attempts.push((*settle, small(ATTEMPT_REPEAT)));
                }
                kept.push(settle.row.run.0);
                states.push(state.as_slice());
            }
            SettleStep::Crashed { .. } => attempts.push((*settle, small(ATTEMPT_CRASHED))),
        }
    }
    if !attempts.is_empty() {
        let (settles, outcomes): (Vec<&SettleRow>, Vec<i16>) = attempts.into_iter().unzip();
        let (ids, fences) = keys(&settles);
        let started: Vec<i64> = settles.iter().map(|settle| settle.started_ms).collect();
        let texts: Vec<String> = settles.iter().map(|settle| deliveries(&settle.deliveries)).collect();
        let attempt = sqlx::query(ATTEMPT).bind(ids).bind(fences).bind(outcomes).bind(started);
        attempt.bind(texts).bind(now_ms).execute(&mut *connection).await?;
    }
    if !kept.is_empty() {
        sqlx::query(STATE).bind(kept).bind(states).execute(&mut *connection).await?;
    }
    if !gone.is_empty() {
        sqlx::query(STATE_GONE).bind(gone).execute(&mut *connection).await?;
    }
    Ok(())
}

fn keys(settles: &[&SettleRow]) -> (Vec<i64>, Vec<i32>) {
    settles.iter().map(|settle| (settle.row.run.0, settle.row.fence.cast_signed())).unzip()
}

fn runs(rows: &[PgRow]) -> Result<HashSet<RunId>, sqlx::Error> {
    rows.iter().map(|row| row.try_get(0).map(RunId)).collect()
}

/// As JSON that PostgreSQL can look into. A vendor's answer may hold a NUL, and PostgreSQL's text cannot: as an escape it is
/// stored, but a query that reads anything of that JSON fails.
fn deliveries(deliveries: &[DeliveryRecord]) -> String {
    let json = serde_json::to_string(deliveries).expect("records of texts and numbers are always JSON");
    without_nul_escapes(json)
}

/// Puts U+FFFD where a NUL is escaped; a backslash that is itself escaped is passed over with what it escapes.
fn without_nul_escapes(json: String) -> String {
    const NUL: &str = r"\u0000";
    if !json.contains(NUL) {
        return json;
    }
    let mut clean = String::with_capacity(json.len());
    let mut rest = json.as_str();
    while let Some(at) = rest.find('\\') {
        clean.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix(NUL) {
            clean.push('\u{fffd}');
            rest = after;
        } else {
            // What is escaped is one byte: JSON escapes quotes, backslashes and letters.
            let (escape, after) = rest.split_at(2);
            clean.push_str(escape);
            rest = after;
        }
    }
    clean + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nul_is_replaced_and_a_text_that_looks_like_its_escape_is_not() {
        let said = "a\0b\n\\u0000 \\\0\"я\0";
        let json = without_nul_escapes(serde_json::to_string(said).unwrap());
        let read: String = serde_json::from_str(&json).unwrap();
        assert_eq!(read, said.replace('\0', "\u{fffd}"));
    }
}

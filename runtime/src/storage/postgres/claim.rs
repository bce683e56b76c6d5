//! Taking due runs from the database.

use std::collections::HashMap;

use sheaf_bundles::id::{EventId, RunId, VersionId};
use sqlx::{PgConnection, Row as _, postgres::PgRow};

use super::publish::count;
use crate::{
    queue::backend::{Batch, ClaimedRow, QueueRow},
    storage::head,
};

/// How far behind the cursor a claim begins, milliseconds: rows come with the time their turn began, and are seen when
/// it is committed.
const SLACK_MS: i64 = 500;
/// How often a claim begins at the very first row, milliseconds: what a slow commit put in behind the cursor.
const SWEEP_MS: i64 = 3_000;

/// The due time moves forward to the end of the lease; a row whose lease ran out is counted as lost.
pub const TAKE: &str = "
WITH due AS (
    SELECT id, due_ms FROM queue WHERE due_ms <= $1 AND due_ms >= $2 ORDER BY due_ms, id LIMIT $3 FOR UPDATE SKIP LOCKED
)
UPDATE queue q SET due_ms = $4, fence = q.fence + 1, lost = q.lost + (q.owner <> 0)::int, owner = $5
FROM due WHERE q.id = due.id
RETURNING q.id, q.event, q.version, q.connection, q.fence, q.attempt, q.generation, q.crashes, q.lost, due.due_ms";

const DETAILS: &str = "
SELECT q.id, c.name, e.received_ms, b.head, b.body, s.state
FROM unnest($1::bigint[]) r (id) JOIN queue q ON q.id = r.id JOIN event e ON e.id = q.event JOIN body b ON b.id = q.event
    JOIN connection c ON c.id = e.connection LEFT JOIN run_state s ON s.run = q.id";

/// Where claims begin to look. With old snapshots open, the rows that were claimed and settled stay in the index for a
/// while; a claim that reads past them all became slower and slower.
#[derive(Debug, Default)]
pub struct Cursor {
    from_ms: i64,
    swept_ms: i64,
}

/// What a claim found.
pub struct Claims {
    /// The runs.
    pub rows: Vec<ClaimedRow>,
    /// The soonest due time of all that is left, unless there may be more that is due.
    pub soonest_due_ms: Option<i64>,
    /// Where the next claim begins.
    pub next: Cursor,
}

impl Cursor {
    /// Claims up to the batch's limit of runs that are due, oldest due time first.
    pub async fn claim(
        &self,
        connection: &mut PgConnection,
        batch: &Batch<'_>,
        owner: i64,
    ) -> Result<Claims, sqlx::Error> {
        // A clock that went back makes rows due behind the cursor.
        let sweep = batch.now_ms >= self.swept_ms + SWEEP_MS || batch.now_ms < self.swept_ms;
        let from_ms = if sweep { i64::MIN } else { self.from_ms.saturating_sub(SLACK_MS) };
        let swept_ms = if sweep { batch.now_ms } else { self.swept_ms };
        let take = sqlx::query(TAKE).bind(batch.now_ms).bind(from_ms).bind(count(batch.claim_max));
        let taken = take.bind(batch.lease_end_ms).bind(owner).fetch_all(&mut *connection).await?;
        let mut rows: Vec<QueueRow> = taken.iter().map(queue_row).collect::<Result<_, _>>()?;
        rows.sort_unstable_by_key(|row| row.run);
        let all = rows.len() < batch.claim_max;
        let newest_ms = taken
            .iter()
            .map(|row| row.try_get::<i64, _>(9))
            .try_fold(from_ms, |newest, due| Ok::<_, sqlx::Error>(newest.max(due?)))?;
        let next = Cursor { from_ms: if all { batch.now_ms } else { newest_ms }, swept_ms };
        let soonest_due_ms = if all { soonest_due_ms(connection, from_ms).await? } else { None };
        Ok(Claims { rows: details(connection, rows).await?, soonest_due_ms, next })
    }
}

/// What is left once all that is due was taken.
pub const SOONEST: &str = "SELECT due_ms FROM queue WHERE due_ms >= $1 ORDER BY due_ms, id LIMIT 1";

async fn soonest_due_ms(connection: &mut PgConnection, from_ms: i64) -> Result<Option<i64>, sqlx::Error> {
    let row = sqlx::query(SOONEST).bind(from_ms).fetch_optional(connection).await?;
    row.map(|row| row.try_get(0)).transpose()
}

async fn details(connection: &mut PgConnection, rows: Vec<QueueRow>) -> Result<Vec<ClaimedRow>, sqlx::Error> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<i64> = rows.iter().map(|row| row.run.0).collect();
    let mut by_run: HashMap<i64, PgRow> = HashMap::with_capacity(rows.len());
    for found in sqlx::query(DETAILS).bind(ids).fetch_all(connection).await? {
        by_run.insert(found.try_get(0)?, found);
    }
    let with_details = |row: QueueRow| Some(claimed_row(row, by_run.get(&row.run.0)?));
    rows.into_iter().filter_map(with_details).collect()
}

fn queue_row(row: &PgRow) -> Result<QueueRow, sqlx::Error> {
    let number = |column: usize| row.try_get::<i32, _>(column).map(i32::cast_unsigned);
    Ok(QueueRow {
        run: RunId(row.try_get(0)?),
        event: EventId(row.try_get(1)?),
        version: VersionId(row.try_get(2)?),
        connection: row.try_get::<i32, _>(3)?.into(),
        fence: number(4)?,
        attempt: number(5)?,
        generation: number(6)?,
        crashes: number(7)?,
        lost: number(8)?,
        has_state: false,
    })
}

fn claimed_row(row: QueueRow, details: &PgRow) -> Result<ClaimedRow, sqlx::Error> {
    let name: String = details.try_get(1)?;
    let text: &str = details.try_get(3)?;
    let received = head::read(text, details.try_get(4)?, details.try_get(2)?)
        .map_err(|error| sqlx::Error::Decode(format!("the stored head of {}: {error}", row.event).into()))?;
    let state: Option<Vec<u8>> = details.try_get(5)?;
    let row = QueueRow { has_state: state.is_some(), ..row };
    Ok(ClaimedRow { row, connection: name.into(), received, state })
}

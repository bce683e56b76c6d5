//! Taking due runs from the database.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, QueryResult};
use sheaf_bundles::id::{EventId, RunId, VersionId};

use super::shape::{Rows, Shape, Shapes, fixed};
use crate::{
    queue::backend::{ClaimedRow, QueueRow},
    storage::head,
};

/// The due time moves forward to the end of the lease; a row whose lease ran out is counted as lost.
const TAKE: &str = "
UPDATE queue SET due_ms = ?, fence = fence + 1, lost = lost + (owner <> 0), owner = ?
WHERE id IN (SELECT id FROM queue WHERE due_ms <= ? ORDER BY due_ms, id LIMIT ?)
RETURNING id, event, version, connection, fence, attempt, generation, crashes, lost";

const DETAILS: Shape = Shape {
    before: "SELECT q.id, c.name, e.received_ms, b.head, b.body, s.state FROM (",
    columns: 1,
    after: ") v CROSS JOIN queue q ON q.id = v.column1 JOIN event e ON e.id = q.event JOIN body b ON b.id = q.event \
            JOIN connection c ON c.id = e.connection LEFT JOIN run_state s ON s.run = q.id",
};

/// Claims up to `claim_max` runs that are due, oldest due time first.
pub async fn claim(
    tx: &DatabaseTransaction,
    shapes: &mut Shapes,
    now_ms: i64,
    lease_end_ms: i64,
    owner: i64,
    claim_max: usize,
) -> Result<Vec<ClaimedRow>, DbErr> {
    let limit = i64::try_from(claim_max).unwrap_or(i64::MAX);
    let values = [lease_end_ms.into(), owner.into(), now_ms.into(), limit.into()];
    let mut rows: Vec<QueueRow> =
        tx.query_all_raw(fixed(TAKE, values)).await?.iter().map(queue_row).collect::<Result<_, _>>()?;
    rows.sort_unstable_by_key(|row| row.run);

    let mut ids = Rows::with_capacity(rows.len());
    let mut by_run: HashMap<i64, QueueRow> = HashMap::with_capacity(rows.len());
    for row in &rows {
        ids.push([row.run.0.into()]);
        by_run.insert(row.run.0, *row);
    }
    let mut claimed = Vec::with_capacity(rows.len());
    for details in shapes.query(tx, &DETAILS, ids).await? {
        if let Some(row) = by_run.remove(&details.try_get_by_index(0)?) {
            claimed.push(claimed_row(row, &details)?);
        }
    }
    Ok(claimed)
}

/// The soonest due time of all.
pub async fn soonest_due_ms(tx: &DatabaseTransaction) -> Result<Option<i64>, DbErr> {
    let row = tx.query_one_raw(fixed("SELECT min(due_ms) FROM queue", [])).await?;
    row.map_or(Ok(None), |row| row.try_get_by_index(0))
}

fn queue_row(row: &QueryResult) -> Result<QueueRow, DbErr> {
    Ok(QueueRow {
        run: RunId(row.try_get_by_index(0)?),
        event: EventId(row.try_get_by_index(1)?),
        version: VersionId(row.try_get_by_index(2)?),
        connection: row.try_get_by_index(3)?,
        fence: row.try_get_by_index(4)?,
        attempt: row.try_get_by_index(5)?,
        generation: row.try_get_by_index(6)?,
        crashes: row.try_get_by_index(7)?,
        lost: row.try_get_by_index(8)?,
        has_state: false,
    })
}

fn claimed_row(row: QueueRow, details: &QueryResult) -> Result<ClaimedRow, DbErr> {
    let name: String = details.try_get_by_index(1)?;
    let text: String = details.try_get_by_index(3)?;
    let received = head::read(&text, details.try_get_by_index(4)?, details.try_get_by_index(2)?)
        .map_err(|error| DbErr::Custom(format!("the stored head of {}: {error}", row.event)))?;
    let state: Option<Vec<u8>> = details.try_get_by_index(5)?;
    let row = QueueRow { has_state: state.is_some(), ..row };
    Ok(ClaimedRow { row, connection: name.into(), received, state })
}

//! Taking due runs from the database: those that are ready, and those that come out from behind gates.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, QueryResult, Value};
use sheaf_bundles::{
    budget::Accounts,
    id::{EventId, RunId, VersionId},
    lane::LaneId,
};

use super::{
    budgets,
    shape::{Rows, Shape, Shapes, fixed},
};
use crate::{
    queue::{
        backend::{Batch, ClaimedRow, QueueRow},
        gate::GateId,
        gates::{Door, Opening, Place},
    },
    storage::head,
};

/// The due time moves forward to the end of the lease; a row whose lease ran out is counted as lost.
const TAKE: &str = "
UPDATE queue SET due_ms = ?, fence = fence + 1, lost = lost + (owner <> 0), owner = ?
WHERE id IN (SELECT id FROM queue WHERE gate IS NULL AND due_ms <= ? ORDER BY due_ms, id LIMIT ?)
RETURNING id, event, version, connection, fence, attempt, generation, crashes, lost, through, lane";

/// What is asked about before it is taken.
pub const READY: &str = "
SELECT id, version, through, generation FROM queue WHERE gate IS NULL AND due_ms <= ? ORDER BY due_ms, id LIMIT ?";
pub const BEHIND: &str = "
SELECT id, version, through, generation FROM queue WHERE gate = ? AND due_ms <= ? ORDER BY due_ms, id LIMIT ?";

const TAKE_THESE: Shape = Shape {
    before: "UPDATE queue SET due_ms = v.column2, fence = fence + 1, lost = lost + (owner <> 0), owner = v.column3, \
             gate = v.column4 FROM (",
    columns: 4,
    after: ") v WHERE queue.id = v.column1 \
            RETURNING id, event, version, connection, fence, attempt, generation, crashes, lost, through, lane",
};

const PUT_BEHIND: Shape = Shape {
    before: "UPDATE queue SET gate = v.column2, lost = lost + (owner <> 0), owner = 0 FROM (",
    columns: 2,
    after: ") v WHERE queue.id = v.column1",
};

const DETAILS: Shape = Shape {
    before: "SELECT q.id, c.name, e.received_ms, b.head, b.body, s.state FROM (",
    columns: 1,
    after: ") v CROSS JOIN queue q ON q.id = v.column1 JOIN event e ON e.id = q.event JOIN body b ON b.id = q.event \
            JOIN connection c ON c.id = e.connection LEFT JOIN run_state s ON s.run = q.id",
};

/// Runs looked at in one go once one of them had to be put behind a gate: its fellows are right behind it.
const SORTED_AT_ONCE: usize = 1_024;
/// How often that is done in one turn.
const SORTS_MAX: usize = 4;

/// What a turn's claims need.
pub struct Claiming<'a> {
    pub tx: &'a DatabaseTransaction,
    pub shapes: &'a mut Shapes,
    pub batch: &'a Batch<'a>,
    pub owner: i64,
}

/// What a turn's claims found.
#[derive(Default)]
pub struct Claims {
    pub rows: Vec<ClaimedRow>,
    /// See [`crate::queue::backend::Committed`].
    pub behind: Vec<(GateId, Option<i64>)>,
    pub probes: Vec<(RunId, GateId)>,
    pub accounts: Vec<(GateId, Accounts)>,
    pub soonest_due_ms: Option<i64>,
}

/// A run that is due.
struct Candidate {
    run: i64,
    version: VersionId,
    through: GateId,
    /// It repeats what was done before.
    replayed: bool,
}

/// Where runs go.
#[derive(Default)]
struct Sorted {
    taken: Vec<(i64, Option<i64>)>,
    put: Vec<(i64, GateId)>,
}

impl Claiming<'_> {
    /// Claims runs that are due, oldest due time first, as long as there are slots for them.
    pub async fn claim(&mut self, door: &mut Door<'_>) -> Result<Claims, DbErr> {
        let mut claims = Claims::default();
        let mut rows = Vec::new();
        if self.batch.claim_max > 0 {
            let full = if door.is_plain(self.batch.claim_max) {
                rows = self.plainly(door).await?;
                rows.len() == self.batch.claim_max
            } else {
                self.ready(door, &mut claims, &mut rows).await?
            };
            let now_ms = self.batch.now_ms;
            claims.soonest_due_ms = if full { Some(now_ms) } else { soonest_due_ms(self.tx).await? };
        }
        for opening in door.openings() {
            if door.free() > 0 {
                self.out_of(&opening, door, &mut claims, &mut rows).await?;
            }
        }
        claims.rows = self.details(rows).await?;
        Ok(claims)
    }

    async fn plainly(&mut self, door: &mut Door<'_>) -> Result<Vec<QueueRow>, DbErr> {
        let Batch { now_ms, lease_end_ms, claim_max, .. } = self.batch;
        let values = [(*lease_end_ms).into(), self.owner.into(), (*now_ms).into(), limit(*claim_max)];
        let rows: Vec<QueueRow> = self
            .tx
            .query_all_raw(fixed(TAKE, values))
            .await?
            .iter()
            .map(queue_row)
            .collect::<Result<_, _>>()?;
        rows.iter().for_each(|row| door.took(row.through));
        Ok(rows)
    }

    /// Sorts what is ready. Whether there may be more of it.
    async fn ready(
        &mut self,
        door: &mut Door<'_>,
        claims: &mut Claims,
        rows: &mut Vec<QueueRow>,
    ) -> Result<bool, DbErr> {
        let mut wanted = self.batch.claim_max;
        for _ in 0..SORTS_MAX {
            let candidates = self.candidates(READY, [self.batch.now_ms.into(), limit(wanted)]).await?;
            let full = candidates.len() == wanted;
            let mut sorted = Sorted::default();
            for candidate in candidates {
                match door.place_any(candidate.through, candidate.version, candidate.replayed) {
                    Place::Slot => sorted.taken.push((candidate.run, None)),
                    Place::Ready => {}
                    Place::Behind(gate) => sorted.put.push((candidate.run, gate)),
                }
            }
            let all_taken = sorted.put.is_empty();
            self.write(sorted, claims, rows).await?;
            if !full || all_taken || door.free() == 0 {
                return Ok(full);
            }
            wanted = SORTED_AT_ONCE;
        }
        Ok(true)
    }

    async fn out_of(
        &mut self,
        opening: &Opening,
        door: &mut Door<'_>,
        claims: &mut Claims,
        rows: &mut Vec<QueueRow>,
    ) -> Result<(), DbErr> {
        const PROBE: &str = "UPDATE gate SET probe_until_ms = ? WHERE id = ?";
        let purse = budgets::open(self.tx, self.batch, opening.gate).await?;
        let runs_max = purse.as_ref().map_or(opening.runs_max, |purse| purse.runs_max(opening));
        let values = [opening.gate.0.into(), self.batch.now_ms.into(), limit(runs_max)];
        let mut sorted = Sorted::default();
        let mut paid = 0;
        for candidate in self.candidates(BEHIND, values).await? {
            let Candidate { run, version, through, replayed } = candidate;
            match door.place_from(opening, through, version, replayed) {
                Place::Slot => {
                    let own = opening.is_of(through);
                    sorted.taken.push((run, (own && opening.gives_places()).then(|| through.place())));
                    paid += usize::from(own);
                    if opening.probe && own {
                        claims.probes.push((RunId(run), through));
                        let values = [self.batch.lease_end_ms.into(), through.0.into()];
                        self.tx.execute_raw(fixed(PROBE, values)).await?;
                    }
                }
                Place::Behind(gate) if gate != opening.gate => sorted.put.push((run, gate)),
                Place::Behind(_) | Place::Ready => {}
            }
        }
        self.write(sorted, claims, rows).await?;
        if let Some(purse) = purse {
            claims.accounts.push(budgets::pay(self.tx, purse, paid).await?);
        }
        let soonest_ms = self.soonest_behind(opening.gate).await?;
        if soonest_ms.is_none() {
            door.drained(opening.gate);
        }
        claims.behind.push((opening.gate, soonest_ms));
        Ok(())
    }

    async fn candidates<const N: usize>(
        &mut self,
        sql: &str,
        values: [Value; N],
    ) -> Result<Vec<Candidate>, DbErr> {
        let candidate = |row: &QueryResult| {
            Ok(Candidate {
                run: row.try_get_by_index(0)?,
                version: VersionId(row.try_get_by_index(1)?),
                through: GateId(row.try_get_by_index(2)?),
                replayed: row.try_get_by_index::<i64>(3)? > 0,
            })
        };
        self.tx.query_all_raw(fixed(sql, values)).await?.iter().map(candidate).collect()
    }

    async fn write(
        &mut self,
        sorted: Sorted,
        claims: &mut Claims,
        rows: &mut Vec<QueueRow>,
    ) -> Result<(), DbErr> {
        let mut put = Rows::with_capacity(sorted.put.len() * 2);
        for (run, gate) in sorted.put {
            put.push([run.into(), gate.0.into()]);
            claims.behind.push((gate, Some(self.batch.now_ms)));
        }
        self.shapes.execute(self.tx, &PUT_BEHIND, put).await?;
        let mut take = Rows::with_capacity(sorted.taken.len() * 4);
        for (run, place) in sorted.taken {
            take.push([run.into(), self.batch.lease_end_ms.into(), self.owner.into(), place.into()]);
        }
        for row in self.shapes.query(self.tx, &TAKE_THESE, take).await? {
            rows.push(queue_row(&row)?);
        }
        Ok(())
    }

    async fn soonest_behind(&self, gate: GateId) -> Result<Option<i64>, DbErr> {
        const SOONEST: &str = "SELECT min(due_ms) FROM queue WHERE gate = ?";
        let row = self.tx.query_one_raw(fixed(SOONEST, [gate.0.into()])).await?;
        row.map_or(Ok(None), |row| row.try_get_by_index(0))
    }

    async fn details(&mut self, mut rows: Vec<QueueRow>) -> Result<Vec<ClaimedRow>, DbErr> {
        rows.sort_unstable_by_key(|row| row.run);
        let mut ids = Rows::with_capacity(rows.len());
        let mut by_run: HashMap<i64, QueueRow> = HashMap::with_capacity(rows.len());
        for row in &rows {
            ids.push([row.run.0.into()]);
            by_run.insert(row.run.0, *row);
        }
        let mut claimed = Vec::with_capacity(rows.len());
        for details in self.shapes.query(self.tx, &DETAILS, ids).await? {
            if let Some(row) = by_run.remove(&details.try_get_by_index(0)?) {
                claimed.push(claimed_row(row, &details)?);
            }
        }
        Ok(claimed)
    }
}

fn limit(rows: usize) -> Value {
    i64::try_from(rows).unwrap_or(i64::MAX).into()
}

/// The soonest due time of all that is not behind a gate.
async fn soonest_due_ms(tx: &DatabaseTransaction) -> Result<Option<i64>, DbErr> {
    let row = tx.query_one_raw(fixed("SELECT min(due_ms) FROM queue WHERE gate IS NULL", [])).await?;
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
        through: GateId(row.try_get_by_index(9)?),
        lane: row.try_get_by_index::<Option<i64>>(10)?.map(LaneId),
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

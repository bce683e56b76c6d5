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
        backend::{Batch, ClaimedRow, GateNote, QueueRow},
        gate::{GateId, GateKind, Stand},
        gates::door::{Door, Due, Opening, Place, ROUNDS_MAX},
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
SELECT id, version, through, generation, (SELECT bundle FROM version WHERE version.id = queue.version)
FROM queue WHERE gate IS NULL AND due_ms <= ? ORDER BY due_ms, id LIMIT ?";
pub const BEHIND: &str = "
SELECT id, version, through, generation, (SELECT bundle FROM version WHERE version.id = queue.version)
FROM queue WHERE gate = ? AND due_ms <= ? ORDER BY due_ms, id LIMIT ?";

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

const SOONEST_BEHIND: Shape = Shape {
    before: "SELECT v.column1, (SELECT min(due_ms) FROM queue WHERE gate = v.column1) FROM (",
    columns: 1,
    after: ") v WHERE v.column1 IS NOT NULL",
};

const DETAILS: Shape = Shape {
    before: "SELECT q.id, c.name, e.received_ms, b.head, b.body, s.state FROM (",
    columns: 1,
    after: ") v CROSS JOIN queue q ON q.id = v.column1 LEFT JOIN event e ON e.id = q.event \
            LEFT JOIN body b ON b.id = q.event LEFT JOIN connection c ON c.id = e.connection LEFT JOIN run_state s ON s.run = q.id",
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
    pub behind: Vec<GateNote>,
    pub crowded: Option<bool>,
    pub probes: Vec<(RunId, GateId)>,
    pub accounts: Vec<(GateId, Accounts)>,
    pub soonest_due_ms: Option<i64>,
}

/// A run that is due.
struct Candidate {
    run: i64,
    due: Due,
}

/// Where runs go.
#[derive(Default)]
struct Sorted {
    taken: Vec<(i64, Option<i64>)>,
    put: Vec<(i64, Stand)>,
}

impl Claiming<'_> {
    /// Claims runs that are due, oldest due time first, as long as there are slots for them.
    pub async fn claim(&mut self, door: &mut Door<'_>) -> Result<Claims, DbErr> {
        let mut claims = Claims::default();
        let mut rows = Vec::new();
        if self.batch.claim_max > 0 && door.is_turn_of_waiting() {
            self.waiting(door, &mut claims, &mut rows).await?;
        }
        if self.batch.claim_max > 0 && door.free() == 0 {
            claims.soonest_due_ms = Some(self.batch.now_ms);
        } else if self.batch.claim_max > 0 {
            let full = if door.is_plain(self.batch.claim_max) {
                rows = self.plainly(door).await?;
                rows.len() == self.batch.claim_max
            } else {
                self.ready(door, &mut claims, &mut rows).await?
            };
            let now_ms = self.batch.now_ms;
            claims.soonest_due_ms = if full { Some(now_ms) } else { soonest_due_ms(self.tx).await? };
            claims.crowded = Some(full && door.free() == 0);
        }
        self.waiting(door, &mut claims, &mut rows).await?;
        claims.rows = self.details(rows).await?;
        Ok(claims)
    }

    /// Claims runs that wait behind gates which let them out.
    async fn waiting(
        &mut self,
        door: &mut Door<'_>,
        claims: &mut Claims,
        rows: &mut Vec<QueueRow>,
    ) -> Result<(), DbErr> {
        for opening in &door.openings_apart() {
            if door.has_room(opening) {
                self.out_of(std::slice::from_ref(opening), door, claims, rows).await?;
            }
        }
        self.together(door, claims, rows).await
    }

    /// The same behind those that need nothing besides. Who has nothing more leaves its slots to the others.
    async fn together(
        &mut self,
        door: &mut Door<'_>,
        claims: &mut Claims,
        rows: &mut Vec<QueueRow>,
    ) -> Result<(), DbErr> {
        for _ in 0..ROUNDS_MAX {
            let openings = door.more_openings();
            if door.free() == 0 || openings.is_empty() {
                break;
            }
            self.out_of(&openings, door, claims, rows).await?;
        }
        Ok(())
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
                match door.place(&candidate.due) {
                    Place::Slot => sorted.taken.push((candidate.run, None)),
                    Place::Ready => {}
                    Place::Behind(stand) => sorted.put.push((candidate.run, stand)),
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

    /// Takes what comes out of openings: any number of those that need nothing besides, or one.
    async fn out_of(
        &mut self,
        openings: &[Opening],
        door: &mut Door<'_>,
        claims: &mut Claims,
        rows: &mut Vec<QueueRow>,
    ) -> Result<(), DbErr> {
        let mut sorted = Sorted::default();
        let mut looked = Vec::new();
        for opening in openings {
            let purse = budgets::open(self.tx, self.batch, opening.gate).await?;
            let runs_max = purse.as_ref().map_or(opening.runs_max, |purse| purse.runs_max(opening));
            let before = sorted.taken.len();
            for (stand, runs) in opening.deal(runs_max) {
                let values = [stand.row.0.into(), self.batch.now_ms.into(), limit(runs)];
                for candidate in self.candidates(BEHIND, values).await? {
                    self.sort(opening, stand, &candidate, door, &mut sorted, claims).await?;
                }
                looked.push(stand);
            }
            if let Some(purse) = purse {
                // Whatever comes out here goes through the connection that it is paid for.
                claims.accounts.push(budgets::pay(self.tx, purse, sorted.taken.len() - before).await?);
            }
        }
        self.write(sorted, claims, rows).await?;
        self.look_again(looked, door, claims).await
    }

    async fn sort(
        &mut self,
        opening: &Opening,
        stand: Stand,
        Candidate { run, due }: &Candidate,
        door: &mut Door<'_>,
        sorted: &mut Sorted,
        claims: &mut Claims,
    ) -> Result<(), DbErr> {
        const PROBE: &str = "UPDATE gate SET probe_until_ms = ? WHERE id = ?";
        match door.place_from(opening, stand.row, due) {
            Place::Slot => {
                let own = opening.is_of(due.through);
                sorted.taken.push((*run, (own && opening.gives_places()).then(|| due.through.place())));
                if opening.probe && own {
                    claims.probes.push((RunId(*run), due.through));
                    let values = [self.batch.lease_end_ms.into(), due.through.0.into()];
                    self.tx.execute_raw(fixed(PROBE, values)).await?;
                }
            }
            Place::Behind(to) if to != stand => sorted.put.push((*run, to)),
            Place::Behind(_) | Place::Ready => {}
        }
        Ok(())
    }

    /// Finds out where nobody is left.
    async fn look_again(
        &mut self,
        looked: Vec<Stand>,
        door: &mut Door<'_>,
        claims: &mut Claims,
    ) -> Result<(), DbErr> {
        let mut gates = Rows::with_capacity(looked.len());
        looked.iter().for_each(|stand| gates.push([stand.row.0.into()]));
        let mut soonest: HashMap<i64, Option<i64>> = HashMap::with_capacity(looked.len());
        for row in self.shapes.query(self.tx, &SOONEST_BEHIND, gates).await? {
            soonest.insert(row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        }
        for stand in looked {
            let again_ms = soonest.get(&stand.row.0).copied().flatten();
            if again_ms.is_none() {
                door.drained(stand);
            }
            claims.behind.push(GateNote::Looked { stand, again_ms });
        }
        Ok(())
    }

    async fn candidates<const N: usize>(
        &mut self,
        sql: &str,
        values: [Value; N],
    ) -> Result<Vec<Candidate>, DbErr> {
        let candidate = |row: &QueryResult| {
            let bundle: Option<String> = row.try_get_by_index(4)?;
            let due = Due {
                version: VersionId(row.try_get_by_index(1)?),
                bundle: GateId::of(GateKind::Bundle, &bundle.unwrap_or_default()),
                through: GateId(row.try_get_by_index(2)?),
                replayed: row.try_get_by_index::<i64>(3)? > 0,
            };
            Ok(Candidate { run: row.try_get_by_index(0)?, due })
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
        for (run, stand) in sorted.put {
            put.push([run.into(), stand.row.0.into()]);
            claims.behind.push(GateNote::Put(stand));
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
    let event = head::Stored {
        connection: details.try_get_by_index(1)?,
        received_ms: details.try_get_by_index(2)?,
        head: details.try_get_by_index(3)?,
        body: details.try_get_by_index(4)?,
    };
    let state: Option<Vec<u8>> = details.try_get_by_index(5)?;
    let row = QueueRow { has_state: state.is_some(), ..row };
    Ok(ClaimedRow { row, event: event.claimed(row.event), state })
}

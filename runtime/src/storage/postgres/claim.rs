//! Taking due runs from the database: those that are ready, and those that come out from behind gates.

use std::collections::{HashMap, HashSet};

use sheaf_bundles::{
    budget::Accounts,
    id::{EventId, RunId, VersionId},
    lane::LaneId,
};
use sqlx::{PgConnection, Row as _, postgres::PgRow};

use super::{budgets, gates, publish::count};
use crate::{
    queue::{
        backend::{Batch, ClaimedRow, GateNote, QueueRow},
        gate::{GateId, GateKind, Stand},
        gates::door::{Door, Due, Opening, Place, ROUNDS_MAX},
    },
    storage::head,
};

/// How far behind the cursor a claim begins, milliseconds: rows come with the time their turn began, and are seen when
/// it is committed.
const SLACK_MS: i64 = 500;
/// How often a claim begins at the very first row, milliseconds: what a slow commit put in behind the cursor.
const SWEEP_MS: i64 = 3_000;
/// Runs looked at in one go once one of them had to be put behind a gate: its fellows are right behind it.
const SORTED_AT_ONCE: usize = 1_024;
/// How often that is done in one turn.
const SORTS_MAX: usize = 4;
/// When to ask again for what another node has right now, milliseconds: a probe, a place.
const ELSEWHERE_MS: i64 = 100;

/// The due time moves forward to the end of the lease; a row whose lease ran out is counted as lost.
pub const TAKE: &str = "
WITH due AS (
    SELECT id, due_ms FROM queue WHERE gate IS NULL AND due_ms <= $1 AND due_ms >= $2
    ORDER BY due_ms, id LIMIT $3 FOR UPDATE SKIP LOCKED
)
UPDATE queue q SET due_ms = $4, fence = q.fence + 1, lost = q.lost + (q.owner <> 0)::int, owner = $5
FROM due WHERE q.id = due.id
RETURNING q.id, q.event, q.version, q.connection, q.fence, q.attempt, q.generation, q.crashes, q.lost, q.through, q.lane, due.due_ms";

/// What is asked about before it is taken.
pub const READY: &str = "
SELECT id, version, through, due_ms, generation, (SELECT bundle FROM version WHERE version.id = queue.version), gate
FROM queue WHERE gate IS NULL AND due_ms <= $1 AND due_ms >= $2 ORDER BY due_ms, id LIMIT $3 FOR UPDATE SKIP LOCKED";
/// So many of each.
pub const BEHIND: &str = "
SELECT q.*, (SELECT bundle FROM version WHERE version.id = q.version), w.gate
FROM unnest($1::bigint[], $2::bigint[]) w (gate, runs) CROSS JOIN LATERAL (
    SELECT id, version, through, due_ms, generation FROM queue WHERE gate = w.gate AND due_ms <= $3
    ORDER BY gate, due_ms, id LIMIT w.runs FOR UPDATE SKIP LOCKED
) q";

const TAKE_THESE: &str = "
UPDATE queue q SET due_ms = $3, fence = q.fence + 1, lost = q.lost + (q.owner <> 0)::int, owner = $4, gate = s.gate
FROM unnest($1::bigint[], $2::bigint[]) s (id, gate) WHERE q.id = s.id
RETURNING q.id, q.event, q.version, q.connection, q.fence, q.attempt, q.generation, q.crashes, q.lost, q.through, q.lane";

const PUT_BEHIND: &str = "
UPDATE queue q SET gate = s.gate, lost = q.lost + (q.owner <> 0)::int, owner = 0
FROM unnest($1::bigint[], $2::bigint[]) s (id, gate) WHERE q.id = s.id";

const DETAILS: &str = "
SELECT q.id, c.name, e.received_ms, b.head, b.body, s.state
FROM unnest($1::bigint[]) r (id) JOIN queue q ON q.id = r.id LEFT JOIN event e ON e.id = q.event LEFT JOIN body b ON b.id = q.event
    LEFT JOIN connection c ON c.id = e.connection LEFT JOIN run_state s ON s.run = q.id";

/// Where claims begin to look. With old snapshots open, the rows that were claimed and settled stay in the index for a
/// while; a claim that reads past them all became slower and slower.
#[derive(Debug, Default, Clone, Copy)]
pub struct Cursor {
    from_ms: i64,
    swept_ms: i64,
}

/// What a claim found.
#[derive(Default)]
pub struct Claims {
    /// The runs.
    pub rows: Vec<ClaimedRow>,
    /// See [`crate::queue::backend::Committed`].
    pub behind: Vec<GateNote>,
    /// See there.
    pub crowded: Option<bool>,
    /// See there.
    pub probes: Vec<(RunId, GateId)>,
    /// See there.
    pub accounts: Vec<(GateId, Accounts)>,
    /// See there.
    pub soonest_due_ms: Option<i64>,
    /// Where the next claim begins.
    pub next: Cursor,
}

/// What a turn's claims need.
pub struct Claiming<'a> {
    pub connection: &'a mut PgConnection,
    pub batch: &'a Batch<'a>,
    /// Marks the rows that are claimed.
    pub owner: i64,
}

/// A run that is due.
struct Candidate {
    run: i64,
    due: Due,
    due_ms: i64,
    /// What its row says where it waits; none when it is ready.
    row: GateId,
}

/// Where runs go.
#[derive(Default)]
struct Sorted {
    taken: Vec<i64>,
    places: Vec<Option<i64>>,
    put: Vec<i64>,
    stands: Vec<Stand>,
    /// Where it was seen that somebody waits.
    seen: HashSet<GateId>,
}

impl Sorted {
    fn take(&mut self, run: i64, place: Option<i64>) {
        self.taken.push(run);
        self.places.push(place);
    }

    fn put(&mut self, run: i64, stand: Stand) {
        self.put.push(run);
        self.stands.push(stand);
    }
}

impl Claiming<'_> {
    /// Claims runs that are due, oldest due time first, as long as there are slots for them.
    pub async fn claim(&mut self, cursor: Cursor, door: &mut Door<'_>) -> Result<Claims, sqlx::Error> {
        let mut claims = Claims { next: cursor, ..Claims::default() };
        let mut rows = Vec::new();
        if self.batch.claim_max > 0 && door.is_turn_of_waiting() {
            self.waiting(door, &mut claims, &mut rows).await?;
        }
        if self.batch.claim_max > 0 && door.free() == 0 {
            claims.soonest_due_ms = Some(self.batch.now_ms);
        } else if self.batch.claim_max > 0 {
            let now_ms = self.batch.now_ms;
            // A clock that went back makes rows due behind the cursor.
            let sweep = now_ms >= cursor.swept_ms + SWEEP_MS || now_ms < cursor.swept_ms;
            let from_ms = if sweep { i64::MIN } else { cursor.from_ms.saturating_sub(SLACK_MS) };
            let swept_ms = if sweep { now_ms } else { cursor.swept_ms };
            let (full, newest_ms) = match door.is_plain(self.batch.claim_max) {
                true => self.plainly(from_ms, door, &mut rows).await?,
                false => self.ready(from_ms, door, &mut claims, &mut rows).await?,
            };
            claims.next = Cursor { from_ms: if full { newest_ms } else { now_ms }, swept_ms };
            claims.soonest_due_ms = if full { Some(now_ms) } else { self.soonest_due_ms(from_ms).await? };
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
    ) -> Result<(), sqlx::Error> {
        for opening in &door.openings_apart() {
            if door.has_room(opening) {
                self.out_of_one(opening, door, claims, rows).await?;
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
    ) -> Result<(), sqlx::Error> {
        for _ in 0..ROUNDS_MAX {
            let openings = door.more_openings();
            if door.free() == 0 || openings.is_empty() {
                break;
            }
            self.out_of(&openings, door, claims, rows).await?;
        }
        Ok(())
    }

    /// Takes what is ready. Whether there may be more of it, and the newest due time among it.
    async fn plainly(
        &mut self,
        from_ms: i64,
        door: &mut Door<'_>,
        rows: &mut Vec<QueueRow>,
    ) -> Result<(bool, i64), sqlx::Error> {
        let Batch { now_ms, claim_max, lease_end_ms, .. } = self.batch;
        let take = sqlx::query(TAKE).bind(now_ms).bind(from_ms).bind(count(*claim_max));
        let taken = take.bind(lease_end_ms).bind(self.owner).fetch_all(&mut *self.connection).await?;
        let mut newest_ms = from_ms;
        for row in &taken {
            newest_ms = newest_ms.max(row.try_get(11)?);
            rows.push(queue_row(row)?);
        }
        rows.iter().for_each(|row| door.took(row.through));
        Ok((taken.len() == *claim_max, newest_ms))
    }

    /// The same, asking about each.
    async fn ready(
        &mut self,
        from_ms: i64,
        door: &mut Door<'_>,
        claims: &mut Claims,
        rows: &mut Vec<QueueRow>,
    ) -> Result<(bool, i64), sqlx::Error> {
        let (mut wanted, mut newest_ms) = (self.batch.claim_max, from_ms);
        for _ in 0..SORTS_MAX {
            let candidates = self.ready_runs(newest_ms, wanted).await?;
            let full = candidates.len() == wanted;
            let mut sorted = Sorted::default();
            let mut left_ms = None;
            for candidate in candidates {
                match door.place(&candidate.due) {
                    Place::Slot => sorted.take(candidate.run, None),
                    Place::Ready => {
                        left_ms.get_or_insert(candidate.due_ms);
                        continue;
                    }
                    Place::Behind(stand) => sorted.put(candidate.run, stand),
                }
                newest_ms = newest_ms.max(candidate.due_ms);
            }
            let all_taken = sorted.put.is_empty();
            self.write(sorted, claims, rows).await?;
            if let Some(left_ms) = left_ms {
                // The next claim begins with what there was no slot for.
                return Ok((true, left_ms));
            }
            if !full || all_taken || door.free() == 0 {
                return Ok((full, newest_ms));
            }
            wanted = SORTED_AT_ONCE;
        }
        Ok((true, newest_ms))
    }

    /// Takes what comes out of openings that need nothing besides.
    async fn out_of(
        &mut self,
        openings: &[Opening],
        door: &mut Door<'_>,
        claims: &mut Claims,
        rows: &mut Vec<QueueRow>,
    ) -> Result<(), sqlx::Error> {
        let dealt: Vec<(Stand, usize)> =
            openings.iter().flat_map(|opening| opening.deal(opening.runs_max)).collect();
        let by_gate: HashMap<GateId, &Opening> =
            openings.iter().map(|opening| (opening.gate, opening)).collect();
        let stands: HashMap<GateId, Stand> = dealt.iter().map(|(stand, _)| (stand.row, *stand)).collect();
        let mut sorted = Sorted::default();
        for Candidate { run, due, row, .. } in self.waiting_runs(&dealt).await? {
            let stand = stands[&row];
            match door.place_from(by_gate[&stand.gate], row, &due) {
                Place::Slot => sorted.take(run, None),
                Place::Behind(to) if to != stand => sorted.put(run, to),
                Place::Behind(_) | Place::Ready => {}
            }
            sorted.seen.insert(row);
        }
        self.write_and_look_again(sorted, &dealt, door, claims, rows).await
    }

    /// Takes what comes out of one that gives places, is paid for, or lets a probe out.
    async fn out_of_one(
        &mut self,
        opening: &Opening,
        door: &mut Door<'_>,
        claims: &mut Claims,
        rows: &mut Vec<QueueRow>,
    ) -> Result<(), sqlx::Error> {
        let Batch { now_ms, lease_end_ms, .. } = *self.batch;
        let Some(runs_max) = self.room(opening).await? else {
            elsewhere(opening, now_ms, claims);
            return Ok(());
        };
        let purse = budgets::open(self.connection, self.batch, opening.gate).await?;
        let runs_max = purse.as_ref().map_or(runs_max, |purse| purse.runs_max(opening).min(runs_max));
        let dealt: Vec<(Stand, usize)> = opening.deal(runs_max).collect();
        let candidates = self.waiting_runs(&dealt).await?;
        if opening.probe && !candidates.is_empty() {
            let may = gates::probe(self.connection, opening.gate.itself(), now_ms, lease_end_ms).await?;
            if !may {
                elsewhere(opening, now_ms, claims);
                return Ok(());
            }
        }
        let mut sorted = Sorted::default();
        let mut paid = 0;
        for Candidate { run, due, row, .. } in candidates {
            let own = opening.is_of(due.through);
            match door.place_from(opening, row, &due) {
                Place::Slot => {
                    sorted.take(run, (own && opening.gives_places()).then(|| due.through.place()));
                    paid += usize::from(own);
                    if own && opening.probe {
                        claims.probes.push((RunId(run), due.through));
                    }
                }
                Place::Behind(to) if to.row != row => sorted.put(run, to),
                Place::Behind(_) | Place::Ready => {}
            }
            sorted.seen.insert(row);
        }
        if let Some(purse) = purse {
            claims.accounts.push(budgets::pay(self.connection, purse, paid).await?);
        }
        self.write_and_look_again(sorted, &dealt, door, claims, rows).await
    }

    async fn write_and_look_again(
        &mut self,
        mut sorted: Sorted,
        dealt: &[(Stand, usize)],
        door: &mut Door<'_>,
        claims: &mut Claims,
        rows: &mut Vec<QueueRow>,
    ) -> Result<(), sqlx::Error> {
        let seen = std::mem::take(&mut sorted.seen);
        self.write(sorted, claims, rows).await?;
        let gates: Vec<i64> = dealt.iter().map(|(stand, _)| stand.row.0).collect();
        let found = sqlx::query(SOONEST_BEHIND).bind(&gates).fetch_all(&mut *self.connection).await?;
        let mut soonest: HashMap<i64, Option<i64>> = HashMap::with_capacity(found.len());
        for row in &found {
            soonest.insert(row.try_get(0)?, row.try_get(1)?);
        }
        for (stand, _) in dealt {
            let soonest_ms = soonest.get(&stand.row.0).copied().flatten();
            if soonest_ms.is_none() {
                door.drained(*stand);
            }
            // What is due there and could not be seen is another node's for now.
            let later_ms =
                if seen.contains(&stand.row) { i64::MIN } else { self.batch.now_ms + ELSEWHERE_MS };
            let again_ms = soonest_ms.map(|soonest_ms| soonest_ms.max(later_ms));
            claims.behind.push(GateNote::Looked { stand: *stand, again_ms });
        }
        Ok(())
    }

    /// How many may come out, places on other nodes included; `None` when none may for now.
    async fn room(&mut self, opening: &Opening) -> Result<Option<usize>, sqlx::Error> {
        if !opening.gives_places() {
            return Ok(Some(opening.runs_max));
        }
        let held = gates::places(self.connection, opening.gate.itself()).await?;
        let places = opening.concurrency.unwrap_or(usize::MAX);
        let room = held.map_or(0, |held| places.saturating_sub(held).min(opening.runs_max));
        Ok((room > 0).then_some(room))
    }

    async fn ready_runs(&mut self, from_ms: i64, wanted: usize) -> Result<Vec<Candidate>, sqlx::Error> {
        let select = sqlx::query(READY).bind(self.batch.now_ms).bind(from_ms).bind(count(wanted));
        select.fetch_all(&mut *self.connection).await?.iter().map(candidate).collect()
    }

    async fn waiting_runs(&mut self, dealt: &[(Stand, usize)]) -> Result<Vec<Candidate>, sqlx::Error> {
        let gates: Vec<i64> = dealt.iter().map(|(stand, _)| stand.row.0).collect();
        let runs: Vec<i64> = dealt.iter().map(|(_, runs)| count(*runs)).collect();
        let select = sqlx::query(BEHIND).bind(gates).bind(runs).bind(self.batch.now_ms);
        select.fetch_all(&mut *self.connection).await?.iter().map(candidate).collect()
    }

    async fn write(
        &mut self,
        sorted: Sorted,
        claims: &mut Claims,
        rows: &mut Vec<QueueRow>,
    ) -> Result<(), sqlx::Error> {
        if !sorted.put.is_empty() {
            let gates: Vec<i64> = sorted.stands.iter().map(|stand| stand.row.0).collect();
            claims.behind.extend(sorted.stands.into_iter().map(GateNote::Put));
            let put = sqlx::query(PUT_BEHIND).bind(sorted.put).bind(gates);
            put.execute(&mut *self.connection).await?;
        }
        if !sorted.taken.is_empty() {
            let take = sqlx::query(TAKE_THESE).bind(sorted.taken).bind(sorted.places);
            let take = take.bind(self.batch.lease_end_ms).bind(self.owner);
            for row in take.fetch_all(&mut *self.connection).await? {
                rows.push(queue_row(&row)?);
            }
        }
        Ok(())
    }

    async fn soonest_due_ms(&mut self, from_ms: i64) -> Result<Option<i64>, sqlx::Error> {
        sqlx::query_scalar(SOONEST).bind(from_ms).fetch_optional(&mut *self.connection).await
    }

    async fn details(&mut self, mut rows: Vec<QueueRow>) -> Result<Vec<ClaimedRow>, sqlx::Error> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        rows.sort_unstable_by_key(|row| row.run);
        let ids: Vec<i64> = rows.iter().map(|row| row.run.0).collect();
        let mut by_run: HashMap<i64, PgRow> = HashMap::with_capacity(rows.len());
        for found in sqlx::query(DETAILS).bind(ids).fetch_all(&mut *self.connection).await? {
            by_run.insert(found.try_get(0)?, found);
        }
        let with_details = |row: QueueRow| Some(claimed_row(row, by_run.get(&row.run.0)?));
        rows.into_iter().filter_map(with_details).collect()
    }
}

/// What is left once all that is due was taken.
pub const SOONEST: &str =
    "SELECT due_ms FROM queue WHERE gate IS NULL AND due_ms >= $1 ORDER BY due_ms, id LIMIT 1";
pub const SOONEST_BEHIND: &str = "
SELECT w.gate, (SELECT due_ms FROM queue WHERE gate = w.gate ORDER BY gate, due_ms, id LIMIT 1)
FROM unnest($1::bigint[]) w (gate)";

/// Another node has what comes out there for now.
fn elsewhere(opening: &Opening, now_ms: i64, claims: &mut Claims) {
    claims.behind.push(GateNote::Elsewhere { gate: opening.gate, again_ms: now_ms + ELSEWHERE_MS });
}

fn candidate(row: &PgRow) -> Result<Candidate, sqlx::Error> {
    let bundle: Option<&str> = row.try_get(5)?;
    let due = Due {
        version: VersionId(row.try_get(1)?),
        bundle: GateId::of(GateKind::Bundle, bundle.unwrap_or_default()),
        through: GateId(row.try_get(2)?),
        replayed: row.try_get::<i32, _>(4)? > 0,
    };
    let gate: Option<i64> = row.try_get(6)?;
    Ok(Candidate {
        run: row.try_get(0)?,
        due,
        due_ms: row.try_get(3)?,
        row: GateId(gate.unwrap_or_default()),
    })
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
        through: GateId(row.try_get(9)?),
        lane: row.try_get::<Option<i64>, _>(10)?.map(LaneId),
        has_state: false,
    })
}

fn claimed_row(row: QueueRow, details: &PgRow) -> Result<ClaimedRow, sqlx::Error> {
    let event = head::Stored {
        connection: details.try_get(1)?,
        received_ms: details.try_get(2)?,
        head: details.try_get(3)?,
        body: details.try_get(4)?,
    };
    let state: Option<Vec<u8>> = details.try_get(5)?;
    let row = QueueRow { has_state: state.is_some(), ..row };
    Ok(ClaimedRow { row, event: event.claimed(row.event), state })
}

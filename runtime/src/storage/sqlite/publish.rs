//! New events: known or new, their runs, handed over at once while there are slots.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, Value};
use sheaf_bundles::{
    id::{EventId, RunId},
    lane::{Keeps, Lane, LaneId},
};

use super::{
    backend::SqliteBackend,
    dedupe, lanes,
    shape::{Rows, Shape, fixed},
};
use crate::{
    queue::{
        backend::{Batch, PublishedRow, QueueRow},
        gate::{GateId, Stand},
        gates::door::{Door, Place},
        types::{Accepted, Content, Publish, Verdict},
    },
    storage::{
        head,
        identity::{Key, WINDOW_MS, key, known_after_ms},
        ledger::{Count, Tally},
        numbers::{EVENT_ACCEPTED, EVENT_QUARANTINED},
    },
};

/// What a batch of publishes did; applied to memory once it is committed.
#[derive(Default)]
pub struct Publishing {
    pub published: Vec<PublishedRow>,
    pub keys: Vec<(Key, i64)>,
    pub log: i64,
    pub connections: Vec<(Arc<str>, i64)>,
    pub soonest_due_ms: Option<i64>,
    /// Where runs were put that wait.
    pub behind: BTreeSet<Stand>,
    fresh: HashMap<Key, i64>,
    /// Lanes that have a run.
    lanes: HashSet<LaneId>,
    events: Rows,
    bodies: Rows,
    queue: Rows,
    queue_in_lanes: Rows,
}

/// Writes the publishes of a batch, handing over runs that are due now as long as there are slots for them.
pub async fn publish(
    backend: &mut SqliteBackend,
    tx: &DatabaseTransaction,
    tally: &mut Tally,
    batch: &Batch<'_>,
    door: &mut Door<'_>,
) -> Result<Publishing, DbErr> {
    let lanes = lanes::occupied(tx, &mut backend.shapes, &batch.lanes_entered(Keeps::Every)).await?;
    let mut work = Publishing { lanes, ..Publishing::default() };
    let numbers = connection_numbers(backend, tx, &mut work, batch.publishes).await?;
    let known = look_up(backend, tx, &numbers, batch.publishes).await?;
    for (at, publish) in batch.publishes.iter().enumerate() {
        let row = match &publish.content {
            Content::Event(accepted) if is_stale(accepted, backend.epoch) => {
                PublishedRow::StaleEpoch { epoch: backend.epoch }
            }
            content => {
                let known = known.get(&at).copied();
                let key = content.dedupe().map(|hash| key(numbers[at], hash));
                tally.add(numbers[at], Count::Received, 1);
                // Without a spool an event is committed when it is received.
                let after_ms = known_after_ms(publish, batch.now_ms).max(batch.now_ms - WINDOW_MS);
                match work.duplicate(after_ms, key, known) {
                    Some(of) => {
                        tally.add(numbers[at], Count::Duplicate, 1);
                        PublishedRow::Duplicate { of }
                    }
                    None => {
                        let event = work.new_event(backend, batch.now_ms, key);
                        work.take(backend, tally, batch, door, numbers[at], publish, event)
                    }
                }
            }
        };
        work.published.push(row);
    }
    work.write(backend, tx).await?;
    work.keep_latest(backend, tx, tally, batch).await?;
    Ok(work)
}

/// Decisions count under the epoch they were made in, and under no other.
fn is_stale(accepted: &Accepted, epoch: u64) -> bool {
    #[cfg(feature = "faulty")]
    if crate::faulty::has(crate::faulty::Fault::StaleEpoch) {
        return false;
    }
    accepted.epoch != epoch
}

async fn connection_numbers(
    backend: &SqliteBackend,
    tx: &DatabaseTransaction,
    work: &mut Publishing,
    publishes: &[Publish],
) -> Result<Vec<i64>, DbErr> {
    let mut numbers = Vec::with_capacity(publishes.len());
    for publish in publishes {
        let fresh =
            || work.connections.iter().find(|(name, _)| *name == publish.connection).map(|(_, id)| *id);
        let number = match backend.connections.get(&publish.connection).copied().or_else(fresh) {
            Some(number) => number,
            None => {
                let number = new_connection(tx, &publish.connection).await?;
                work.connections.push((publish.connection.clone(), number));
                number
            }
        };
        numbers.push(number);
    }
    Ok(numbers)
}

async fn new_connection(tx: &DatabaseTransaction, name: &str) -> Result<i64, DbErr> {
    const INSERT: &str = "INSERT INTO connection (name) VALUES (?) ON CONFLICT DO UPDATE SET name = excluded.name RETURNING id";
    let row = tx.query_one_raw(fixed(INSERT, [name.into()])).await?;
    row.ok_or_else(|| DbErr::Custom("an inserted connection has no id".to_owned()))?.try_get_by_index(0)
}

/// Events known before this batch, by position in the batch.
async fn look_up(
    backend: &mut SqliteBackend,
    tx: &DatabaseTransaction,
    numbers: &[i64],
    publishes: &[Publish],
) -> Result<HashMap<usize, i64>, DbErr> {
    let mut known = HashMap::new();
    let mut unknown = Vec::new();
    for (at, publish) in publishes.iter().enumerate() {
        let Some(hash) = publish.content.dedupe() else { continue };
        let key = key(numbers[at], hash);
        match backend.dedupe.in_memory(&key) {
            Some(event) => _ = known.insert(at, event),
            None => unknown.push((at, key)),
        }
    }
    known.extend(backend.dedupe.in_tables(tx, &mut backend.shapes, &unknown).await?);
    Ok(known)
}

impl Publishing {
    /// The event that is this one already, in this batch or before.
    fn duplicate(&self, after_ms: i64, key: Option<Key>, known: Option<i64>) -> Option<EventId> {
        let first = key.and_then(|key| self.fresh.get(&key).copied()).or(known);
        first.map(EventId).filter(|of| of.time_ms() > after_ms)
    }

    fn new_event(&mut self, backend: &mut SqliteBackend, now_ms: i64, key: Option<Key>) -> EventId {
        let event = EventId(backend.ids.next(now_ms));
        if let Some(key) = key {
            self.fresh.insert(key, event.0);
            self.keys.push((key, event.0));
        }
        event
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one place decides about one event; a struct of these would say less"
    )]
    fn take(
        &mut self,
        backend: &mut SqliteBackend,
        tally: &mut Tally,
        batch: &Batch<'_>,
        door: &mut Door<'_>,
        connection: i64,
        publish: &Publish,
        event: EventId,
    ) -> PublishedRow {
        let accepted = match &publish.content {
            Content::Event(accepted) => accepted,
            Content::Quarantine { reason, .. } => {
                tally.add(connection, Count::Quarantined, 1);
                let reason = reason.as_str().into();
                self.store(event.0, connection, publish, EVENT_QUARANTINED, Value::Bytes(None), reason);
                return PublishedRow::Quarantined { event };
            }
        };
        let filtered = filtered(accepted);
        self.store(event.0, connection, publish, EVENT_ACCEPTED, filtered, Value::String(None));
        let (runs, handed) = self.runs(backend, batch, door, connection, event, accepted);

        let decisions = accepted.decisions.len();
        tally.add(connection, Count::Accepted, 1);
        tally.add(connection, Count::Decisions, count(decisions));
        tally.add(connection, Count::Filtered, count(decisions - runs));
        tally.add(connection, Count::Pending, count(runs));
        tally.add(connection, Count::Unrouted, i64::from(runs == 0));
        PublishedRow::Accepted { event, runs, handed }
    }

    fn runs(
        &mut self,
        backend: &mut SqliteBackend,
        batch: &Batch<'_>,
        door: &mut Door<'_>,
        connection: i64,
        event: EventId,
        accepted: &Accepted,
    ) -> (usize, Vec<QueueRow>) {
        let mut runs = 0;
        let mut handed = Vec::new();
        for decision in &accepted.decisions {
            let Verdict::Take { due_ms } = decision.verdict else { continue };
            runs += 1;
            let is_behind = decision.lane.is_some_and(|lane| self.is_behind(lane));
            let place = door.place_new(decision, due_ms, is_behind);
            let run = RunId(backend.ids.next(batch.now_ms));
            let row = QueueRow::of_new(run, event, connection, decision, place == Place::Slot);
            let due_ms = due_ms.max(batch.now_ms);
            match place {
                Place::Slot => {
                    handed.push(row);
                    self.enqueue(&row, None, batch.lease_end_ms, backend.owner);
                }
                Place::Ready => {
                    self.soonest_due_ms =
                        Some(self.soonest_due_ms.map_or(due_ms, |soonest| soonest.min(due_ms)));
                    self.enqueue(&row, None, due_ms, 0);
                }
                Place::Behind(stand) => {
                    if stand.gate != GateId::LANE {
                        self.behind.insert(stand);
                    }
                    self.enqueue(&row, Some(stand.row), due_ms, 0);
                }
            }
        }
        (runs, handed)
    }

    fn enqueue(&mut self, row: &QueueRow, gate: Option<GateId>, due_ms: i64, owner: i64) {
        let rows = if row.lane.is_some() { &mut self.queue_in_lanes } else { &mut self.queue };
        rows.push([
            row.run.0.into(),
            due_ms.into(),
            row.event.0.into(),
            row.version.0.into(),
            row.connection.into(),
            row.fence.into(),
            owner.into(),
            row.through.0.into(),
            gate.map(|gate| gate.0).into(),
        ]);
        if let Some(lane) = row.lane {
            rows.push([lane.0.into()]);
        }
    }

    /// Whether a new run of that lane waits for another; of those of which the latest is kept, all do until it is known.
    fn is_behind(&mut self, lane: Lane) -> bool {
        lane.keeps == Keeps::Latest || !self.lanes.insert(lane.id)
    }

    async fn keep_latest(
        &mut self,
        backend: &mut SqliteBackend,
        tx: &DatabaseTransaction,
        tally: &mut Tally,
        batch: &Batch<'_>,
    ) -> Result<(), DbErr> {
        let lanes = batch.lanes_entered(Keeps::Latest);
        lanes::supersede(tx, &mut backend.shapes, tally, batch.now_ms, &lanes).await?;
        let opened_ms = lanes::open(tx, &mut backend.shapes, batch.now_ms, &lanes).await?;
        self.soonest_due_ms = opened_ms.into_iter().chain(self.soonest_due_ms).min();
        Ok(())
    }

    fn store(
        &mut self,
        id: i64,
        connection: i64,
        publish: &Publish,
        kind: i64,
        filtered: Value,
        reason: Value,
    ) {
        let received = &publish.received;
        self.events.push([
            id.into(),
            connection.into(),
            received.received_ms.into(),
            kind.into(),
            filtered,
            reason,
        ]);
        self.bodies.push([id.into(), head::write(received).into(), received.body.clone().into()]);
    }

    async fn write(&mut self, backend: &mut SqliteBackend, tx: &DatabaseTransaction) -> Result<(), DbErr> {
        backend.shapes.execute(tx, &EVENT, std::mem::take(&mut self.events)).await?;
        backend.shapes.execute(tx, &BODY, std::mem::take(&mut self.bodies)).await?;
        backend.shapes.execute(tx, &QUEUE, std::mem::take(&mut self.queue)).await?;
        backend.shapes.execute(tx, &QUEUE_IN_LANE, std::mem::take(&mut self.queue_in_lanes)).await?;
        if let Some((_, last)) = self.keys.last() {
            self.log = *last;
            let values = [self.log.into(), dedupe::write_log(&self.keys)];
            tx.execute_raw(fixed("INSERT INTO dedupe_log (id, keys) VALUES (?, ?)", values)).await?;
        }
        Ok(())
    }
}

/// The versions that said no, 8 bytes each.
fn filtered(accepted: &Accepted) -> Value {
    let said_no = accepted.decisions.iter().filter(|decision| decision.verdict == Verdict::Filtered);
    let bytes: Vec<u8> = said_no.flat_map(|decision| decision.version.0.to_be_bytes()).collect();
    if bytes.is_empty() { Value::Bytes(None) } else { bytes.into() }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

const EVENT: Shape = Shape {
    before: "INSERT OR ROLLBACK INTO event (id, connection, received_ms, kind, filtered, reason) SELECT * FROM (",
    columns: 6,
    after: ") WHERE column1 IS NOT NULL",
};

const BODY: Shape = Shape {
    before: "INSERT OR ROLLBACK INTO body (id, head, body) SELECT * FROM (",
    columns: 3,
    after: ") WHERE column1 IS NOT NULL",
};

const QUEUE: Shape = Shape {
    before: "INSERT OR ROLLBACK INTO queue (id, due_ms, event, version, connection, fence, owner, through, gate, attempt, generation, \
             crashes, lost) SELECT column1, column2, column3, column4, column5, column6, column7, column8, column9, \
             0, 0, 0, 0 FROM (",
    columns: 9,
    after: ") WHERE column1 IS NOT NULL",
};

/// The same with the lane: most runs have none, and a value more in each row is a value more to bind.
const QUEUE_IN_LANE: Shape = Shape {
    before: "INSERT OR ROLLBACK INTO queue (id, due_ms, event, version, connection, fence, owner, through, gate, lane, attempt, generation, \
             crashes, lost) SELECT column1, column2, column3, column4, column5, column6, column7, column8, column9, column10, \
             0, 0, 0, 0 FROM (",
    columns: 10,
    after: ") WHERE column1 IS NOT NULL",
};

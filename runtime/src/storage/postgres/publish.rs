//! New events: known or new, their runs, handed over at once while there are slots.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
};

use sheaf_bundles::{
    id::{EventId, RunId},
    lane::{Keeps, Lane, LaneId},
};
use sqlx::{PgConnection, Row as _};

use super::{lanes, turn::lock};
use crate::{
    queue::{
        backend::{Batch, PublishedRow, QueueRow},
        gate::{GateId, Stand},
        gates::door::{Door, Place},
        ids::Ids,
        types::{Accepted, Content, Decision, Publish, Verdict},
    },
    storage::{
        head,
        identity::{Key, WINDOW_MS, key},
        ledger::{Count, Tally},
        numbers::{EVENT_ACCEPTED, EVENT_QUARANTINED},
    },
};

/// Takes the identities of new events; those of a known event, within the window, are left alone and not counted. Another
/// node that brings the same identity at this moment is waited for.
const TAKE_KEYS: &str = "
INSERT INTO dedupe (h1, h2, event) SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[])
ON CONFLICT (h1, h2) DO UPDATE SET event = excluded.event WHERE dedupe.event < $4";

/// Those that were not taken.
const KNOWN: &str = "
SELECT k.candidate, d.event FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) k (h1, h2, candidate)
JOIN dedupe d ON d.h1 = k.h1 AND d.h2 = k.h2 WHERE d.event <> k.candidate";

/// In one statement: the way to the server and back takes as long as ten rows.
const STORE: &str = "
WITH event AS (
    INSERT INTO event (id, connection, received_ms, kind, filtered, reason)
    SELECT * FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::smallint[], $5::bytea[], $6::text[])
), body AS (
    INSERT INTO body (id, head, body) SELECT * FROM unnest($1::bigint[], $7::text[], $8::bytea[])
)
INSERT INTO queue (id, due_ms, event, version, owner, connection, fence, through, gate, lane, attempt, generation, crashes, lost)
SELECT *, 0, 0, 0, 0 FROM unnest($9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::int[],
    $15::int[], $16::bigint[], $17::bigint[], $18::bigint[])";

/// The numbers of connections, by name. They are never taken back, so what was read once stays true.
pub type Connections = HashMap<Arc<str>, i64>;

/// Makes sure that every connection of the batch has a number; outside the turn, so that nodes with the same new names
/// never wait for each other's turns.
pub async fn number(
    connection: &mut PgConnection,
    known: &mut Connections,
    publishes: &[Publish],
) -> Result<(), sqlx::Error> {
    const INSERT: &str =
        "INSERT INTO connection (name) SELECT * FROM unnest($1::text[]) ON CONFLICT DO NOTHING";
    let unknown =
        publishes.iter().map(|publish| &publish.connection).filter(|name| !known.contains_key(*name));
    let mut unknown: Vec<String> = unknown.map(|name| name.to_string()).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    unknown.sort_unstable();
    unknown.dedup();
    sqlx::query(INSERT).bind(&unknown).execute(&mut *connection).await?;
    let numbers = sqlx::query("SELECT name, id FROM connection WHERE name = ANY($1)").bind(&unknown);
    for row in numbers.fetch_all(connection).await? {
        let name: String = row.try_get(0)?;
        known.insert(name.into(), row.try_get::<i32, _>(1)?.into());
    }
    Ok(())
}

/// What became of a half's publishes.
#[derive(Debug, Default)]
pub struct Publishing {
    /// One for each of them, with its place in the batch.
    pub published: Vec<(usize, PublishedRow)>,
    /// The soonest due time among the runs that were not handed over.
    pub soonest_due_ms: Option<i64>,
    /// Where runs were put that wait.
    pub behind: Vec<Stand>,
}

/// Gives ids to publishes, for the case that they are new.
pub fn candidates<'p>(
    batch: &Batch<'p>,
    places: &[usize],
    connections: &Connections,
    ids: &mut Ids,
) -> Vec<Candidate<'p>> {
    let of = |place: &usize| (*place, &batch.publishes[*place]);
    places.iter().map(of).map(|of| Candidate::of(of, connections, ids, batch.now_ms)).collect()
}

/// The identity of a publish within the database.
pub fn identity(publish: &Publish, connections: &Connections) -> Option<Key> {
    let number = connections.get(&publish.connection).copied().unwrap_or_default();
    publish.content.dedupe().map(|hash| key(number, hash))
}

/// What does not change while publishes are written.
pub struct Share<'a, 'd> {
    pub batch: &'a Batch<'a>,
    pub candidates: &'a [Candidate<'a>],
    /// The epoch in force.
    pub epoch: u64,
    /// Marks the rows that are handed over.
    pub owner: i64,
    /// Asked about each run, also by those who write the turn's other half.
    pub door: &'a Mutex<Door<'d>>,
}

impl<'a> Share<'a, '_> {
    /// Writes them, handing over runs that are due now as long as there are slots for them.
    pub async fn publish(
        &self,
        connection: &mut PgConnection,
        tally: &mut Tally,
    ) -> Result<Publishing, sqlx::Error> {
        let mut identities = Identities::default();
        let firsts = self.candidates.iter().map(|one| match one.identity {
            Some(identity) if !self.is_stale(one) => identities.add(identity, one.event.0),
            _ => one.event.0,
        });
        let firsts: Vec<EventId> = firsts.map(EventId).collect();
        let known = identities.take(connection, self.batch.now_ms).await?;
        let lanes = lanes::occupied(connection, &self.batch.lanes_entered(Keeps::Every)).await?;
        let mut rows = Rows { lanes, ..Rows::default() };
        let published = self.decide_all(&firsts, &known, tally, &mut rows);
        rows.write(connection).await?;
        rows.keep_latest(connection, tally, self.batch).await?;
        rows.behind.sort_unstable();
        rows.behind.dedup();
        Ok(Publishing { published, soonest_due_ms: rows.soonest_due_ms, behind: rows.behind })
    }

    fn decide_all(
        &self,
        firsts: &[EventId],
        known: &Known,
        tally: &mut Tally,
        rows: &mut Rows<'a>,
    ) -> Vec<(usize, PublishedRow)> {
        let mut door = lock(self.door);
        let each = self.candidates.iter().zip(firsts);
        each.map(|(one, first)| (one.place, self.decide(one, *first, known, tally, &mut door, rows)))
            .collect()
    }

    fn is_stale(&self, candidate: &Candidate<'_>) -> bool {
        matches!(&candidate.publish.content, Content::Event(accepted) if accepted.epoch != self.epoch)
    }

    /// `first` is the event that is stored under the publish's identity if that is new.
    fn decide(
        &self,
        candidate: &Candidate<'a>,
        first: EventId,
        known: &Known,
        tally: &mut Tally,
        door: &mut Door<'_>,
        rows: &mut Rows<'a>,
    ) -> PublishedRow {
        let Candidate { publish, number, event, .. } = candidate;
        if self.is_stale(candidate) {
            return PublishedRow::StaleEpoch { epoch: self.epoch };
        }
        tally.add(*number, Count::Received, 1);
        let twice = (first != *event).then_some(first.0);
        let earlier = known.get(&first.0).copied().or(twice);
        if let Some(of) = earlier {
            tally.add(*number, Count::Duplicate, 1);
            return PublishedRow::Duplicate { of: EventId(of) };
        }
        match &publish.content {
            Content::Quarantine { reason, .. } => {
                tally.add(*number, Count::Quarantined, 1);
                rows.store(candidate, EVENT_QUARANTINED, None, Some(without_nul(reason)));
                PublishedRow::Quarantined { event: *event }
            }
            Content::Event(accepted) => self.accept(candidate, accepted, tally, door, rows),
        }
    }

    fn accept(
        &self,
        candidate: &Candidate<'a>,
        accepted: &Accepted,
        tally: &mut Tally,
        door: &mut Door<'_>,
        rows: &mut Rows<'a>,
    ) -> PublishedRow {
        rows.store(candidate, EVENT_ACCEPTED, filtered(accepted), None);
        let mut handed = Vec::new();
        for (run, decision, due_ms) in &candidate.runs {
            let Decision { version, through, lane, .. } = decision;
            let behind = lane.is_some_and(|lane| rows.is_behind(lane));
            let place = match *due_ms <= self.batch.now_ms {
                _ if behind => Place::Behind(Stand::at(GateId::LANE)),
                true => door.place(&decision.due()),
                false => Place::Ready,
            };
            let row = QueueRow {
                run: RunId(*run),
                event: candidate.event,
                version: *version,
                connection: candidate.number,
                through: *through,
                lane: lane.map(|lane| lane.id),
                fence: u32::from(place == Place::Slot),
                attempt: 0,
                generation: 0,
                crashes: 0,
                lost: 0,
                has_state: false,
            };
            let due_ms = (*due_ms).max(self.batch.now_ms);
            match place {
                Place::Slot => {
                    rows.enqueue(&row, None, self.batch.lease_end_ms, self.owner);
                    handed.push(row);
                }
                Place::Ready => {
                    rows.soonest_due_ms =
                        Some(rows.soonest_due_ms.map_or(due_ms, |soonest| soonest.min(due_ms)));
                    rows.enqueue(&row, None, due_ms, 0);
                }
                Place::Behind(stand) => {
                    if stand.gate != GateId::LANE {
                        rows.behind.push(stand);
                    }
                    rows.enqueue(&row, Some(stand.row), due_ms, 0);
                }
            }
        }
        let (decisions, runs) = (accepted.decisions.len(), candidate.runs.len());
        tally.add(candidate.number, Count::Accepted, 1);
        tally.add(candidate.number, Count::Decisions, count(decisions));
        tally.add(candidate.number, Count::Filtered, count(decisions - runs));
        tally.add(candidate.number, Count::Pending, count(runs));
        tally.add(candidate.number, Count::Unrouted, i64::from(runs == 0));
        PublishedRow::Accepted { event: candidate.event, runs, handed }
    }
}

/// A publish with the ids it has if it is new.
pub struct Candidate<'p> {
    /// Its place in the batch.
    place: usize,
    publish: &'p Publish,
    /// The number of its connection.
    number: i64,
    identity: Option<Key>,
    event: EventId,
    /// Id, decision and due time of each run.
    runs: Vec<(i64, Decision, i64)>,
}

impl<'p> Candidate<'p> {
    fn of(
        (place, publish): (usize, &'p Publish),
        connections: &Connections,
        ids: &mut Ids,
        now_ms: i64,
    ) -> Candidate<'p> {
        let number = connections.get(&publish.connection).copied().unwrap_or_default();
        let identity = publish.content.dedupe().map(|hash| key(number, hash));
        let event = EventId(ids.next(now_ms));
        let runs = match &publish.content {
            Content::Quarantine { .. } => Vec::new(),
            Content::Event(accepted) => {
                let taken = accepted.decisions.iter().filter_map(|decision| match decision.verdict {
                    Verdict::Take { due_ms } => Some((decision, due_ms)),
                    Verdict::Filtered => None,
                });
                taken.map(|(decision, due_ms)| (ids.next(now_ms), *decision, due_ms)).collect()
            }
        };
        Candidate { place, publish, number, identity, event, runs }
    }
}

/// The identities of publishes, with the event each would be. In the order of their hashes: two who bring the same
/// ones lock them in the same order.
#[derive(Default)]
struct Identities(BTreeMap<Key, i64>);

/// The event that is known, by the id its candidate has.
type Known = HashMap<i64, i64>;

impl Identities {
    /// The event of an identity among them.
    fn add(&mut self, key: Key, event: i64) -> i64 {
        *self.0.entry(key).or_insert(event)
    }

    async fn take(self, connection: &mut PgConnection, now_ms: i64) -> Result<Known, sqlx::Error> {
        if self.0.is_empty() {
            return Ok(Known::new());
        }
        let window = sheaf_bundles::id::compose(now_ms - WINDOW_MS, 0, 0);
        let (h1, h2, events) = columns(&self.0);
        let take = sqlx::query(TAKE_KEYS).bind(&h1).bind(&h2).bind(&events).bind(window);
        let taken = take.execute(&mut *connection).await?.rows_affected();
        if taken == self.0.len() as u64 {
            return Ok(Known::new());
        }
        let known = sqlx::query(KNOWN).bind(h1).bind(h2).bind(events).fetch_all(connection).await?;
        known.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }
}

fn columns(keys: &BTreeMap<Key, i64>) -> (Vec<i64>, Vec<i64>, Vec<i64>) {
    let mut columns = (Vec::new(), Vec::new(), Vec::new());
    for ([h1, h2], event) in keys {
        columns.0.push(*h1);
        columns.1.push(*h2);
        columns.2.push(*event);
    }
    columns
}

/// The rows a batch becomes, column by column.
#[derive(Default)]
struct Rows<'p> {
    soonest_due_ms: Option<i64>,
    behind: Vec<Stand>,
    /// Lanes that have a run.
    lanes: HashSet<LaneId>,
    events: Vec<i64>,
    connections: Vec<i32>,
    received: Vec<i64>,
    kinds: Vec<i16>,
    filtered: Vec<Option<Vec<u8>>>,
    reasons: Vec<Option<String>>,
    heads: Vec<String>,
    bodies: Vec<&'p [u8]>,
    queue: QueueColumns,
}

#[derive(Default)]
struct QueueColumns {
    runs: Vec<i64>,
    due: Vec<i64>,
    events: Vec<i64>,
    versions: Vec<i64>,
    owners: Vec<i64>,
    connections: Vec<i32>,
    fences: Vec<i32>,
    through: Vec<i64>,
    gates: Vec<Option<i64>>,
    lanes: Vec<Option<i64>>,
}

impl<'p> Rows<'p> {
    fn store(
        &mut self,
        candidate: &Candidate<'p>,
        kind: i64,
        filtered: Option<Vec<u8>>,
        reason: Option<String>,
    ) {
        let received = &candidate.publish.received;
        self.events.push(candidate.event.0);
        self.connections.push(narrow(candidate.number));
        self.received.push(received.received_ms);
        self.kinds.push(small(kind));
        self.filtered.push(filtered);
        self.reasons.push(reason);
        self.heads.push(head::write(received));
        self.bodies.push(&received.body);
    }

    fn enqueue(&mut self, row: &QueueRow, gate: Option<GateId>, due_ms: i64, owner: i64) {
        self.queue.runs.push(row.run.0);
        self.queue.due.push(due_ms);
        self.queue.events.push(row.event.0);
        self.queue.versions.push(row.version.0);
        self.queue.owners.push(owner);
        self.queue.connections.push(narrow(row.connection));
        self.queue.fences.push(row.fence.cast_signed());
        self.queue.through.push(row.through.0);
        self.queue.gates.push(gate.map(|gate| gate.0));
        self.queue.lanes.push(row.lane.map(|lane| lane.0));
    }

    /// Whether a new run of that lane waits for another; of those of which the latest is kept, all do until it is known.
    fn is_behind(&mut self, lane: Lane) -> bool {
        lane.keeps == Keeps::Latest || !self.lanes.insert(lane.id)
    }

    async fn keep_latest(
        &mut self,
        connection: &mut PgConnection,
        tally: &mut Tally,
        batch: &Batch<'_>,
    ) -> Result<(), sqlx::Error> {
        let lanes = batch.lanes_entered(Keeps::Latest);
        lanes::supersede(connection, tally, batch.now_ms, &lanes).await?;
        let opened_ms = lanes::open(connection, batch.now_ms, &lanes).await?;
        self.soonest_due_ms = opened_ms.into_iter().chain(self.soonest_due_ms).min();
        Ok(())
    }

    async fn write(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.events.is_empty() {
            return Ok(());
        }
        let store = sqlx::query(STORE).bind(&self.events).bind(&self.connections).bind(&self.received);
        let store = store.bind(&self.kinds).bind(&self.filtered).bind(&self.reasons);
        let store = store.bind(&self.heads).bind(&self.bodies);
        let QueueColumns { runs, due, events, versions, owners, connections, fences, through, gates, lanes } =
            &self.queue;
        let store = store.bind(runs).bind(due).bind(events).bind(versions).bind(owners);
        let store = store.bind(connections).bind(fences).bind(through).bind(gates).bind(lanes);
        store.execute(connection).await?;
        Ok(())
    }
}

/// The versions that said no, 8 bytes each.
fn filtered(accepted: &Accepted) -> Option<Vec<u8>> {
    let said_no = accepted.decisions.iter().filter(|decision| decision.verdict == Verdict::Filtered);
    let bytes: Vec<u8> = said_no.flat_map(|decision| decision.version.0.to_be_bytes()).collect();
    (!bytes.is_empty()).then_some(bytes)
}

/// PostgreSQL's text cannot hold a NUL, and one that came from outside must not make it refuse a whole turn.
pub fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// For a LIMIT or a counter.
pub fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// One of our own small numbers, see `storage::numbers`.
pub fn small(number: i64) -> i16 {
    i16::try_from(number).unwrap_or(i16::MAX)
}

/// A connection's number comes from an `integer` column.
fn narrow(connection: i64) -> i32 {
    i32::try_from(connection).unwrap_or(i32::MAX)
}

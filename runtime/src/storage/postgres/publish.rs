//! New events: known or new, their runs, handed over at once while there are slots.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, LazyLock},
};

use sheaf_bundles::{
    id::{EventId, RunId},
    lane::{Keeps, Lane, LaneId},
};
use sqlx::{Arguments as _, AssertSqlSafe, PgConnection, Row as _, postgres::PgArguments};

use super::{
    counts,
    identities::{self, Identities, Known, Taking},
    lanes,
};
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
        identity::{Key, key, known_after_ms},
        ledger::{Count, Tally},
        numbers::{EVENT_ACCEPTED, EVENT_QUARANTINED},
    },
};

/// In one statement: the way to the server and back takes as long as ten rows. Each column is unnested where rows are made:
/// as a table, all of them would be written aside and read again. One that ends before the others goes on as NULL.
static STORE: LazyLock<Arc<str>> = LazyLock::new(|| {
    let ledger = counts::sql(STORE_ARGUMENTS + 1);
    format!(
        "
WITH event AS (
    INSERT INTO event (id, connection, received_ms, kind, filtered, reason)
    SELECT unnest($1::bigint[]), unnest($2::int[]), unnest($3::bigint[]), unnest($4::smallint[]), unnest($5::bytea[]),
        unnest($6::text[])
), body AS (
    INSERT INTO body (id, head, body) SELECT unnest($1::bigint[]), unnest($7::text[]), unnest($8::bytea[])
), dedupe AS (
    INSERT INTO dedupe (h1, h2, event)
    SELECT unnest($19::bigint[]), unnest($20::bigint[]), unnest($21::bigint[])
), ledger AS (
    {ledger}
)
INSERT INTO queue (id, due_ms, event, version, owner, connection, fence, through, gate, lane, attempt, generation, crashes, lost)
SELECT unnest($9::bigint[]), unnest($10::bigint[]), unnest($11::bigint[]), unnest($12::bigint[]), unnest($13::bigint[]),
    unnest($14::int[]), unnest($15::int[]), unnest($16::bigint[]), unnest($17::bigint[]), unnest($18::bigint[]), 0, 0, 0, 0"
    )
    .into()
});

/// How many it has before those of the counters.
const STORE_ARGUMENTS: usize = 21;

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

/// What became of a turn's publishes.
#[derive(Debug, Default)]
pub struct Publishing {
    /// One for each of them, in order.
    pub published: Vec<PublishedRow>,
    /// The soonest due time among the runs that were not handed over.
    pub soonest_due_ms: Option<i64>,
    /// Where runs were put that wait.
    pub behind: Vec<Stand>,
}

/// Gives ids to publishes, for the case that they are new.
pub fn candidates<'p>(batch: &Batch<'p>, connections: &Connections, ids: &mut Ids) -> Vec<Candidate<'p>> {
    batch.publishes.iter().map(|publish| Candidate::of(publish, connections, ids, batch.now_ms)).collect()
}

/// What does not change while publishes are written.
pub struct Publisher<'a> {
    pub batch: &'a Batch<'a>,
    pub candidates: &'a [Candidate<'a>],
    /// The epoch in force.
    pub epoch: u64,
    /// Marks the rows that are handed over.
    pub owner: i64,
    pub taking: Taking,
    /// Whose counters.
    pub ledger: i16,
}

impl<'a> Publisher<'a> {
    /// Writes them, handing over runs that are due now as long as the door lets them in. What is left of the tally is
    /// still to be added.
    pub async fn publish(
        &self,
        connection: &mut PgConnection,
        tally: &mut Tally,
        door: &mut Door<'_>,
    ) -> Result<Publishing, sqlx::Error> {
        let mut identities = Identities::default();
        let firsts = self.candidates.iter().map(|one| match one.identity {
            Some(identity) if !self.is_stale(one) => {
                let new = identities::New {
                    event: one.event.0,
                    after_ms: known_after_ms(one.publish, self.batch.now_ms),
                };
                identities.add(identity, new)
            }
            _ => one.event.0,
        });
        let firsts: Vec<EventId> = firsts.map(EventId).collect();
        let mut rows = Rows::default();
        let known = match self.taking {
            Taking::Carefully => identities.take(connection, self.batch.now_ms).await?,
            Taking::Boldly => {
                rows.identities = identities.columns();
                Known::new()
            }
        };
        rows.lanes = lanes::occupied(connection, &self.batch.lanes_entered(Keeps::Every)).await?;
        let each = self.candidates.iter().zip(firsts);
        let published =
            each.map(|(one, first)| self.decide(one, first, &known, tally, door, &mut rows)).collect();
        rows.write(connection, self.ledger, tally).await?;
        rows.keep_latest(connection, tally, self.batch).await?;
        rows.behind.sort_unstable();
        rows.behind.dedup();
        Ok(Publishing { published, soonest_due_ms: rows.soonest_due_ms, behind: rows.behind })
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
            let is_behind = decision.lane.is_some_and(|lane| rows.is_behind(lane));
            let place = door.place_new(decision, *due_ms, is_behind);
            let (run, number) = (RunId(*run), candidate.number);
            let row = QueueRow::of_new(run, candidate.event, number, decision, place == Place::Slot);
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
    publish: &'p Publish,
    /// The number of its connection.
    number: i64,
    identity: Option<Key>,
    event: EventId,
    /// Id, decision and due time of each run.
    runs: Vec<(i64, Decision, i64)>,
}

impl<'p> Candidate<'p> {
    fn of(publish: &'p Publish, connections: &Connections, ids: &mut Ids, now_ms: i64) -> Candidate<'p> {
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
        Candidate { publish, number, identity, event, runs }
    }
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
    /// Of those that are stored together with their events.
    identities: identities::Columns,
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

    /// About what the arguments of the statement need; a buffer that grows to it is copied each time.
    fn bytes(&self) -> usize {
        /// Of the other columns of an event and its run, each with its length.
        const ROW_BYTES: usize = 256;
        let texts: usize =
            self.heads.iter().map(String::len).chain(self.bodies.iter().map(|body| body.len())).sum();
        texts + self.events.len().max(self.queue.runs.len()) * ROW_BYTES
    }

    /// Writes them, and what was counted until now.
    async fn write(
        &mut self,
        connection: &mut PgConnection,
        ledger: i16,
        tally: &mut Tally,
    ) -> Result<(), sqlx::Error> {
        if self.events.is_empty() {
            return Ok(());
        }
        let mut arguments = PgArguments::default();
        arguments.reserve(STORE_ARGUMENTS + counts::ARGUMENTS, self.bytes());
        let store = sqlx::query_with(AssertSqlSafe(STORE.clone()), arguments);
        let store = store.bind(&self.events).bind(&self.connections).bind(&self.received).bind(&self.kinds);
        let store = store.bind(sparse(&self.filtered)).bind(sparse(&self.reasons));
        let store = store.bind(&self.heads).bind(&self.bodies);
        let QueueColumns { runs, due, events, versions, owners, connections, fences, through, gates, lanes } =
            &self.queue;
        let store = store.bind(runs).bind(due).bind(events).bind(versions).bind(owners);
        let store =
            store.bind(connections).bind(fences).bind(through).bind(sparse(gates)).bind(sparse(lanes));
        let (h1, h2, of) = &self.identities;
        let store = store.bind(h1).bind(h2).bind(of);
        counts::bind(store, ledger, std::mem::take(tally)).execute(connection).await?;
        Ok(())
    }
}

/// A column of which the rest is NULL; often that is all of it.
pub fn sparse<T>(column: &[Option<T>]) -> &[Option<T>] {
    if column.iter().all(Option::is_none) { &[] } else { column }
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

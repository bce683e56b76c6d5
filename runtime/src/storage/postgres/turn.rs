//! A turn's transactions: one, or two at once on two connections when there is much to publish. One process of the server
//! works on one transaction, and it is the server that takes the time.
//!
//! The halves are two commits, and each may be lost for itself: a half that is stored stays so while the other one is
//! learned about or done again, and the batch is answered when both are stored.

use std::sync::{Mutex, MutexGuard, PoisonError};

use sheaf_bundles::lane::Keeps;
use sqlx::{Connection as _, PgConnection, Row as _};

use super::{
    budgets,
    claim::{Claiming, Claims, Cursor},
    counts, gates,
    identities::{self, Taking},
    lanes,
    node::Node,
    publish::{self, Candidate, Connections, Share},
    settle,
};
use crate::{
    queue::{
        backend::{Batch, Committed, PublishedRow, Seen},
        gates::door::Door,
        ids::Ids,
    },
    storage::ledger::Tally,
};

/// Publishes of a turn that are worth a second transaction, with a begin and a commit of its own.
pub const HALVES_MIN: usize = 48;
/// What the server takes to store a new event, in ends of attempts.
const PUBLISH_COST: usize = 3;
/// Publishing turns hold this lock together, a change of the catalogue holds it alone: no turn commits between the
/// comparison of its epoch and the commit of another one.
const BEGIN_PUBLISHING: &str = "BEGIN; SELECT pg_advisory_xact_lock_shared(8325941120250003)";
const BEGIN: &str = "BEGIN";

/// Why a transaction did not come to its end.
#[derive(Debug)]
pub enum TurnError {
    /// Others took over what this node held.
    Fenced,
    /// Nothing was stored.
    Refused(sqlx::Error),
    /// The same, because an identity that was taken boldly is known. The connection is as good as before.
    Known(sqlx::Error),
    /// The commit was not answered.
    Unanswered(sqlx::Error),
}

impl From<sqlx::Error> for TurnError {
    fn from(error: sqlx::Error) -> TurnError {
        TurnError::Refused(error)
    }
}

/// A turn under way. It outlives a commit that was not answered.
#[derive(Debug)]
pub struct Turn {
    batch: u64,
    halves: Vec<Half>,
}

/// What one transaction writes.
#[derive(Debug)]
pub struct Half {
    /// Everything but the publishes is its as well: settles, claims.
    leads: bool,
    /// Its publishes, by their place in the batch.
    publishes: Vec<usize>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Nothing of it is stored.
    Open,
    /// Its commit was sent and not answered: it happened or it did not.
    Sent { node: Node, mark: Mark, written: Box<Written> },
    /// It is committed.
    Stored(Box<Written>),
}

/// What a transaction is known by once its commit was not answered.
#[derive(Debug, Clone)]
enum Mark {
    /// The turn in the node's row.
    Turn(i64),
    /// Its number as the server counts transactions.
    Transaction(String),
}

/// What a transaction wrote.
#[derive(Debug, Default)]
pub struct Written {
    /// Without what became of the publishes.
    committed: Committed,
    published: Vec<(usize, PublishedRow)>,
    cursor: Option<Cursor>,
    /// More is due now than this node has slots for.
    left_over: bool,
}

/// What a turn did.
#[derive(Debug)]
pub struct Done {
    /// For the writer.
    pub committed: Committed,
    /// Where the next claim begins, if this turn claimed.
    pub cursor: Option<Cursor>,
    /// More is due now than this node has slots for.
    pub left_over: bool,
}

impl Done {
    /// Whether an event came that was known.
    pub fn has_duplicates(&self) -> bool {
        let mut published = self.committed.published.iter();
        published.any(|published| matches!(published, PublishedRow::Duplicate { .. }))
    }
}

/// What the halves of a turn have in common.
pub struct Common<'a> {
    pub batch: &'a Batch<'a>,
    pub node: Node,
    pub cursor: Cursor,
    /// Of a turn in two halves, which claims nothing.
    pub halved: bool,
    pub taking: Taking,
    pub door: &'a Mutex<Door<'a>>,
}

/// How a transaction takes part in its node's row.
#[derive(Debug, Clone, Copy)]
pub enum Entry {
    /// Notes its turn there, so no two do this at a time.
    Alone(i64),
    /// Beside one that does: holds the row as it is, so that nobody takes the node for dead before the commit.
    Beside,
}

impl Turn {
    /// One that is about to be written, in two halves or as a whole.
    pub fn of(batch: &Batch<'_>, connections: &Connections, halved: bool) -> Turn {
        let places = 0..batch.publishes.len();
        let half = |leads, publishes| Half { leads, publishes, stage: Stage::Open };
        let halves = if halved {
            let (first, second) = places.partition(|place| is_of_first(batch, connections, *place));
            vec![half(true, first), half(false, second)]
        } else {
            vec![half(true, places.collect())]
        };
        Turn { batch: batch.number, halves }
    }

    /// Whether two transactions write it.
    pub fn is_halved(&self) -> bool {
        self.halves.len() > 1
    }

    /// Whether it is that batch's.
    pub fn is_of(&self, batch: u64) -> bool {
        self.batch == batch
    }

    /// Whether a commit was not answered.
    pub fn is_unanswered(&self) -> bool {
        self.halves.iter().any(|half| matches!(half.stage, Stage::Sent { .. }))
    }

    /// Whether nothing of it is stored, for sure.
    pub fn is_open(&self) -> bool {
        self.halves.iter().all(|half| matches!(half.stage, Stage::Open))
    }

    /// What is not stored yet.
    pub fn open(&mut self) -> Vec<&mut Half> {
        self.halves.iter_mut().filter(|half| matches!(half.stage, Stage::Open)).collect()
    }

    /// The door as the halves that are stored left it: what they handed over has slots.
    pub fn door<'a>(&self, batch: &Batch<'a>) -> Door<'a> {
        let mut door = Door::new(batch.gates, batch.slots, batch.now_ms);
        for half in &self.halves {
            let Stage::Stored(written) = &half.stage else { continue };
            let handed = written.published.iter().flat_map(|(_, published)| published.handed());
            handed.for_each(|row| door.took(row.through));
        }
        door
    }

    /// Others have taken over what was claimed: see [`Committed::keep_nothing`].
    pub fn keep_nothing(&mut self, now_ms: i64) {
        for half in &mut self.halves {
            if let Stage::Stored(written) = &mut half.stage {
                written.keep_nothing(now_ms);
            }
        }
    }

    /// Learns which of the transactions whose commits were not answered happened. Others take over all that a node holds,
    /// not one half of a turn.
    pub async fn learn(&mut self, connection: &mut PgConnection, now_ms: i64) -> Result<(), sqlx::Error> {
        let mut held = Held::Still;
        for half in &mut self.halves {
            let Stage::Sent { node, mark, written } = &mut half.stage else { continue };
            let stored = Fate { node: *node, mark, written: &*written }.read(connection).await?;
            half.stage = match stored {
                None => Stage::Open,
                Some(still) => {
                    held = held.min(still);
                    Stage::Stored(std::mem::take(written))
                }
            };
        }
        if held == Held::No {
            self.keep_nothing(now_ms);
        }
        Ok(())
    }

    /// What it did, once all of it is stored.
    pub fn done(self) -> Done {
        let mut done = Done { committed: Committed::default(), cursor: None, left_over: false };
        let mut published = Vec::new();
        for half in self.halves {
            let Stage::Stored(written) = half.stage else { continue };
            published.extend(written.published);
            done.cursor = done.cursor.or(written.cursor);
            done.left_over |= written.left_over;
            merge(&mut done.committed, written.committed);
        }
        published.sort_unstable_by_key(|(place, _)| *place);
        done.committed.published = published.into_iter().map(|(_, row)| row).collect();
        done
    }
}

/// Why not all was done by two transactions. What was not answered is to be learned before anything is done again; then
/// whoever was fenced joins again.
pub fn both(first: Result<(), TurnError>, second: Result<(), TurnError>) -> Result<(), TurnError> {
    let gravest = |error: &TurnError| match error {
        TurnError::Unanswered(_) => 0,
        TurnError::Fenced => 1,
        TurnError::Refused(_) => 2,
        TurnError::Known(_) => 3,
    };
    let failed = [first, second].into_iter().filter_map(Result::err);
    failed.min_by_key(gravest).map_or(Ok(()), Err)
}

/// Whether a connection goes on after a transaction.
pub fn goes_on(done: &Result<(), TurnError>) -> bool {
    matches!(done, Ok(()) | Err(TurnError::Known(_)))
}

/// Whether a turn may be written by two transactions. What claims, and what is in order by a key, sees all of its turn.
pub fn may_be_halved(batch: &Batch<'_>) -> bool {
    batch.publishes.len() >= HALVES_MIN
        && batch.claim_max == 0
        && [Keeps::Every, Keeps::Latest].into_iter().all(|keeps| batch.lanes_entered(keeps).is_empty())
        && batch.lanes_left(&[]).is_empty()
        && Door::new(batch.gates, batch.slots, batch.now_ms).openings().is_empty()
}

/// Shares publishes out so that both transactions take about as long; those of one identity are in the same one, in order.
fn is_of_first(batch: &Batch<'_>, connections: &Connections, place: usize) -> bool {
    /// Parts of the whole.
    const PARTS: usize = 1 << 16;
    let publishes = batch.publishes.len();
    let of_first = (publishes * PUBLISH_COST).saturating_sub(batch.settles.len()) * PARTS;
    let of_first = of_first / (2 * publishes * PUBLISH_COST);
    let part = match publish::identity(&batch.publishes[place], connections) {
        Some([h1, _]) => usize::from((h1.cast_unsigned() >> 48) as u16),
        None => place * PARTS / publishes,
    };
    part < of_first
}

fn merge(into: &mut Committed, from: Committed) {
    into.claimed.extend(from.claimed);
    into.stale.extend(from.stale);
    into.behind.extend(from.behind);
    into.crowded = into.crowded.or(from.crowded);
    into.probes.extend(from.probes);
    into.accounts.extend(from.accounts);
    into.soonest_due_ms = into.soonest_due_ms.into_iter().chain(from.soonest_due_ms).min();
    // One that was activated between the two.
    into.epoch = into.epoch.max(from.epoch);
}

impl Half {
    /// Writes and commits it.
    pub async fn run(
        &mut self,
        common: &Common<'_>,
        candidates: &[Candidate<'_>],
        entry: Entry,
        connection: &mut PgConnection,
    ) -> Result<(), TurnError> {
        let mut tx =
            connection.begin_with(if self.publishes.is_empty() { BEGIN } else { BEGIN_PUBLISHING }).await?;
        let Some((epoch, mark)) = self.enter(&mut tx, common, entry).await? else {
            return Err(TurnError::Fenced);
        };
        let mut tally = Tally::default();
        let mut written = match self.leads {
            true => lead(&mut tx, common, &mut tally).await?,
            false => Written::default(),
        };
        written.committed.epoch = epoch;
        let Common { batch, node, taking, door, .. } = *common;
        let ledger = ledger_of(node, entry);
        let share = Share { batch, candidates, epoch, owner: node.epoch, door, taking, ledger };
        let published = match share.publish(&mut tx, &mut tally).await {
            Err(error) if identities::is_known(&error) => {
                // At once: the server ends a connection that is in a transaction and not used for a while.
                tx.rollback().await?;
                return Err(TurnError::Known(error));
            }
            published => published?,
        };
        written.publishing(published, common.batch.now_ms);
        written.left_over |= lock(common.door).is_overflown();
        counts::add(&mut tx, ledger, tally).await?;
        // Noted before it is sent: this future may be dropped while it waits.
        self.stage = Stage::Sent { node: common.node, mark, written: Box::new(written) };
        tx.commit().await.map_err(TurnError::Unanswered)?;
        if let Stage::Sent { written, .. } = std::mem::replace(&mut self.stage, Stage::Open) {
            self.stage = Stage::Stored(written);
        }
        Ok(())
    }

    /// The ids that its publishes have if they are new.
    pub fn candidates<'p>(
        &self,
        batch: &Batch<'p>,
        connections: &Connections,
        ids: &mut Ids,
    ) -> Vec<Candidate<'p>> {
        publish::candidates(batch, &self.publishes, connections, ids)
    }

    /// Enters by the node's row, as long as that is this node's: the catalogue's epoch, and what to know the transaction by.
    async fn enter(
        &self,
        connection: &mut PgConnection,
        common: &Common<'_>,
        entry: Entry,
    ) -> Result<Option<(u64, Mark)>, sqlx::Error> {
        const ALONE: &str = "UPDATE node SET turn = $3, seen_ms = greatest(seen_ms, $4) \
                             WHERE id = $1 AND epoch = $2 RETURNING coalesce((SELECT value FROM meta WHERE key = 'epoch'), 0)";
        const BESIDE: &str = "SELECT coalesce((SELECT value FROM meta WHERE key = 'epoch'), 0), pg_current_xact_id()::text \
                              FROM node WHERE id = $1 AND epoch = $2 FOR KEY SHARE";
        let Node { id, epoch } = common.node;
        let entered = match entry {
            Entry::Alone(turn) => {
                sqlx::query(ALONE).bind(id).bind(epoch).bind(turn).bind(common.batch.now_ms)
            }
            Entry::Beside => sqlx::query(BESIDE).bind(id).bind(epoch),
        };
        let Some(row) = entered.fetch_optional(connection).await? else { return Ok(None) };
        let mark = match entry {
            Entry::Alone(turn) => Mark::Turn(turn),
            Entry::Beside => Mark::Transaction(row.try_get(1)?),
        };
        Ok(Some((row.try_get::<i64, _>(0)?.cast_unsigned(), mark)))
    }
}

impl Written {
    fn publishing(&mut self, done: publish::Publishing, now_ms: i64) {
        self.left_over = done.soonest_due_ms.is_some_and(|due_ms| due_ms <= now_ms);
        self.published = done.published;
        let committed = &mut self.committed;
        committed.behind.extend(done.behind.into_iter().map(Seen::Put));
        committed.soonest_due_ms = committed.soonest_due_ms.into_iter().chain(done.soonest_due_ms).min();
    }

    fn keep_nothing(&mut self, now_ms: i64) {
        self.committed.keep_nothing(now_ms);
        for (_, published) in &mut self.published {
            published.keep_nothing();
        }
    }
}

/// Writes what a turn has beside its publishes.
async fn lead(
    connection: &mut PgConnection,
    common: &Common<'_>,
    tally: &mut Tally,
) -> Result<Written, sqlx::Error> {
    let Common { batch, node, cursor, .. } = *common;
    lanes::lock(connection, batch).await?;
    let bills = budgets::unsettled(connection, batch).await?;
    let stale = settle::settle(connection, tally, batch, node.epoch).await?;
    let opened_ms = lanes::open(connection, batch.now_ms, &batch.lanes_left(&stale)).await?;
    let mut accounts = budgets::settle(connection, batch, &bills).await?;
    gates::write(connection, batch.breakers).await?;
    gates::pause(connection, batch.failing, batch.now_ms).await?;
    let claims = match common.halved {
        true => Claims { next: cursor, ..Claims::default() },
        false => {
            let mut door = Door::new(batch.gates, batch.slots, batch.now_ms);
            let claims = Claiming { connection, batch, owner: node.epoch }.claim(cursor, &mut door).await?;
            *lock(common.door) = door;
            claims
        }
    };
    let Claims { rows: claimed, behind, crowded, probes, accounts: paid, soonest_due_ms, next: cursor } =
        claims;
    accounts.extend(paid);
    let retries = batch.settles.iter().filter_map(|settle| settle.step.next_due_ms(batch.now_ms));
    let soonest_due_ms = retries.chain(opened_ms).chain(soonest_due_ms).min();
    let committed = Committed {
        claimed,
        stale,
        behind,
        crowded,
        probes,
        accounts,
        soonest_due_ms,
        ..Committed::default()
    };
    Ok(Written { committed, cursor: Some(cursor), ..Written::default() })
}

/// It is never held over a wait.
pub fn lock<'a, 'b>(door: &'a Mutex<Door<'b>>) -> MutexGuard<'a, Door<'b>> {
    door.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether this node still has what a transaction claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Held {
    No,
    Still,
}

/// A transaction whose commit was not answered.
struct Fate<'a> {
    node: Node,
    mark: &'a Mark,
    written: &'a Written,
}

impl Fate<'_> {
    /// Whether it happened.
    async fn read(&self, connection: &mut PgConnection) -> Result<Option<Held>, sqlx::Error> {
        /// Waits for the lost connection's transaction, should the server still be at it: it holds this row.
        const ROW: &str = "SELECT epoch, turn FROM node WHERE id = $1 FOR UPDATE";
        let row = sqlx::query(ROW).bind(self.node.id).fetch_optional(&mut *connection).await?;
        let row = row.map(|row| Ok::<_, sqlx::Error>((row.try_get::<i64, _>(0)?, row.try_get::<i64, _>(1)?)));
        let turn = row.transpose()?.filter(|(epoch, _)| *epoch == self.node.epoch).map(|(_, turn)| turn);
        let held = if turn.is_some() { Held::Still } else { Held::No };
        let happened = match (self.mark, turn) {
            (Mark::Turn(own), Some(turn)) => turn == *own,
            (Mark::Turn(_), None) => self.has_stored_events(connection).await?.unwrap_or(false),
            (Mark::Transaction(number), _) => match self.has_stored_events(connection).await? {
                Some(there) => there,
                None => is_committed(connection, number).await?,
            },
        };
        Ok(happened.then_some(held))
    }

    /// Whether the events that it put in are there; `None` when it put in none. A server that took over from another one may
    /// have got other transactions under the same number; the numbers of events are never given twice.
    async fn has_stored_events(&self, connection: &mut PgConnection) -> Result<Option<bool>, sqlx::Error> {
        const IS_THERE: &str = "SELECT 1 FROM event WHERE id = $1";
        let event = self.written.published.iter().find_map(|(_, published)| published.new_event());
        let Some(event) = event else { return Ok(None) };
        Ok(Some(sqlx::query(IS_THERE).bind(event.0).fetch_optional(connection).await?.is_some()))
    }
}

/// Whether a transaction is known to be committed, by its number as the server counts transactions.
pub async fn is_committed(connection: &mut PgConnection, number: &str) -> Result<bool, sqlx::Error> {
    /// Of a number that is in the future.
    const INVALID_PARAMETER_VALUE: &str = "22023";
    const STATUS: &str = "SELECT coalesce(pg_xact_status($1::text::xid8) = 'committed', false)";
    match sqlx::query_scalar(STATUS).bind(number).fetch_one(connection).await {
        // A server that never came so far does not know it.
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(INVALID_PARAMETER_VALUE) => {
            Ok(false)
        }
        other => other,
    }
}

/// Two transactions of a node at a time have counters of their own, so that neither waits for the other's commit.
fn ledger_of(node: Node, entry: Entry) -> i16 {
    match entry {
        Entry::Alone(_) => node.id,
        Entry::Beside => -node.id,
    }
}

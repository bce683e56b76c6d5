//! A turn: one transaction. Its commit may go unanswered; then the turn is kept until it is known whether it happened.

use sqlx::{Connection as _, PgConnection, Row as _};

use super::{
    budgets,
    claim::{Claiming, Claims, Cursor},
    counts, gates,
    identities::{self, Taking},
    lanes,
    node::Node,
    publish::{self, Candidate, Publisher},
    settle,
};
use crate::{
    queue::{
        backend::{Batch, Committed, GateNote, PublishedRow},
        gates::door::Door,
    },
    storage::ledger::Tally,
};

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
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Nothing of it is stored.
    Open,
    /// Its commit was sent and not answered: it happened or it did not. `number` is what it noted in its node's row.
    Sent { node: Node, number: i64, written: Box<Written> },
    /// It is committed.
    Stored(Box<Written>),
}

/// What a turn wrote.
#[derive(Debug, Default)]
pub struct Written {
    /// For the writer.
    pub committed: Committed,
    /// Where the next claim begins.
    pub cursor: Cursor,
    /// More is due now than this node has slots for.
    pub left_over: bool,
}

/// What a turn is given.
pub struct Common<'a> {
    pub batch: &'a Batch<'a>,
    pub node: Node,
    /// Tells it from the node's other turns.
    pub number: i64,
    pub cursor: Cursor,
    pub taking: Taking,
}

impl Turn {
    /// One that is about to be written.
    pub fn of(batch: &Batch<'_>) -> Turn {
        Turn { batch: batch.number, stage: Stage::Open }
    }

    /// Whether it is that batch's.
    pub fn is_of(&self, batch: u64) -> bool {
        self.batch == batch
    }

    /// Whether its commit was not answered.
    pub fn is_unanswered(&self) -> bool {
        matches!(self.stage, Stage::Sent { .. })
    }

    /// Whether nothing of it is stored, for sure.
    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open)
    }

    /// Whether it is stored, for sure.
    pub fn is_stored(&self) -> bool {
        matches!(self.stage, Stage::Stored(_))
    }

    /// Others have taken over what was claimed: see [`Committed::keep_nothing`].
    pub fn keep_nothing(&mut self, now_ms: i64) {
        if let Stage::Stored(written) = &mut self.stage {
            written.committed.keep_nothing(now_ms);
        }
    }

    /// Learns whether a transaction happened whose commit was not answered.
    pub async fn learn(&mut self, connection: &mut PgConnection, now_ms: i64) -> Result<(), sqlx::Error> {
        let Stage::Sent { node, number, written } = &mut self.stage else { return Ok(()) };
        let fate = Fate { node: *node, number: *number, written: &*written }.read(connection).await?;
        self.stage = match fate {
            None => Stage::Open,
            Some(_) => Stage::Stored(std::mem::take(written)),
        };
        if fate == Some(Held::No) {
            self.keep_nothing(now_ms);
        }
        Ok(())
    }

    /// What it did; `None` of one that is not stored.
    pub fn done(self) -> Option<Written> {
        match self.stage {
            Stage::Stored(written) => Some(*written),
            Stage::Open | Stage::Sent { .. } => None,
        }
    }

    /// Writes and commits it.
    pub async fn run(
        &mut self,
        common: &Common<'_>,
        candidates: &[Candidate<'_>],
        connection: &mut PgConnection,
    ) -> Result<(), TurnError> {
        let Common { batch, node, number, taking, .. } = *common;
        let begin = if batch.publishes.is_empty() { BEGIN } else { BEGIN_PUBLISHING };
        let mut tx = connection.begin_with(begin).await?;
        let Some(epoch) = enter(&mut tx, common).await? else { return Err(TurnError::Fenced) };
        let (mut tally, mut door) = (Tally::default(), Door::new(batch.gates, batch.slots, batch.now_ms));
        let mut written = lead(&mut tx, common, &mut tally, &mut door).await?;
        let publisher = Publisher { batch, candidates, epoch, owner: node.epoch, taking, ledger: node.id };
        let published = match publisher.publish(&mut tx, &mut tally, &mut door).await {
            Err(error) if identities::is_known(&error) => {
                // At once: the server ends a connection that is in a transaction and not used for a while.
                tx.rollback().await?;
                return Err(TurnError::Known(error));
            }
            published => published?,
        };
        written.committed.epoch = epoch;
        written.publishing(published, batch.now_ms);
        written.left_over |= door.is_overflown();
        counts::add(&mut tx, node.id, tally).await?;
        // Noted before it is sent: this future may be dropped while it waits.
        self.stage = Stage::Sent { node, number, written: Box::new(written) };
        tx.commit().await.map_err(TurnError::Unanswered)?;
        if let Stage::Sent { written, .. } = std::mem::replace(&mut self.stage, Stage::Open) {
            self.stage = Stage::Stored(written);
        }
        Ok(())
    }
}

/// Whether a connection goes on after a transaction.
pub fn goes_on(done: &Result<(), TurnError>) -> bool {
    matches!(done, Ok(()) | Err(TurnError::Known(_)))
}

/// Enters by the node's row, as long as that is this node's, and notes the turn there: the catalogue's epoch.
async fn enter(connection: &mut PgConnection, common: &Common<'_>) -> Result<Option<u64>, sqlx::Error> {
    const ENTER: &str = "UPDATE node SET turn = $3, seen_ms = greatest(seen_ms, $4) \
                         WHERE id = $1 AND epoch = $2 RETURNING coalesce((SELECT value FROM meta WHERE key = 'epoch'), 0)";
    let Common { batch, node, number, .. } = *common;
    let enter = sqlx::query_scalar(ENTER).bind(node.id).bind(node.epoch).bind(number).bind(batch.now_ms);
    Ok(enter.fetch_optional(connection).await?.map(i64::cast_unsigned))
}

impl Written {
    /// Whether an event came that was known.
    pub fn has_duplicates(&self) -> bool {
        let mut published = self.committed.published.iter();
        published.any(|published| matches!(published, PublishedRow::Duplicate { .. }))
    }

    fn publishing(&mut self, done: publish::Publishing, now_ms: i64) {
        self.left_over = done.soonest_due_ms.is_some_and(|due_ms| due_ms <= now_ms);
        let committed = &mut self.committed;
        committed.published = done.published;
        committed.behind.extend(done.behind.into_iter().map(GateNote::Put));
        committed.soonest_due_ms = committed.soonest_due_ms.into_iter().chain(done.soonest_due_ms).min();
    }
}

/// Writes what a turn has beside its publishes.
async fn lead(
    connection: &mut PgConnection,
    common: &Common<'_>,
    tally: &mut Tally,
    door: &mut Door<'_>,
) -> Result<Written, sqlx::Error> {
    let Common { batch, node, cursor, .. } = *common;
    lanes::lock(connection, batch).await?;
    let bills = budgets::unsettled(connection, batch).await?;
    let stale = settle::settle(connection, tally, batch, node.epoch).await?;
    let opened_ms = lanes::open(connection, batch.now_ms, &batch.lanes_left(&stale)).await?;
    let mut accounts = budgets::settle(connection, batch, &bills).await?;
    gates::write(connection, batch.breakers).await?;
    gates::pause(connection, batch.failing, batch.now_ms).await?;
    let claims = Claiming { connection, batch, owner: node.epoch }.claim(cursor, door).await?;
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
    Ok(Written { committed, cursor, left_over: false })
}

/// Whether this node still has what a transaction claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    No,
    Still,
}

/// A transaction whose commit was not answered.
struct Fate<'a> {
    node: Node,
    number: i64,
    written: &'a Written,
}

impl Fate<'_> {
    /// Whether it happened.
    async fn read(&self, connection: &mut PgConnection) -> Result<Option<Held>, sqlx::Error> {
        /// Waits for the lost connection's transaction, should the server still be at it: it holds this row.
        const ROW: &str = "SELECT epoch, turn FROM node WHERE id = $1 FOR UPDATE";
        let row = sqlx::query(ROW).bind(self.node.id).fetch_optional(&mut *connection).await?;
        let row = row.map(|row| Ok::<_, sqlx::Error>((row.try_get::<i64, _>(0)?, row.try_get::<i64, _>(1)?)));
        match row.transpose()? {
            Some((epoch, turn)) if epoch == self.node.epoch => {
                Ok((turn == self.number).then_some(Held::Still))
            }
            _ => Ok(self.has_stored_events(connection).await?.then_some(Held::No)),
        }
    }

    /// Whether the events that it put in are there: the numbers of events are never given twice.
    async fn has_stored_events(&self, connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
        const IS_THERE: &str = "SELECT 1 FROM event WHERE id = $1";
        let event = self.written.committed.published.iter().find_map(PublishedRow::new_event);
        let Some(event) = event else { return Ok(false) };
        Ok(sqlx::query(IS_THERE).bind(event.0).fetch_optional(connection).await?.is_some())
    }
}

//! The queue's backend on PostgreSQL: one transaction for each turn, on one connection that is made anew when it breaks.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use sea_orm::{ConnectionTrait as _, DatabaseConnection, TransactionTrait as _};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use super::{
    budgets,
    claim::{Claiming, Claims, Cursor},
    connect::{self, Use},
    gates,
    keeper::Keeper,
    lanes,
    node::{self, Name, Node},
    publish::{self, Connections, Turn},
    schema, settle,
    url::DatabaseUrl,
};
use crate::{
    clock::Clock,
    queue::{
        QueueError,
        backend::{Backend, BackendError, Batch, Committed, Failure, Seen},
        gates::{Stored, door::Door},
        ids::Ids,
        types::{Activated, NewVersion},
    },
    storage::{
        ledger::{COUNTS, Tally, adding},
        sql::statement,
        versions,
    },
};

/// How long a turn may take before its connection is given up. The server ends each statement sooner; this is for a server
/// that does not answer at all.
const TURN_MAX: Duration = Duration::from_secs(40);
/// How long reading the gates may take.
const GATES_MAX: Duration = Duration::from_secs(2);
/// Publishing turns hold this lock together, a change of the catalogue holds it alone: no turn commits between the
/// comparison of its epoch and the commit of another one.
const SHARE_CATALOGUE: &str = "SELECT pg_advisory_xact_lock_shared(8325941120250003)";
const HOLD_CATALOGUE: &str = "SELECT pg_advisory_xact_lock(8325941120250003)";

/// How this node takes part.
#[derive(Debug)]
pub struct Membership {
    /// The database.
    pub url: DatabaseUrl,
    /// This node's own directory.
    pub data: std::path::PathBuf,
    /// A node that was not heard of for so long is taken to be dead, milliseconds.
    pub silence_ms: i64,
    /// The lease of a run, milliseconds.
    pub lease_ms: i64,
    /// The clock of this process; it is kept at the database's time.
    pub clock: Clock,
}

/// The writing side of one node. Nothing it remembers is more than a hint, but for what it holds under its epoch.
#[derive(Debug)]
pub struct PostgresBackend {
    membership: Membership,
    name: Name,
    /// For what is rare.
    rare: DatabaseConnection,
    /// `None` after a failure: the next turn makes it anew.
    writer: Option<PgConnection>,
    node: watch::Sender<Node>,
    turn: i64,
    ids: Ids,
    connections: Connections,
    cursor: Cursor,
    unanswered: Option<Unanswered>,
    keeper: Keeper,
}

/// A turn whose commit was sent and not answered yet: it happened or it did not.
#[derive(Debug)]
struct Unanswered {
    batch: u64,
    node: Node,
    turn: i64,
    written: Written,
}

/// A written turn on its way to its commit.
#[derive(Debug, Default)]
struct Written {
    committed: Committed,
    cursor: Cursor,
    /// More is due now than this node has slots for.
    left_over: bool,
}

/// Why a turn did not come to its end.
enum TurnError {
    /// Others took over what this node held.
    Fenced,
    /// Nothing was stored.
    Refused(sqlx::Error),
    /// The commit was not answered.
    Unanswered(sqlx::Error),
}

impl From<sqlx::Error> for TurnError {
    fn from(error: sqlx::Error) -> TurnError {
        TurnError::Refused(error)
    }
}

impl PostgresBackend {
    /// Joins the nodes of a database: brings its schema up to date, leases a number, takes back what this node held before.
    pub async fn open(membership: Membership) -> Result<PostgresBackend, QueueError> {
        let name = Name::of(&membership.data)?;
        let rare = connect::pool(&membership.url, Use::Write);
        schema::migrate(&rare).await?;
        super::keeper::take_time(rare.get_postgres_connection_pool(), &membership.clock).await?;
        let mut writer = connect::writer(&membership.url).await?;
        let now_ms = membership.clock.now_ms();
        let node = node::register(&mut writer, &name, now_ms, membership.lease_ms).await?;
        let ids = Ids::after(node.id.unsigned_abs(), node::last_id_ms(&mut writer).await?);
        let node = watch::Sender::new(node);
        let keeper = Keeper::start(
            rare.get_postgres_connection_pool().clone(),
            node.subscribe(),
            membership.clock.clone(),
            membership.silence_ms,
        );
        Ok(PostgresBackend {
            membership,
            name,
            rare,
            writer: Some(writer),
            node,
            turn: 0,
            ids,
            connections: Connections::new(),
            cursor: Cursor::default(),
            unanswered: None,
            keeper,
        })
    }

    async fn writer(&mut self) -> Result<PgConnection, sqlx::Error> {
        match self.writer.take() {
            Some(writer) => Ok(writer),
            None => {
                // It may be another server by now that never got the latest numbers.
                self.connections.clear();
                connect::writer(&self.membership.url).await
            }
        }
    }

    /// What became of a turn whose commit was not answered, if there is one. Its results count only for the very batch.
    async fn learn(&mut self, batch: u64) -> Result<Option<Committed>, sqlx::Error> {
        /// Waits for the lost connection's transaction, should the server still be at it.
        const TURN: &str = "SELECT turn FROM node WHERE id = $1 AND epoch = $2 FOR UPDATE";
        let Some(lost) = &self.unanswered else { return Ok(None) };
        let (node, turn) = (lost.node, lost.turn);
        let mut writer = self.writer().await?;
        let read = sqlx::query(TURN).bind(node.id).bind(node.epoch);
        let stored =
            read.fetch_optional(&mut writer).await?.map(|row| row.try_get::<i64, _>(0)).transpose()?;
        self.writer = Some(writer);
        let fenced = stored.is_none();
        let happened = if fenced { self.has_stored_events().await? } else { stored == Some(turn) };
        let Some(lost) = self.unanswered.take().filter(|lost| happened && lost.batch == batch) else {
            // What happened all the same and is not known here: settles come back as stale ones, publishes as duplicates,
            // and what was claimed is due again when the lease ends.
            return Ok(None);
        };
        let mut committed = self.apply(lost.written);
        if fenced {
            committed.keep_nothing(self.membership.clock.now_ms());
        }
        Ok(Some(committed))
    }

    /// Whether the unanswered turn put events in that are there. Its epoch is gone, so its turn cannot be read any more;
    /// and an event without an identity would not be known when it came again.
    async fn has_stored_events(&mut self) -> Result<bool, sqlx::Error> {
        const IS_THERE: &str = "SELECT 1 FROM event WHERE id = $1";
        let lost = self.unanswered.as_ref();
        let Some(event) = lost.and_then(|lost| lost.written.committed.first_event()) else {
            return Ok(false);
        };
        let mut writer = self.writer().await?;
        let row = sqlx::query(IS_THERE).bind(event.0).fetch_optional(&mut writer).await?;
        self.writer = Some(writer);
        Ok(row.is_some())
    }

    async fn turn(&mut self, batch: &Batch<'_>) -> Result<Committed, TurnError> {
        let mut writer = self.writer().await?;
        publish::number(&mut writer, &mut self.connections, batch.publishes).await?;
        let mut tx = writer.begin().await?;
        let Some(epoch) = self.enter(&mut tx, batch).await? else {
            return Err(TurnError::Fenced);
        };
        let written = self.write(&mut tx, batch, epoch).await?;
        let (node, turn) = (*self.node.borrow(), self.turn);
        // Noted before it is sent: this future may be dropped while it waits.
        let sent = self.unanswered.insert(Unanswered { batch: batch.number, node, turn, written });
        tx.commit().await.map_err(TurnError::Unanswered)?;
        let written = std::mem::take(&mut sent.written);
        self.unanswered = None;
        self.writer = Some(writer);
        Ok(self.apply(written))
    }

    /// Notes the turn in this node's row, as long as the row is this node's; the catalogue's epoch.
    async fn enter(
        &mut self,
        connection: &mut PgConnection,
        batch: &Batch<'_>,
    ) -> Result<Option<u64>, sqlx::Error> {
        const ENTER: &str = "UPDATE node SET turn = $3, seen_ms = greatest(seen_ms, $4) \
                             WHERE id = $1 AND epoch = $2 RETURNING coalesce((SELECT value FROM meta WHERE key = 'epoch'), 0)";
        if !batch.publishes.is_empty() {
            sqlx::query(SHARE_CATALOGUE).execute(&mut *connection).await?;
        }
        self.turn += 1;
        let node = *self.node.borrow();
        let enter = sqlx::query(ENTER).bind(node.id).bind(node.epoch).bind(self.turn).bind(batch.now_ms);
        let row = enter.fetch_optional(connection).await?;
        row.map(|row| row.try_get::<i64, _>(0).map(i64::cast_unsigned)).transpose()
    }

    async fn write(
        &mut self,
        connection: &mut PgConnection,
        batch: &Batch<'_>,
        epoch: u64,
    ) -> Result<Written, sqlx::Error> {
        let mut tally = Tally::default();
        let node = *self.node.borrow();
        lanes::lock(connection, batch).await?;
        let stale = settle::settle(connection, &mut tally, batch, node.epoch).await?;
        let opened_ms = lanes::open(connection, batch.now_ms, &batch.lanes_left(&stale)).await?;
        // Before other rows are locked that others may wait for: see there.
        let mut accounts = budgets::settle(connection, batch).await?;
        gates::write(connection, batch.breakers).await?;
        let mut door = Door::new(batch.gates, batch.slots, batch.now_ms);
        let claims = Claiming { connection, batch, owner: node.epoch }.claim(self.cursor, &mut door).await?;
        let Claims {
            rows: claimed,
            mut behind,
            crowded,
            probes,
            accounts: paid,
            soonest_due_ms,
            next: cursor,
        } = claims;
        accounts.extend(paid);
        let turn = Turn { batch, connections: &self.connections, epoch, owner: node.epoch };
        let publishing = turn.publish(connection, &mut self.ids, &mut tally, &mut door).await?;
        behind.extend(publishing.behind.iter().copied().map(Seen::Put));
        add(connection, node, tally).await?;
        let retries = batch.settles.iter().filter_map(|settle| settle.step.next_due_ms(batch.now_ms));
        let ready = publishing.soonest_due_ms.is_some_and(|due_ms| due_ms <= batch.now_ms);
        let left_over = ready || door.is_overflown();
        let soonest_due_ms =
            retries.chain(opened_ms).chain(soonest_due_ms).chain(publishing.soonest_due_ms).min();
        let published = publishing.published;
        let committed = Committed {
            published,
            claimed,
            stale,
            behind,
            crowded,
            probes,
            accounts,
            soonest_due_ms,
            epoch,
            full: None,
        };
        Ok(Written { committed, cursor, left_over })
    }

    /// Memory follows the database only after the commit.
    fn apply(&mut self, written: Written) -> Committed {
        self.cursor = written.cursor;
        if written.left_over {
            self.keeper.announce();
        }
        written.committed
    }

    /// Joins again after others took this node for dead. What it holds is still its own where nobody has claimed it yet:
    /// the fences tell.
    async fn join_again(&mut self, now_ms: i64) -> Result<(), sqlx::Error> {
        let mut writer = self.writer().await?;
        let before = *self.node.borrow();
        if node::is_used_by_another(&mut writer, &self.name, before).await? {
            tracing::error!("another node serves under this one's name; was its data directory copied?");
            self.name.change();
        }
        let node = node::register(&mut writer, &self.name, now_ms, self.membership.lease_ms).await?;
        tracing::warn!(
            node = node.id,
            "this node was silent for too long, others took over; it has joined again"
        );
        self.ids = Ids::after(node.id.unsigned_abs(), node::last_id_ms(&mut writer).await?);
        self.node.send_replace(node);
        self.writer = Some(writer);
        Ok(())
    }

    async fn switch(&mut self, versions: &[NewVersion], now_ms: i64) -> Result<Activated, QueueError> {
        const OWN: &str = "SELECT activated FROM node WHERE id = ?";
        const NOTE: &str = "UPDATE node SET activated = ? WHERE id = ?";
        let id = self.node.borrow().id;
        let tx = self.rare.begin().await?;
        tx.execute_unprepared(HOLD_CATALOGUE).await?;
        let own = tx.query_one_raw(statement(&tx, OWN, [id.into()])).await?;
        let own: Option<Vec<u8>> = own.map_or(Ok(None), |row| row.try_get_by_index(0))?;
        let set = versions::digest(versions);
        if own.as_deref() == Some(set.as_slice()) && versions::digest_in_force(&tx).await? != set {
            let epoch = versions::epoch(&tx).await?.cast_unsigned();
            return Ok(Activated { epoch, versions: Vec::new(), in_force: false });
        }
        let (versions, epoch) = versions::activate(&tx, &mut self.ids, versions, now_ms).await?;
        tx.execute_raw(statement(&tx, NOTE, [set.to_vec().into(), id.into()])).await?;
        tx.commit().await?;
        Ok(Activated { epoch, versions, in_force: true })
    }
}

impl Backend for PostgresBackend {
    async fn commit(&mut self, batch: &Batch<'_>) -> Result<Committed, BackendError> {
        let in_time = timeout(TURN_MAX, async {
            if let Some(committed) = self.learn(batch.number).await.map_err(TurnError::Unanswered)? {
                return Ok(committed);
            }
            match self.turn(batch).await {
                Err(TurnError::Fenced) => {
                    self.join_again(batch.now_ms).await?;
                    self.turn(batch).await
                }
                Err(TurnError::Refused(error)) if is_of_the_moment(&error) => self.turn(batch).await,
                other => other,
            }
        });
        let result = in_time.await.unwrap_or_else(|_| match self.unanswered {
            Some(_) => Err(TurnError::Unanswered(sqlx::Error::PoolTimedOut)),
            None => Err(TurnError::Refused(sqlx::Error::PoolTimedOut)),
        });
        result.map_err(|error| match error {
            TurnError::Refused(error) => error.into(),
            TurnError::Unanswered(error) => {
                BackendError { failure: Failure::Unknown, message: error.to_string() }
            }
            TurnError::Fenced => {
                let message = "this node was taken for dead twice in a row".to_owned();
                BackendError { failure: Failure::Refused, message }
            }
        })
    }

    async fn activate(&mut self, versions: &[NewVersion], now_ms: i64) -> Result<Activated, BackendError> {
        self.switch(versions, now_ms)
            .await
            .map_err(|error| BackendError { failure: Failure::Refused, message: error.to_string() })
    }

    async fn gates(&mut self, stands: bool) -> Result<Stored, BackendError> {
        let stored = timeout(GATES_MAX, gates::read(&self.rare, stands)).await;
        stored
            .unwrap_or_else(|_| Err(sea_orm::DbErr::Custom("the database did not answer in time".to_owned())))
            .map_err(|error| BackendError { failure: Failure::Refused, message: error.to_string() })
    }

    fn hint(&self) -> Arc<Notify> {
        self.keeper.hint()
    }

    async fn close(self) {
        self.keeper.stop().await;
        if let Some(writer) = self.writer {
            // Nothing is at stake: whatever was answered is committed.
            let _ = writer.close().await;
        }
        let _ = self.rare.close().await;
    }
}

/// A deadlock, or a conflict with another transaction: it was ended for the others' sake, and goes through when tried again.
fn is_of_the_moment(error: &sqlx::Error) -> bool {
    const DEADLOCK: &str = "40P01";
    const SERIALIZATION: &str = "40001";
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some(DEADLOCK | SERIALIZATION))
}

/// Adds to this node's own counters.
async fn add(connection: &mut PgConnection, node: Node, tally: Tally) -> Result<(), sqlx::Error> {
    static ADD: LazyLock<Arc<str>> = LazyLock::new(|| {
        let counts =
            (3..3 + COUNTS).map(|place| format!("${place}::bigint[]")).collect::<Vec<_>>().join(", ");
        let rows = format!("SELECT $1::smallint, * FROM unnest($2::bigint[], {counts})");
        adding("ledger_of_node", "node, connection", &rows).into()
    });
    let rows: Vec<(i64, [i64; COUNTS])> = tally.into_rows().collect();
    if rows.is_empty() {
        return Ok(());
    }
    let numbers: Vec<i64> = rows.iter().map(|(connection, _)| *connection).collect();
    let mut add = sqlx::query(AssertSqlSafe(ADD.clone())).bind(node.id).bind(numbers);
    for counter in 0..COUNTS {
        add = add.bind(rows.iter().map(|(_, counts)| counts[counter]).collect::<Vec<i64>>());
    }
    add.execute(connection).await?;
    Ok(())
}

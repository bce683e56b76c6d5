//! The queue's backend on PostgreSQL: turns on connections that are made anew when they break.

use std::{sync::Arc, time::Duration};

use sea_orm::{ConnectionTrait as _, DatabaseConnection, TransactionTrait as _};
use sheaf_bundles::workspace;
use sqlx::{Connection as _, PgConnection};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use super::{
    claim::Cursor,
    connect::{self, Use},
    gates,
    identities::Taking,
    keeper::Keeper,
    node::{self, Name, Node},
    publish::{self, Connections},
    schema,
    turn::{self, Common, Turn, TurnError, Written},
    url::DatabaseUrl,
};
use crate::{
    clock::Clock,
    queue::{
        QueueError,
        backend::{Backend, BackendError, Batch, Committed, Failure},
        gates::Stored,
        ids::Ids,
        types::{Activated, Activation},
    },
    storage::{digests::Digests, sql::statement, versions},
};

/// How long a turn may take before its connection is given up. The server ends each statement sooner; this is for a server
/// that does not answer at all.
const TURN_MAX: Duration = Duration::from_secs(40);
/// How long reading the gates may take.
const GATES_MAX: Duration = Duration::from_secs(2);
/// Publishes of a turn from which on it takes identities boldly. A turn of few has time to look, and would be done twice for
/// each event that is known; in tests all that may be are taken so.
const BOLD_MIN: usize = if cfg!(test) { 2 } else { 24 };
/// Turns after one that failed or met a known event that take identities carefully: who repeats one event often repeats more, and
/// no more than one turn of so many is done twice.
pub const WARY_TURNS: u32 = 100;
/// See where turns share it.
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
    /// Turns that take identities carefully still.
    wary: u32,
    /// One that is not stored in whole.
    under_way: Option<Turn>,
    keeper: Keeper,
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
            wary: 0,
            under_way: None,
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

    /// Finds out what became of a turn whose commits were not answered. What it did counts only for the very batch:
    /// otherwise settles come back as stale ones, publishes as duplicates, and what was claimed is due again when the lease ends.
    async fn learn(&mut self, batch: u64) -> Result<(), sqlx::Error> {
        if self.under_way.as_ref().is_some_and(Turn::is_unanswered) {
            let mut writer = self.writer().await?;
            if let Some(turn) = &mut self.under_way {
                turn.learn(&mut writer, self.membership.clock.now_ms()).await?;
            }
            self.writer = Some(writer);
        }
        self.under_way = self.under_way.take().filter(|turn| turn.is_of(batch));
        Ok(())
    }

    /// Writes a batch, unless it turned out to be stored.
    async fn turn(&mut self, batch: &Batch<'_>) -> Result<(), TurnError> {
        if self.under_way.as_ref().is_some_and(Turn::is_stored) {
            return Ok(());
        }
        let mut writer = self.writer().await?;
        publish::number(&mut writer, &mut self.connections, batch.publishes).await?;
        let bold = self.wary == 0 && batch.publishes.len() >= BOLD_MIN;
        let taking = if bold { Taking::Boldly } else { Taking::Carefully };
        let candidates = publish::candidates(batch, &self.connections, &mut self.ids);
        self.turn += 1;
        let common =
            Common { batch, node: *self.node.borrow(), number: self.turn, cursor: self.cursor, taking };
        let turn = self.under_way.get_or_insert_with(|| Turn::of(batch));
        let done = turn.run(&common, &candidates, &mut writer).await;
        self.writer = turn::goes_on(&done).then_some(writer);
        done
    }

    async fn do_all(&mut self, batch: &Batch<'_>) -> Result<(), TurnError> {
        self.learn(batch.number).await.map_err(TurnError::Unanswered)?;
        let mut done = self.turn(batch).await;
        if done.is_err() {
            self.wary = WARY_TURNS;
        }
        if let Err(TurnError::Known(_)) = done {
            done = self.turn(batch).await;
        }
        if let Err(TurnError::Refused(error)) = &done
            && is_of_the_moment(error)
        {
            done = self.turn(batch).await;
        }
        if let Err(TurnError::Fenced) = done {
            self.join_again(batch.now_ms).await?;
            done = self.turn(batch).await;
        }
        done
    }

    /// Memory follows the database only after the commit.
    fn apply(&mut self, done: Written) -> Committed {
        self.wary = if done.has_duplicates() { WARY_TURNS } else { self.wary.saturating_sub(1) };
        let Written { committed, cursor, left_over } = done;
        self.cursor = cursor;
        if left_over {
            self.keeper.announce();
        }
        committed
    }

    /// Nothing was stored, or only the same batch again finds out what was.
    fn failed(&mut self, error: &TurnError) -> BackendError {
        self.under_way = self.under_way.take().filter(|turn| !turn.is_open());
        let failure = if self.under_way.is_some() { Failure::Unknown } else { Failure::Refused };
        let message = match error {
            TurnError::Refused(error) | TurnError::Known(error) | TurnError::Unanswered(error) => {
                error.to_string()
            }
            TurnError::Fenced => "this node was taken for dead twice in a row".to_owned(),
        };
        BackendError { failure, message }
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
        if let Some(turn) = &mut self.under_way {
            turn.keep_nothing(now_ms);
        }
        self.writer = Some(writer);
        Ok(())
    }

    async fn switch(&mut self, activation: &Activation, now_ms: i64) -> Result<Activated, QueueError> {
        const OWN: &str = "SELECT activated FROM node WHERE id = ?";
        const NOTE: &str = "UPDATE node SET activated = ? WHERE id = ?";
        let id = self.node.borrow().id;
        let tx = self.rare.begin().await?;
        tx.execute_unprepared(HOLD_CATALOGUE).await?;
        let own = tx.query_one_raw(statement(&tx, OWN, [id.into()])).await?;
        let own: Option<Vec<u8>> = own.map_or(Ok(None), |row| row.try_get_by_index(0))?;
        let mut new = activation.clone();
        // A node that never said anything says all of it now.
        let before = own.map(|own| Digests::read(&own));
        let said = before.clone().unwrap_or_default().then(activation);
        if let Some(before) = &before {
            new.keeping.extend(before.nothing_new(&said, &versions::digests_in_force(&tx).await?));
        }
        let in_force = new.keeping.len() == activation.keeping.len();
        new.versions.retain(|version| in_force || !new.keeping.contains(workspace::of(&version.bundle)));
        let (versions, epoch) = versions::activate(&tx, &mut self.ids, &new, now_ms).await?;
        tx.execute_raw(statement(&tx, NOTE, [said.bytes().into(), id.into()])).await?;
        tx.commit().await?;
        Ok(Activated { epoch, versions: if in_force { versions } else { Vec::new() }, in_force })
    }
}

impl Backend for PostgresBackend {
    /// A turn is some round trips to the server, whatever it carries. Waiting up to ten times this, turns under load are as
    /// large again, and an event takes a tenth less of all CPU (`make bench-postgres`).
    const LOOK_AWAY: Duration = Duration::from_micros(100);

    async fn commit(&mut self, batch: &Batch<'_>) -> Result<Committed, BackendError> {
        let in_time = timeout(TURN_MAX, self.do_all(batch)).await;
        let done = in_time.unwrap_or(Err(TurnError::Refused(sqlx::Error::PoolTimedOut)));
        match done {
            Ok(()) => {
                let written = self.under_way.take().and_then(Turn::done);
                Ok(self.apply(written.expect("a turn that is done is stored")))
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    async fn activate(&mut self, activation: &Activation, now_ms: i64) -> Result<Activated, BackendError> {
        self.switch(activation, now_ms)
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

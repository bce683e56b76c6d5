//! The queue's backend on SQLite: one transaction for each turn.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, TransactionTrait};
use sheaf_bundles::id::RunId;
use tokio::sync::Notify;

use super::{
    ballast::Ballast,
    budgets,
    claim::Claiming,
    connect::{self, immediate},
    dedupe::{Dedupe, Slice},
    gates,
    guard::{self, Guard},
    lanes,
    publish::{self, Publishing},
    schema,
    settle::{alive, extend, settle},
    shape::{Shapes, fixed},
    tally,
};
use crate::{
    queue::{
        QueueError, Settings,
        backend::{Backend, BackendError, Batch, Committed, Failure, GateNote},
        gates::{Stored, door::Door},
        ids::Ids,
        lane::lane_gate,
        types::{Activated, Activation},
    },
    storage::{ledger::Tally, versions},
};

const NOTE: &str = "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value";

/// The number of the only node of an embedded database.
const NODE: u16 = 0;

/// The writing side of the database. There is one in the world: a file lock sees to that, so what it remembers
/// (epoch, connections, recent identities) is what the database holds.
#[derive(Debug)]
pub struct SqliteBackend {
    pub(super) shapes: Shapes,
    pub(super) ids: Ids,
    pub(super) connections: HashMap<Arc<str>, i64>,
    pub(super) dedupe: Dedupe,
    pub(super) epoch: u64,
    /// This process among all that ever served this database; marks the rows it holds.
    pub(super) owner: i64,
    path: PathBuf,
    /// `None` after a failure: the next turn opens it anew, since a failed transaction leaves its connection in doubt.
    writer: Option<DatabaseConnection>,
    ballast: Ballast,
    _guard: Guard,
}

impl SqliteBackend {
    /// Opens the database for the one process that serves it, and makes due again what the last one left in flight.
    pub async fn open(path: &Path, settings: &Settings) -> Result<SqliteBackend, QueueError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(guard::refused)?;
        }
        let guard = guard::take(path)?;
        let mut ballast = Ballast::beside(path);
        let writer = connect::writer(path, true).await?;
        schema::migrate(&writer).await?;
        let now_ms = settings.clock.now_ms();
        let owner = match take_over(&writer, now_ms, settings.lease_ms).await {
            Err(error) if connect::is_full(&error) && ballast.spend() => {
                take_over(&writer, now_ms, settings.lease_ms).await?
            }
            other => other?,
        };
        ballast.make();
        Ok(SqliteBackend {
            shapes: Shapes::default(),
            ids: Ids::after(NODE, last_id_ms(&writer).await?),
            connections: connections(&writer).await?,
            dedupe: Dedupe::load(&writer).await?,
            epoch: number(&writer, "SELECT value FROM meta WHERE key = 'epoch'").await?.cast_unsigned(),
            owner,
            path: path.to_owned(),
            writer: Some(writer),
            ballast,
            _guard: guard,
        })
    }

    async fn begin(&mut self) -> Result<DatabaseTransaction, DbErr> {
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => {
                connect::writer(&self.path, false).await.map_err(|error| DbErr::Custom(error.to_string()))?
            }
        };
        let tx = writer.begin_with_options(immediate()).await?;
        self.writer = Some(writer);
        Ok(tx)
    }

    /// One try at a turn. `None` when a fence was stale and `careful` was not set: nothing was stored.
    async fn turn(&mut self, batch: &Batch<'_>, careful: bool) -> Result<Option<Committed>, DbErr> {
        let tx = self.begin().await?;
        let Some(turn) = self.write(&tx, batch, careful).await? else {
            tx.rollback().await?;
            return Ok(None);
        };
        tx.commit().await?;
        Ok(Some(self.apply(turn)))
    }

    async fn write(
        &mut self,
        tx: &DatabaseTransaction,
        batch: &Batch<'_>,
        careful: bool,
    ) -> Result<Option<Turn>, DbErr> {
        let mut committed = Committed { epoch: self.epoch, ..Committed::default() };
        let mut tally = Tally::default();
        if careful {
            committed.stale = self.stale(tx, batch).await?;
        }
        let live = |claim: (RunId, u32)| !committed.stale.contains(&claim);
        let extended = batch.extended.iter().filter(|claim| live(**claim));
        let settles = batch.settles.iter().filter(|settle| live((settle.row.run, settle.row.fence)));
        if !extend(tx, &mut self.shapes, batch.lease_end_ms, extended).await?
            || !settle(tx, &mut self.shapes, &mut tally, batch.now_ms, settles).await?
        {
            return Ok(None);
        }
        let opened_ms =
            lanes::open(tx, &mut self.shapes, batch.now_ms, &batch.lanes_left(&committed.stale)).await?;
        gates::write(tx, batch.breakers).await?;
        gates::pause(tx, batch.failing, batch.now_ms).await?;
        committed.accounts = budgets::settle(tx, batch, &committed.stale).await?;
        let mut door = Door::new(batch.gates, batch.slots, batch.now_ms);
        let claims =
            Claiming { tx, shapes: &mut self.shapes, batch, owner: self.owner }.claim(&mut door).await?;
        let soonest_due_ms = claims.soonest_due_ms;
        (committed.claimed, committed.behind, committed.probes) = (claims.rows, claims.behind, claims.probes);
        committed.crowded = claims.crowded;
        committed.accounts.extend(claims.accounts);
        let publishing = publish::publish(self, tx, &mut tally, batch, &mut door).await?;
        committed.behind.extend(publishing.behind.iter().copied().map(GateNote::Put));
        tally::write(tx, &mut self.shapes, tally).await?;
        if batch.probe {
            tx.execute_raw(fixed(NOTE, ["probe".into(), batch.now_ms.into()])).await?;
        }
        let slice = self.dedupe.merge(tx, &mut self.shapes, batch.now_ms).await?;

        let retries = batch.settles.iter().filter_map(|settle| settle.step.next_due_ms(batch.now_ms));
        committed.soonest_due_ms =
            retries.chain(opened_ms).chain(soonest_due_ms).chain(publishing.soonest_due_ms).min();
        Ok(Some(Turn { committed, publishing, slice }))
    }

    /// Memory follows the database only after the commit.
    fn apply(&mut self, turn: Turn) -> Committed {
        let Turn { mut committed, publishing, slice } = turn;
        if let Some(slice) = slice {
            self.dedupe.merged(slice);
        }
        if !publishing.keys.is_empty() {
            self.dedupe.remember(publishing.log, publishing.keys);
        }
        self.connections.extend(publishing.connections);
        committed.published = publishing.published;
        committed
    }

    async fn switch(&mut self, activation: &Activation, now_ms: i64) -> Result<Activated, DbErr> {
        let tx = self.begin().await?;
        let (versions, epoch) = versions::activate(&tx, &mut self.ids, activation, now_ms).await?;
        tx.commit().await?;
        self.epoch = epoch;
        Ok(Activated { epoch, versions, in_force: true })
    }

    async fn commit_all(&mut self, batch: &Batch<'_>) -> Result<Committed, BackendError> {
        let result = match self.turn(batch, false).await {
            Ok(None) => self.turn(batch, true).await,
            other => other,
        };
        match result {
            Ok(Some(committed)) => Ok(committed),
            Ok(None) => {
                let message = "a fence changed inside a transaction".to_owned();
                Err(BackendError { failure: Failure::Broken, message })
            }
            Err(error) => {
                self.writer = None;
                if connect::is_full(&error) {
                    self.ballast.spend();
                }
                Err(error.into())
            }
        }
    }

    async fn stale(
        &mut self,
        tx: &DatabaseTransaction,
        batch: &Batch<'_>,
    ) -> Result<Vec<(RunId, u32)>, DbErr> {
        let settled = batch.settles.iter().map(|settle| (settle.row.run, settle.row.fence));
        let claims: Vec<(RunId, u32)> = settled.chain(batch.extended.iter().copied()).collect();
        let alive = alive(tx, &mut self.shapes, claims.iter().copied()).await?;
        Ok(claims.into_iter().filter(|(run, _)| !alive.contains(run)).collect())
    }
}

/// A written turn on its way to its commit.
struct Turn {
    committed: Committed,
    publishing: Publishing,
    slice: Option<Slice>,
}

impl Backend for SqliteBackend {
    const LOOK_AWAY: Duration = Duration::ZERO;

    /// On a full disk nothing new is taken; what is in hand is finished with the ballast's room.
    async fn commit(&mut self, batch: &Batch<'_>) -> Result<Committed, BackendError> {
        if !self.ballast.is_spent() {
            return self.commit_all(batch).await;
        }
        // A probe would use the room up: whether there is more is seen by making the ballast again.
        let in_hand = Batch { publishes: &[], probe: false, ..*batch };
        let committed = self.commit_all(&in_hand).await?;
        Ok(Committed { full: Some("the disk is full".to_owned()), ..committed })
    }

    async fn activate(&mut self, activation: &Activation, now_ms: i64) -> Result<Activated, BackendError> {
        let activated = self.switch(activation, now_ms).await;
        if activated.is_err() {
            self.writer = None;
        }
        Ok(activated?)
    }

    async fn gates(&mut self, stands: bool) -> Result<Stored, BackendError> {
        if self.writer.is_none() {
            self.writer = Some(
                connect::writer(&self.path, false).await.map_err(|error| DbErr::Custom(error.to_string()))?,
            );
        }
        let Some(writer) = &self.writer else { return Ok(Stored::default()) };
        Ok(gates::read(writer, stands).await?)
    }

    /// Never fires: no other process claims, and what a person replays is found by looking.
    fn hint(&self) -> Arc<Notify> {
        Arc::default()
    }

    async fn close(self) {
        if let Some(writer) = self.writer {
            // Nothing is at stake: whatever was answered is in the log already.
            let _ = writer.close().await;
        }
    }
}

/// Numbers this process and makes due again what an earlier one held. Only leases are looked at, and those end within
/// one lease from now, so a million delayed runs cost nothing here.
async fn take_over(writer: &DatabaseConnection, now_ms: i64, lease_ms: i64) -> Result<i64, DbErr> {
    const FREE: &str = "UPDATE queue SET due_ms = min(due_ms, ?), owner = 0, lost = lost + 1 \
                        WHERE owner <> 0 AND due_ms <= ? AND gate IS NULL";
    /// Places of connections with a limit, and probes: whoever held them is gone.
    const PLACES: &str = concat!(
        "UPDATE queue SET due_ms = min(due_ms, ?), owner = 0, lost = lost + 1, gate = NULL \
         WHERE gate IS NOT NULL AND gate < 0 AND gate > ",
        lane_gate!()
    );
    const PROBES: &str = "UPDATE gate SET probe_until_ms = 0";
    let tx = writer.begin_with_options(immediate()).await?;
    let owner = number(&tx, "SELECT value FROM meta WHERE key = 'owner'").await? + 1;
    let longest_ms = number(&tx, "SELECT value FROM meta WHERE key = 'lease_ms'").await?.max(lease_ms);
    tx.execute_raw(fixed(NOTE, ["owner".into(), owner.into()])).await?;
    tx.execute_raw(fixed(NOTE, ["lease_ms".into(), lease_ms.into()])).await?;
    tx.execute_raw(fixed(FREE, [now_ms.into(), (now_ms + longest_ms).into()])).await?;
    tx.execute_raw(fixed(PLACES, [now_ms.into()])).await?;
    tx.execute_raw(fixed(PROBES, [])).await?;
    tx.commit().await?;
    Ok(owner)
}

async fn last_id_ms(writer: &DatabaseConnection) -> Result<i64, QueueError> {
    const LAST: &str = "SELECT max((SELECT coalesce(max(id), 0) FROM event), (SELECT coalesce(max(id), 0) FROM run), \
                        (SELECT coalesce(max(id), 0) FROM queue), (SELECT coalesce(max(id), 0) FROM version))";
    Ok(RunId(number(writer, LAST).await?).time_ms())
}

async fn connections(writer: &DatabaseConnection) -> Result<HashMap<Arc<str>, i64>, QueueError> {
    let rows = writer.query_all_raw(fixed("SELECT name, id FROM connection", [])).await?;
    let named = |row: &sea_orm::QueryResult| -> Result<(Arc<str>, i64), DbErr> {
        let name: String = row.try_get_by_index(0)?;
        Ok((name.into(), row.try_get_by_index(1)?))
    };
    Ok(rows.iter().map(named).collect::<Result<_, _>>()?)
}

async fn number(connection: &impl ConnectionTrait, sql: &str) -> Result<i64, DbErr> {
    let row = connection.query_one_raw(fixed(sql, [])).await?;
    row.map_or(Ok(0), |row| row.try_get_by_index(0))
}

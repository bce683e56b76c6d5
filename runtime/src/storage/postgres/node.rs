//! Nodes: the name a node keeps, the number it leases, the signs of life it gives, and what becomes of the silent.

use std::{fs, path::Path};

use sheaf_bundles::id::RunId;
use sqlx::{Connection as _, PgConnection, PgPool, Row as _};

use crate::{
    queue::{QueueError, lane::lane_gate},
    storage::sqlite::guard::{self, Guard},
};

/// A node that was not heard of for so long is taken to be dead, when nothing else is set, milliseconds.
pub const SILENCE_MS: i64 = 15_000;
/// The highest number a node can have: ids have ten bits for it. 0 stands for people at a terminal.
const NODE_MAX: i16 = 1_023;
/// The number of a node that was silent for so long may go to a node of another name, milliseconds: one hour.
const RETIRED_MS: i64 = 60 * 60 * 1000;
/// Bytes of a node's name.
const NAME_BYTES: usize = 16;

/// This process among all that ever served the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Its number, 1 to 1023.
    pub id: i16,
    /// Marks the rows it holds; never given twice.
    pub epoch: i64,
}

/// The name that a node keeps over restarts, and the lock that no other process uses its directory.
#[derive(Debug)]
pub struct Name {
    text: String,
    _guard: Guard,
}

impl Name {
    /// Reads the name in a node's own directory, or makes one.
    pub fn of(data: &Path) -> Result<Name, QueueError> {
        fs::create_dir_all(data).map_err(guard::refused)?;
        let path = data.join("node");
        let guard = guard::take(&path)?;
        let text = match fs::read_to_string(&path) {
            Ok(text) if text.trim().len() == NAME_BYTES * 2 => text.trim().to_owned(),
            // A file that a full disk left empty is as good as none: the old name's rows are taken over like any other's.
            _ => {
                let fresh = fresh();
                fs::write(&path, &fresh).map_err(guard::refused)?;
                fresh
            }
        };
        Ok(Name { text, _guard: guard })
    }

    /// A name for this process alone, when another one turned out to have this one: a copied directory.
    pub fn change(&mut self) {
        self.text = fresh();
    }
}

fn fresh() -> String {
    let mut bytes = [0; NAME_BYTES];
    // The system gives random bytes or the process could not have made its master key either.
    let _ = getrandom::fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Leases a number for this process and makes due again what its name held before.
pub async fn register(
    connection: &mut PgConnection,
    name: &Name,
    now_ms: i64,
    lease_ms: i64,
) -> Result<Node, sqlx::Error> {
    /// One node at a time looks for a free number.
    const LOCK: &str = "SELECT pg_advisory_xact_lock(8325941120250002)";
    const LONGEST: &str = "INSERT INTO meta (key, value) VALUES ('lease_ms', $1) \
                           ON CONFLICT (key) DO UPDATE SET value = greatest(meta.value, excluded.value)";
    const OWN: &str = "SELECT id, epoch FROM node WHERE name = $1 FOR UPDATE";
    const FREE: &str = "SELECT coalesce(\
        (SELECT n::smallint FROM generate_series(1, $1::int) n WHERE NOT EXISTS (SELECT 1 FROM node WHERE id = n) \
         ORDER BY n LIMIT 1), \
        (SELECT id FROM node WHERE seen_ms < $2 ORDER BY seen_ms LIMIT 1))";
    const TAKE: &str = "INSERT INTO node (id, name, epoch, seen_ms, turn) \
                        VALUES ($1, $2, nextval('node_epoch'), $3, 0) \
                        ON CONFLICT (id) DO UPDATE SET name = excluded.name, epoch = excluded.epoch, \
                            seen_ms = excluded.seen_ms, turn = 0, \
                            activated = CASE node.name WHEN excluded.name THEN node.activated END \
                        RETURNING epoch";
    let mut tx = connection.begin().await?;
    sqlx::query(LOCK).execute(&mut *tx).await?;
    sqlx::query(LONGEST).bind(lease_ms).execute(&mut *tx).await?;
    let own = sqlx::query(OWN).bind(&name.text).fetch_optional(&mut *tx).await?;
    let (id, before) = match own {
        Some(row) => (row.try_get(0)?, row.try_get(1)?),
        None => {
            let free = sqlx::query(FREE).bind(i32::from(NODE_MAX)).bind(now_ms - RETIRED_MS);
            let free: Option<i16> = free.fetch_one(&mut *tx).await?.try_get(0)?;
            let too_many = || sqlx::Error::Configuration(format!("{NODE_MAX} nodes are alive").into());
            (free.ok_or_else(too_many)?, 0)
        }
    };
    let take = sqlx::query(TAKE).bind(id).bind(&name.text).bind(now_ms);
    let epoch = take.fetch_one(&mut *tx).await?.try_get(0)?;
    free(&mut tx, &[before], now_ms).await?;
    tx.commit().await?;
    Ok(Node { id, epoch })
}

/// Whether another process has taken this node's name and serves under it.
pub async fn is_used_by_another(
    connection: &mut PgConnection,
    name: &Name,
    own: Node,
) -> Result<bool, sqlx::Error> {
    const EPOCH: &str = "SELECT epoch FROM node WHERE name = $1";
    let row = sqlx::query(EPOCH).bind(&name.text).fetch_optional(connection).await?;
    let epoch: i64 = row.map_or(Ok(0), |row| row.try_get(0))?;
    Ok(epoch != 0 && epoch != own.epoch)
}

/// When the last id of anybody was made, unix milliseconds.
pub async fn last_id_ms(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    const LAST: &str = "SELECT greatest((SELECT max(id) FROM event), (SELECT max(id) FROM run), \
                        (SELECT max(id) FROM queue), (SELECT max(id) FROM version), 0)";
    Ok(RunId(sqlx::query(LAST).fetch_one(connection).await?.try_get(0)?).time_ms())
}

/// A sign of life.
pub async fn beat(pool: &PgPool, node: Node, now_ms: i64) -> Result<(), sqlx::Error> {
    const BEAT: &str = "UPDATE node SET seen_ms = greatest(seen_ms, $3) WHERE id = $1 AND epoch = $2";
    sqlx::query(BEAT).bind(node.id).bind(node.epoch).bind(now_ms).execute(pool).await?;
    Ok(())
}

/// Makes due now what silent nodes hold; they cannot commit a turn any more before they registered again. How many runs
/// that were.
pub async fn take_over(pool: &PgPool, own: Node, now_ms: i64, silence_ms: i64) -> Result<u64, sqlx::Error> {
    /// A node that is committing a turn right now is not dead: its row is locked, and skipped.
    const SILENT: &str = "WITH silent AS (
            SELECT id, epoch FROM node WHERE epoch <> 0 AND epoch <> $1 AND seen_ms < $2 FOR UPDATE SKIP LOCKED
        ), fenced AS (UPDATE node SET epoch = 0 FROM silent WHERE node.id = silent.id)
        SELECT epoch FROM silent";
    let mut tx = pool.begin().await?;
    let silent = sqlx::query(SILENT).bind(own.epoch).bind(now_ms - silence_ms).fetch_all(&mut *tx).await?;
    let epochs: Vec<i64> = silent.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    if epochs.is_empty() {
        return Ok(0);
    }
    let freed = free(&mut tx, &epochs, now_ms).await?;
    tx.commit().await?;
    Ok(freed)
}

/// Makes due now what holds a place and whose lease ran out, though its node lives: it gave up a claim whose commit was
/// not answered for too long. Nobody claims such a run elsewhere, for claims read no places. How many runs that were. What
/// a turn is settling right now is left alone: whoever waits for it could be waited for.
pub async fn give_back(pool: &PgPool, now_ms: i64) -> Result<u64, sqlx::Error> {
    const LAPSED: &str = concat!(
        "UPDATE queue SET gate = NULL, due_ms = $1 WHERE id IN (\
            SELECT id FROM queue WHERE gate IS NOT NULL AND gate < 0 AND gate > ",
        lane_gate!(),
        " AND due_ms <= $1 FOR UPDATE SKIP LOCKED)"
    );
    Ok(sqlx::query(LAPSED).bind(now_ms).execute(pool).await?.rows_affected())
}

/// Makes due now what was held under these epochs. Only leases are looked at, and those end within one lease from now, so
/// a million delayed runs cost nothing here.
async fn free(connection: &mut PgConnection, epochs: &[i64], now_ms: i64) -> Result<u64, sqlx::Error> {
    const FREE: &str = "UPDATE queue SET due_ms = least(due_ms, $2), owner = 0, lost = lost + 1 \
                        WHERE owner <> 0 AND owner = ANY($1) \
                        AND due_ms <= $2 + (SELECT value FROM meta WHERE key = 'lease_ms') AND gate IS NULL";
    /// Places of connections with a limit.
    const PLACES: &str = concat!(
        "UPDATE queue SET due_ms = least(due_ms, $2), owner = 0, lost = lost + 1, gate = NULL \
         WHERE gate IS NOT NULL AND gate < 0 AND owner = ANY($1) AND gate > ",
        lane_gate!()
    );
    let places =
        sqlx::query(PLACES).bind(epochs).bind(now_ms).execute(&mut *connection).await?.rows_affected();
    Ok(places + sqlx::query(FREE).bind(epochs).bind(now_ms).execute(connection).await?.rows_affected())
}

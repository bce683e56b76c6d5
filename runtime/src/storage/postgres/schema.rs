//! The tables, and how a database of an older sheaf becomes one of this while nodes of both use it.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, TransactionTrait};

use crate::{
    queue::QueueError,
    storage::sql::{database_code, statement},
};

/// One step of the schema.
struct Migration {
    /// Tables of those before that it changes, `queue` last: it has all of them before it does anything, so that nobody waits
    /// for its work and for the next table in one.
    tables: &'static [&'static str],
    script: &'static str,
    /// The oldest schema whose sheaf may go on using the database after this step. A step that only adds keeps this low,
    /// so that nodes are replaced one by one; what is not used any more is taken away by a later step, in a later release.
    usable_by: i64,
}

/// In order; scripts that were released never change.
///
/// Rows are narrow and keyed by time-sorted ids. `queue` has one index beside its key, and it lives at the right end of it.
const MIGRATIONS: &[Migration] = &[
    Migration {
        tables: &[],
        script: r"
-- Numbers of the database itself: the epoch in force.
CREATE TABLE meta (key text PRIMARY KEY, value bigint NOT NULL);

-- A node: a process that serves, under a name that it keeps over restarts. Its id is part of the ids it makes. epoch is
-- its process among all that ever served, and marks the rows it holds; 0 once others took its rows over.
-- turn: the last turn it committed. activated: hash of the set of versions that its own files last made active.
CREATE TABLE node (
    id smallint PRIMARY KEY,
    name text NOT NULL UNIQUE,
    epoch bigint NOT NULL,
    seen_ms bigint NOT NULL,
    turn bigint NOT NULL,
    activated bytea
) WITH (fillfactor = 50);
CREATE SEQUENCE node_epoch;

CREATE TABLE connection (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE);

CREATE TABLE version (
    id bigint PRIMARY KEY,
    bundle text NOT NULL,
    connection text NOT NULL,
    hash bytea NOT NULL,
    artefact bytea NOT NULL,
    shared bytea NOT NULL,
    created_ms bigint NOT NULL,
    active smallint NOT NULL,
    UNIQUE (bundle, hash)
);
-- Texts that versions have in common; version.shared holds their hashes, 32 bytes each.
CREATE TABLE shared_text (hash bytea PRIMARY KEY, text text NOT NULL);

-- kind: 0 accepted, 1 quarantined. filtered: ids of the versions whose filter said no, 8 bytes each, big-endian.
CREATE TABLE event (
    id bigint PRIMARY KEY,
    connection integer NOT NULL,
    received_ms bigint NOT NULL,
    kind smallint NOT NULL,
    filtered bytea,
    reason text
);

-- The request as received; apart from its event, so that lists read narrow rows. A body of some KB stays in its row, as it
-- came: compressing every event costs more than the bytes it saves.
CREATE TABLE body (id bigint PRIMARY KEY, head text NOT NULL, body bytea NOT NULL) WITH (toast_tuple_target = 8160);
ALTER TABLE body ALTER COLUMN body SET STORAGE EXTERNAL;

-- Which identities are known. Rows come in the order of their events, so a narrow index by ranges finds the old ones.
CREATE TABLE dedupe (h1 bigint NOT NULL, h2 bigint NOT NULL, event bigint NOT NULL, PRIMARY KEY (h1, h2));
CREATE INDEX dedupe_age ON dedupe USING brin (event);

-- Pending runs and nothing else. due_ms is the time of the next attempt, or the end of the lease while one is made.
CREATE TABLE queue (
    id bigint PRIMARY KEY,
    due_ms bigint NOT NULL,
    event bigint NOT NULL,
    version bigint NOT NULL,
    owner bigint NOT NULL,
    connection integer NOT NULL,
    fence integer NOT NULL,
    attempt integer NOT NULL,
    generation integer NOT NULL,
    crashes integer NOT NULL,
    lost integer NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX queue_due ON queue (due_ms, id);

-- What the next attempt or a replay needs; a run that is delivered at once never has one.
CREATE TABLE run_state (run bigint PRIMARY KEY, state bytea NOT NULL);

-- Finished runs with their last attempt. state: 0 delivered, 1 parked, 2 discarded.
CREATE TABLE run (
    id bigint PRIMARY KEY,
    event bigint NOT NULL,
    version bigint NOT NULL,
    started_ms bigint NOT NULL,
    finished_ms bigint NOT NULL,
    connection integer NOT NULL,
    fence integer NOT NULL,
    attempt integer NOT NULL,
    generation integer NOT NULL,
    state smallint NOT NULL,
    reason text,
    deliveries text NOT NULL,
    class text NOT NULL
);
CREATE INDEX run_not_ok ON run (state, id) WHERE state <> 0;
-- Parked runs by version and class of the last delivery, for those who are told of them.
CREATE INDEX run_parked ON run (version, class, finished_ms, connection) WHERE state = 1;

-- Earlier attempts. outcome: 0 delivered, 1 parked, 2 to be repeated, 3 crashed.
CREATE TABLE attempt (
    run bigint NOT NULL,
    started_ms bigint NOT NULL,
    finished_ms bigint NOT NULL,
    fence integer NOT NULL,
    outcome smallint NOT NULL,
    reason text,
    deliveries text NOT NULL,
    PRIMARY KEY (run, fence)
);

-- Counters, apart for each node, so that nodes do not wait for each other's rows; node 0 is people at a terminal.
CREATE TABLE ledger_of_node (
    node smallint NOT NULL,
    connection integer NOT NULL,
    received bigint NOT NULL,
    accepted bigint NOT NULL,
    duplicate bigint NOT NULL,
    quarantined bigint NOT NULL,
    unrouted bigint NOT NULL,
    decisions bigint NOT NULL,
    delivered bigint NOT NULL,
    filtered bigint NOT NULL,
    parked bigint NOT NULL,
    pending bigint NOT NULL,
    discarded bigint NOT NULL,
    PRIMARY KEY (node, connection)
) WITH (fillfactor = 50);

CREATE VIEW ledger AS
SELECT connection,
    sum(received)::bigint AS received, sum(accepted)::bigint AS accepted, sum(duplicate)::bigint AS duplicate,
    sum(quarantined)::bigint AS quarantined, sum(unrouted)::bigint AS unrouted, sum(decisions)::bigint AS decisions,
    sum(delivered)::bigint AS delivered, sum(filtered)::bigint AS filtered, sum(parked)::bigint AS parked,
    sum(pending)::bigint AS pending, sum(discarded)::bigint AS discarded
FROM ledger_of_node GROUP BY connection;

-- What a process remembers for the next one, or shares with another: what was told, how far a recount is.
CREATE TABLE note (name text PRIMARY KEY, revision bigint NOT NULL, text text NOT NULL);

-- What people did.
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_ms bigint NOT NULL,
    action text NOT NULL,
    run bigint NOT NULL
);
",
        usable_by: 1,
    },
    Migration {
        tables: &["version", "queue"],
        script: r"
-- through: the gate of the connection that the next step sends through. gate: the one that the run waits behind, out of
-- the way of those that may run; below zero it holds a place of a connection with a limit. A node that does not know of
-- gates claims what waits behind them as well, and reads the table for it.
ALTER TABLE queue ADD COLUMN through bigint NOT NULL DEFAULT 0, ADD COLUMN gate bigint;
DROP INDEX queue_due;
CREATE INDEX queue_due ON queue (due_ms, id) WHERE gate IS NULL;
CREATE INDEX queue_gate ON queue (gate, due_ms, id) WHERE gate IS NOT NULL;

-- Gates that are not plainly open. kind: 0 connection, 1 bundle. opened_ms: since when the breaker is open.
CREATE TABLE gate (
    id bigint PRIMARY KEY,
    kind smallint NOT NULL,
    name text NOT NULL,
    paused_ms bigint,
    why text,
    opened_ms bigint,
    until_ms bigint,
    tries integer,
    probe_until_ms bigint
);

-- The gate of the connection that the version's first step sends through.
ALTER TABLE version ADD COLUMN through bigint NOT NULL DEFAULT 0;
",
        usable_by: 1,
    },
    Migration {
        tables: &["run", "queue"],
        script: r"
-- lane: the key that the run belongs to, of which one is in flight at a time. Of its rows one is the head; the others stand
-- behind the gate of lanes. A finished run keeps its lane for a replay. A node that does not know of lanes claims
-- heads only, and leaves a lane without one when it gives one up: the others see to that.
ALTER TABLE queue ADD COLUMN lane bigint;
CREATE INDEX queue_lane ON queue (lane, gate, id) WHERE lane IS NOT NULL;
ALTER TABLE run ADD COLUMN lane bigint;
",
        usable_by: 1,
    },
    Migration {
        tables: &[],
        script: r"
-- What is spent of the budgets of a connection: its gate, its name, the accounts as JSON. A node that does not know of
-- budgets spends without noting it.
CREATE TABLE budget (gate bigint PRIMARY KEY, name text NOT NULL, accounts text NOT NULL) WITH (fillfactor = 50);
",
        usable_by: 1,
    },
    Migration {
        tables: &["audit", "queue"],
        script: r"
-- Runs that were refused before, oldest first, for those who are told of them. A run that is delivered at once is never in it.
CREATE INDEX queue_again ON queue (id) WHERE attempt > 0 AND gate IS NULL;
-- What people did with a run.
CREATE INDEX audit_run ON audit (run);
",
        usable_by: 1,
    },
];

/// The lock under which the schema changes, so that nodes which start at once do it one after the other. Any number will
/// do that nobody else in this database uses.
const LOCK: &str = "SELECT pg_advisory_xact_lock(8325941120250001)";

/// How long a step waits for a table that others use, milliseconds. All that time whoever comes after it waits behind it, turns
/// of older nodes among them; then it lets them through, and begins again.
pub(super) const LOCK_WAIT_MS: u32 = 300;
/// How long it does so once in a while, milliseconds: PostgreSQL's own clean-up of a table gives way to whoever waits for
/// longer than `deadlock_timeout`, which is a second. Below what sends events to the spool.
const LOCK_WAIT_LONG_MS: u32 = 1_500;
/// Every so many tries.
pub(super) const LONG_EVERY: u32 = 5;
/// How long the others have the table between tries.
const LOCK_PAUSE: Duration = Duration::from_millis(700);
/// Tries of a step, about a minute.
const LOCK_TRIES_MAX: u32 = 50;

const VERSION_TABLE: &str =
    "CREATE TABLE IF NOT EXISTS sheaf_schema (version bigint NOT NULL, usable_by bigint NOT NULL)";

/// Brings the database to this binary's schema, one transaction for each step; a step is whole or has not happened.
/// Nodes of an older sheaf go on meanwhile, so a table that they use is waited for in short tries.
pub async fn migrate(connection: &DatabaseConnection) -> Result<(), QueueError> {
    #[cfg(feature = "faulty")]
    if let Some(last) = crate::faulty::schema() {
        migrate_to(connection, usize::from(last)).await?;
        return expect_current(connection).await;
    }
    migrate_to(connection, MIGRATIONS.len()).await
}

/// The same up to that schema, as an older sheaf did.
pub(super) async fn migrate_to(connection: &DatabaseConnection, last: usize) -> Result<(), QueueError> {
    migrate_within(connection, last, LOCK_TRIES_MAX).await
}

/// The same in so many tries of each step.
pub(super) async fn migrate_within(
    connection: &DatabaseConnection,
    last: usize,
    tries_max: u32,
) -> Result<(), QueueError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match step(connection, last, lock_wait_ms(tries)).await? {
            Step::Taken => tries = 0,
            Step::Last => return Ok(()),
            Step::InTheWay(_) if tries == tries_max => return Err(QueueError::TableInUse { tries }),
            Step::InTheWay(error) => {
                if tries == 1 {
                    tracing::warn!(%error, "others use a table that the schema changes; trying again");
                }
                tokio::time::sleep(LOCK_PAUSE).await;
            }
        }
    }
}

/// What came of a try.
enum Step {
    /// The database is one step further.
    Taken,
    /// There is none to take.
    Last,
    /// Others use a table of it.
    InTheWay(DbErr),
}

async fn step(connection: &DatabaseConnection, last: usize, wait_ms: u32) -> Result<Step, QueueError> {
    let tx = connection.begin().await?;
    tx.execute_unprepared(LOCK).await?;
    tx.execute_unprepared(VERSION_TABLE).await?;
    let found = version(&tx).await?;
    check(found)?;
    let step = usize::try_from(found.map_or(0, |(version, _)| version)).unwrap_or(usize::MAX);
    let Some(migration) = MIGRATIONS[..last].get(step) else { return Ok(Step::Last) };
    match change(&tx, migration, step, wait_ms).await {
        Ok(()) => tx.commit().await?,
        Err(error) if is_in_the_way(&error) => {
            tx.rollback().await?;
            return Ok(Step::InTheWay(error));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(Step::Taken)
}

async fn change(
    tx: &DatabaseTransaction,
    migration: &Migration,
    step: usize,
    wait_ms: u32,
) -> Result<(), DbErr> {
    let write = match step {
        0 => "INSERT INTO sheaf_schema (version, usable_by) VALUES (?, ?)",
        _ => "UPDATE sheaf_schema SET version = ?, usable_by = ?",
    };
    let version = i64::try_from(step + 1).unwrap_or(i64::MAX);
    tx.execute_unprepared(&format!("SET LOCAL lock_timeout = {wait_ms}")).await?;
    if !migration.tables.is_empty() {
        let tables = migration.tables.join(", ");
        tx.execute_unprepared(&format!("LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE")).await?;
    }
    tx.execute_unprepared(migration.script).await?;
    tx.execute_raw(statement(tx, write, [version.into(), migration.usable_by.into()])).await?;
    Ok(())
}

fn lock_wait_ms(tries: u32) -> u32 {
    if tries.is_multiple_of(LONG_EVERY) { LOCK_WAIT_LONG_MS } else { LOCK_WAIT_MS }
}

/// A lock that did not come in time, or waiting for it was a deadlock. The transaction is undone, nobody waits for it any more.
fn is_in_the_way(error: &DbErr) -> bool {
    const LOCK_NOT_AVAILABLE: &str = "55P03";
    const DEADLOCK: &str = "40P01";
    matches!(database_code(error).as_deref(), Some(LOCK_NOT_AVAILABLE | DEADLOCK))
}

/// Refuses a database that this binary cannot work on; for those who only read or replay.
pub async fn expect_current(connection: &DatabaseConnection) -> Result<(), QueueError> {
    let there = "SELECT to_regclass('sheaf_schema') IS NOT NULL";
    let there = connection.query_one_raw(statement(connection, there, [])).await?;
    let there: bool = there.map_or(Ok(false), |row| row.try_get_by_index(0))?;
    let found = if there { version(connection).await? } else { None };
    check(found)?;
    match found.map_or(0, |(version, _)| version) {
        found if found < known() => Err(QueueError::Older { found, known: known() }),
        _ => Ok(()),
    }
}

/// A newer schema is fine as long as it says so.
fn check(found: Option<(i64, i64)>) -> Result<(), QueueError> {
    match found {
        Some((found, usable_by)) if usable_by > known() => Err(QueueError::Newer { found, known: known() }),
        _ => Ok(()),
    }
}

/// This binary's schema.
pub(super) fn known() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// The schema's version and the oldest one whose sheaf can use it.
async fn version(connection: &impl ConnectionTrait) -> Result<Option<(i64, i64)>, QueueError> {
    let read = statement(connection, "SELECT version, usable_by FROM sheaf_schema", []);
    let row = connection.query_one_raw(read).await?;
    Ok(row.map(|row| Ok::<_, DbErr>((row.try_get_by_index(0)?, row.try_get_by_index(1)?))).transpose()?)
}

//! The tables, and how a database of an older sheaf becomes one of this.

use sea_orm::{ConnectionTrait, DatabaseConnection, TransactionTrait};

use super::{connect::immediate, shape::fixed};
use crate::queue::QueueError;

/// One script for each schema version, in order; scripts that were released never change.
///
/// Rows are narrow and keyed by time-sorted ids, so that a commit touches few pages, at the right end of each tree.
const MIGRATIONS: &[&str] = &[
    r"
-- Numbers of the database itself: epochs, the lease in force, what the dedupe tables hold.
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE connection (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

CREATE TABLE version (
    id INTEGER PRIMARY KEY,
    bundle TEXT NOT NULL,
    connection TEXT NOT NULL,
    hash BLOB NOT NULL,
    artefact BLOB NOT NULL,
    created_ms INTEGER NOT NULL,
    active INTEGER NOT NULL,
    UNIQUE (bundle, hash)
);

-- kind: 0 accepted, 1 quarantined. filtered: ids of the versions whose filter said no, 8 bytes each, big-endian.
CREATE TABLE event (
    id INTEGER PRIMARY KEY,
    connection INTEGER NOT NULL,
    received_ms INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    filtered BLOB,
    reason TEXT
);

-- The request as received; apart from its event, so that lists read narrow rows.
CREATE TABLE body (id INTEGER PRIMARY KEY, head TEXT NOT NULL, body BLOB NOT NULL);

-- Identities of recent events: one row per commit, 24 bytes per event (two halves of the hash, the event's id).
CREATE TABLE dedupe_log (id INTEGER PRIMARY KEY, keys BLOB NOT NULL);
-- Older identities, sorted by hash; two tables take turns, each is emptied when all of it is past the window.
CREATE TABLE dedupe_even (h1 INTEGER, h2 INTEGER, event INTEGER NOT NULL, PRIMARY KEY (h1, h2)) WITHOUT ROWID;
CREATE TABLE dedupe_odd (h1 INTEGER, h2 INTEGER, event INTEGER NOT NULL, PRIMARY KEY (h1, h2)) WITHOUT ROWID;

-- Pending runs and nothing else. due_ms is the time of the next attempt, or the end of the lease while one is made.
CREATE TABLE queue (
    id INTEGER PRIMARY KEY,
    due_ms INTEGER NOT NULL,
    event INTEGER NOT NULL,
    version INTEGER NOT NULL,
    connection INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    crashes INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    owner INTEGER NOT NULL
);
CREATE INDEX queue_due ON queue (due_ms);

-- What the next attempt or a replay needs; a run that is delivered at once never has one.
CREATE TABLE run_state (run INTEGER PRIMARY KEY, state BLOB NOT NULL);

-- Finished runs with their last attempt. state: 0 delivered, 1 parked, 2 discarded.
CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    event INTEGER NOT NULL,
    version INTEGER NOT NULL,
    connection INTEGER NOT NULL,
    state INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    started_ms INTEGER NOT NULL,
    finished_ms INTEGER NOT NULL,
    reason TEXT,
    deliveries TEXT NOT NULL
);
CREATE INDEX run_not_ok ON run (state, id) WHERE state <> 0;

-- Earlier attempts. outcome: 0 delivered, 1 parked, 2 to be repeated, 3 crashed.
CREATE TABLE attempt (
    run INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    outcome INTEGER NOT NULL,
    started_ms INTEGER NOT NULL,
    finished_ms INTEGER NOT NULL,
    reason TEXT,
    deliveries TEXT NOT NULL,
    PRIMARY KEY (run, fence)
) WITHOUT ROWID;

CREATE TABLE ledger (
    connection INTEGER PRIMARY KEY,
    received INTEGER NOT NULL,
    accepted INTEGER NOT NULL,
    duplicate INTEGER NOT NULL,
    quarantined INTEGER NOT NULL,
    unrouted INTEGER NOT NULL,
    decisions INTEGER NOT NULL,
    delivered INTEGER NOT NULL,
    filtered INTEGER NOT NULL,
    parked INTEGER NOT NULL,
    pending INTEGER NOT NULL,
    discarded INTEGER NOT NULL
);

-- What people did.
CREATE TABLE audit (id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, action TEXT NOT NULL, run INTEGER NOT NULL);
",
    r"
-- Parked runs by version and class of the last delivery, for those who are told of them. A delivered run costs nothing here.
CREATE INDEX run_parked ON run (version, coalesce(json_extract(deliveries, '$[#-1].class'), ''), finished_ms, connection)
    WHERE state = 1;

-- What a process remembers for the next one, or shares with another: what was told, how far a recount is.
CREATE TABLE note (name TEXT PRIMARY KEY, revision INTEGER NOT NULL, text TEXT NOT NULL) WITHOUT ROWID;
",
    r"
-- shared: the hashes of the texts that a version has in common with others, 32 bytes each.
ALTER TABLE version ADD COLUMN shared BLOB NOT NULL DEFAULT x'';
CREATE TABLE shared_text (hash BLOB PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;
",
    r"
-- through: the gate of the connection that the next step sends through. gate: the one that the run waits behind, out of
-- the way of those that may run; below zero it holds a place of a connection with a limit.
ALTER TABLE queue ADD COLUMN through INTEGER NOT NULL DEFAULT 0;
ALTER TABLE queue ADD COLUMN gate INTEGER;
DROP INDEX queue_due;
CREATE INDEX queue_due ON queue (due_ms) WHERE gate IS NULL;
CREATE INDEX queue_gate ON queue (gate, due_ms) WHERE gate IS NOT NULL;

-- Gates that are not plainly open. kind: 0 connection, 1 bundle. opened_ms: since when the breaker is open.
CREATE TABLE gate (
    id INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    name TEXT NOT NULL,
    paused_ms INTEGER,
    why TEXT,
    opened_ms INTEGER,
    until_ms INTEGER,
    tries INTEGER,
    probe_until_ms INTEGER
);

-- The gate of the connection that the version's first step sends through.
ALTER TABLE version ADD COLUMN through INTEGER NOT NULL DEFAULT 0;
",
    r"
-- lane: the key that the run belongs to, of which one is in flight at a time. Of its rows one is the head; the others stand
-- behind the gate of lanes. A finished run keeps its lane for a replay.
ALTER TABLE queue ADD COLUMN lane INTEGER;
CREATE INDEX queue_lane ON queue (lane, gate) WHERE lane IS NOT NULL;
ALTER TABLE run ADD COLUMN lane INTEGER;
",
    r"
-- What is spent of the budgets of a connection: its gate, its name, the accounts as JSON.
CREATE TABLE budget (gate INTEGER PRIMARY KEY, name TEXT NOT NULL, accounts TEXT NOT NULL);
",
    r"
-- For each merge into the tables of identities, a filter of what it put there. bucket: the last window it wrote in.
-- dedupe_unfiltered: the last window of which identities may be there without a filter.
CREATE TABLE dedupe_filter (id INTEGER PRIMARY KEY, bucket INTEGER NOT NULL, bits BLOB NOT NULL);
INSERT INTO meta SELECT 'dedupe_unfiltered', value FROM meta WHERE key = 'dedupe_bucket';
",
    r"
-- Runs that were refused before, oldest first, for those who are told of them. A run that is delivered at once is never in it.
CREATE INDEX queue_again ON queue (id) WHERE attempt > 0 AND gate IS NULL;
-- What people did with a run.
CREATE INDEX audit_run ON audit (run);
",
];

/// Brings the database to this binary's schema, one transaction for each step.
pub async fn migrate(connection: &DatabaseConnection) -> Result<(), QueueError> {
    #[cfg(feature = "faulty")]
    if let Some(last) = crate::faulty::schema() {
        migrate_to(connection, i64::from(last)).await?;
        return expect_current(connection).await;
    }
    migrate_to(connection, known()).await
}

/// The same up to that schema, as an older sheaf did.
pub(super) async fn migrate_to(connection: &DatabaseConnection, last: i64) -> Result<(), QueueError> {
    let (found, known) = (user_version(connection).await?, known());
    if found > known {
        return Err(QueueError::Newer { found, known });
    }
    for version in found..last {
        let script = MIGRATIONS[usize::try_from(version).unwrap_or(0)];
        let tx = connection.begin_with_options(immediate()).await?;
        tx.execute_unprepared(script).await?;
        tx.execute_unprepared(&format!("PRAGMA user_version = {}", version + 1)).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Refuses a database of another schema; for those who only read or replay.
pub async fn expect_current(connection: &DatabaseConnection) -> Result<(), QueueError> {
    let known = known();
    match user_version(connection).await? {
        found if found == known => Ok(()),
        found if found > known => Err(QueueError::Newer { found, known }),
        found => Err(QueueError::Older { found, known }),
    }
}

/// This binary's schema.
pub(super) fn known() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

async fn user_version(connection: &DatabaseConnection) -> Result<i64, QueueError> {
    let row = connection.query_one_raw(fixed("PRAGMA user_version", [])).await?;
    Ok(row.map(|row| row.try_get_by_index(0)).transpose()?.unwrap_or(0))
}

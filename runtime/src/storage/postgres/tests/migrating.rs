//! A step of the schema beside nodes that go on using its tables.

use sea_orm::DatabaseConnection;
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinHandle;

use super::*;
use crate::storage::postgres::schema::{LOCK_WAIT_MS, LONG_EVERY};

/// How often the same thing is shown.
const ROUNDS: u32 = 3;
/// A statement of ours that waits for a migration waits no longer; generous, for a machine that is busy.
const HELD_UP_MS_MAX: u32 = 10 * LOCK_WAIT_MS;
/// Tries to bring a deadlock about.
const DEADLOCKS_MAX: u32 = 10;
/// Longest time for what happens at once on a machine at rest.
const PATIENCE: Duration = Duration::from_secs(60);
/// Whether the migration waits for a table.
const WAITS: &str = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() \
                     AND pid <> pg_backend_pid() AND wait_event_type = 'Lock' AND query LIKE 'LOCK TABLE%')";

/// A database of an older sheaf, and the one that brings it up to date.
async fn older(database: &TestDatabase, schema: usize) -> DatabaseConnection {
    let pool = connect::pool(&database.url().parse().unwrap(), connect::Use::Write);
    schema::migrate_to(&pool, schema).await.unwrap();
    pool
}

fn migrating(pool: &DatabaseConnection) -> JoinHandle<Result<(), QueueError>> {
    let pool = pool.clone();
    tokio::spawn(async move { schema::migrate(&pool).await })
}

/// Another transaction, open, and what it has done.
async fn other(database: &TestDatabase, sql: &'static str) -> PgConnection {
    let mut other = PgConnection::connect(&database.url()).await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut other).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut other).await.unwrap();
    other
}

async fn until(asking: &mut PgConnection, sql: &'static str) {
    let begun = std::time::Instant::now();
    while !sqlx::query_scalar(sql).fetch_one(&mut *asking).await.unwrap_or(false) {
        assert!(begun.elapsed() < PATIENCE, "waited for {sql}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn migrated(migration: JoinHandle<Result<(), QueueError>>, database: &TestDatabase) {
    migration.await.unwrap().unwrap();
    assert_eq!(database.sql("SELECT version FROM sheaf_schema"), schema::known().to_string());
}

#[tokio::test]
async fn a_migration_that_waits_for_a_table_lets_the_others_through_and_gets_it_when_it_is_free() {
    if !server::is_installed() {
        return;
    }
    let database = TestDatabase::new();
    let pool = older(&database, 1).await;
    let holder = other(&database, "SELECT FROM queue").await;
    let mut turns = PgConnection::connect(&database.url()).await.unwrap();
    let patience = format!("SET lock_timeout = {HELD_UP_MS_MAX}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(patience)).execute(&mut turns).await.unwrap();
    let migration = migrating(&pool);
    for _ in 0..ROUNDS {
        until(&mut turns, WAITS).await;
        // It stands behind the migration, which waits for a transaction that does not end.
        sqlx::raw_sql("UPDATE queue SET fence = fence + 1").execute(&mut turns).await.unwrap();
    }
    assert!(!migration.is_finished());
    assert_eq!(database.sql("SELECT version FROM sheaf_schema"), "1", "a step is whole or has not happened");
    holder.close().await.unwrap();
    migrated(migration, &database).await;
}

#[tokio::test]
async fn a_migration_that_was_ended_for_a_deadlock_begins_again() {
    if !server::is_installed() {
        return;
    }
    for _ in 0..DEADLOCKS_MAX {
        if is_ended_for_a_deadlock_and_goes_through().await {
            return;
        }
    }
    panic!("{DEADLOCKS_MAX} times the migration let go before there was a deadlock");
}

/// Whether there was one: the other transaction has to come before the migration looks for it.
async fn is_ended_for_a_deadlock_and_goes_through() -> bool {
    const LOOK_MS: u32 = LOCK_WAIT_MS * 2 / 3;
    const ALONE: &str = "SELECT count(*) = 1 FROM pg_stat_activity \
                         WHERE datname = current_database() AND backend_type = 'client backend'";
    const STRUCK: &str = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    let database = TestDatabase::new();
    older(&database, 1).await.close().await.unwrap();
    let name = database.sql("SELECT current_database()");
    database.sql(&format!("ALTER DATABASE {name} SET deadlock_timeout = '{LOOK_MS}ms'"));
    let pool = connect::pool(&database.url().parse().unwrap(), connect::Use::Write);
    let mut asking = PgConnection::connect(&database.url()).await.unwrap();
    // It never looks, so it is the migration that is ended.
    let mut holder = other(&database, "SET deadlock_timeout = '1h'; SELECT FROM queue").await;
    let migration = migrating(&pool);
    until(&mut asking, WAITS).await;
    // The migration has this table, and waits for the other.
    sqlx::raw_sql("SELECT FROM version").execute(&mut holder).await.unwrap();
    holder.close().await.unwrap();
    migrated(migration, &database).await;
    // A server process counts in the end at its end.
    pool.close().await.unwrap();
    until(&mut asking, ALONE).await;
    database.sql(STRUCK) != "0"
}

#[tokio::test]
async fn a_migration_that_never_gets_its_table_says_so() {
    if !server::is_installed() {
        return;
    }
    let database = TestDatabase::new();
    let pool = older(&database, 1).await;
    let _holder = other(&database, "SELECT FROM queue").await;
    let refused =
        schema::migrate_within(&pool, usize::try_from(schema::known()).unwrap(), 2).await.unwrap_err();
    assert!(matches!(refused, QueueError::TableInUse { tries: 2, .. }), "{refused:?}");
    assert!(refused.to_string().contains("pg_stat_activity"), "{refused}");
}

#[tokio::test]
async fn the_servers_own_clean_up_of_a_table_gives_way_to_a_migration() {
    /// Some hundred pages, one in ten or so cleaned up in a second.
    const SLOWLY: &str = "
        INSERT INTO run (id, event, version, started_ms, finished_ms, connection, fence, attempt, generation, state, deliveries, class)
            SELECT n, n, 1, 0, 0, 1, 1, 1, 1, 0, '[]', 'ok' FROM generate_series(1, 60000) n;
        DELETE FROM run WHERE id % 2 = 0;
        ALTER TABLE run SET (autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0,
            autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)";
    const CLEANED: &str = "SELECT EXISTS (SELECT FROM pg_stat_progress_vacuum WHERE relid = 'run'::regclass)";
    if !server::is_installed() {
        return;
    }
    let database = TestDatabase::alone();
    let pool = older(&database, 1).await;
    database.sql(SLOWLY);
    database.sql("ALTER SYSTEM SET autovacuum_naptime = '1s'");
    database.sql("SELECT pg_reload_conf()");
    let mut asking = PgConnection::connect(&database.url()).await.unwrap();
    until(&mut asking, CLEANED).await;
    let last = usize::try_from(schema::known()).unwrap();
    schema::migrate_within(&pool, last, LONG_EVERY).await.unwrap();
}

//! What can be seen of a database, however much is in it and whoever else uses it.

use sea_orm::Database as Connected;
use sqlx::{Connection as _, PgConnection};

use super::*;
use crate::{queue::observe::Horizon, storage::horizon};

#[tokio::test]
async fn the_ledger_is_verified_however_long_that_takes() {
    if !server::is_installed() {
        return;
    }
    let shared = Shared::default();
    let (a, _of_a) = shared.node("a", 1, Clock::system()).await.unwrap();
    let active = activate(&a, 1).await;
    assert!(is_accepted(&a.publish(event(&active, 1, i64::MAX)).await.unwrap()));
    shared.database.sql(
        "ALTER VIEW ledger RENAME TO ledger_of_all;
         CREATE VIEW ledger AS SELECT connection, received,
             CASE current_setting('statement_timeout') WHEN '6h' THEN accepted ELSE -1 END AS accepted,
             duplicate, quarantined, unrouted, decisions, delivered, filtered, parked, pending, discarded
         FROM ledger_of_all",
    );
    assert_eq!(a.store().verify_ledger().await.unwrap(), []);
    let [line] = a.store().ledger().await.unwrap().try_into().expect("one connection");
    assert_eq!(line.accepted, -1, "nothing else may take as long");
}

#[tokio::test]
async fn an_open_snapshot_is_seen_with_its_holder_until_it_ends_by_a_role_without_rights_too() {
    if !server::is_installed() {
        return;
    }
    let shared = Shared { database: TestDatabase::alone(), ..Shared::default() };
    let mut other = PgConnection::connect(&shared.database.url()).await.unwrap();
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut other).await.unwrap();
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").execute(&mut other).await.unwrap();
    // Time goes on for the others.
    shared.database.sql("CREATE ROLE shop LOGIN");
    let shop = shared.database.url().replace("//sheaf:", "//shop:");
    for url in [shared.database.url(), shop] {
        let connection = Connected::connect(url).await.unwrap();
        let Horizon { xid, holder } = horizon::oldest(&connection).await.unwrap().expect("one is open");
        assert_eq!(holder, format!("pid {pid}"));
        shared.database.sql("CREATE TABLE more (n int); DROP TABLE more");
        let again = horizon::oldest(&connection).await.unwrap();
        assert_eq!(again, Some(Horizon { xid, holder }), "it is the same one");
        connection.close().await.unwrap();
    }
    other.close().await.unwrap();
    let connection = Connected::connect(shared.database.url()).await.unwrap();
    while horizon::oldest(&connection).await.unwrap().is_some_and(|held| held.holder == format!("pid {pid}"))
    {
        tokio::task::yield_now().await;
    }
}

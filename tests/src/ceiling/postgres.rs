//! A ceiling's storage on PostgreSQL: publish is a body row and a queue row, settle takes the queue row away.

use std::str::FromStr as _;

use anyhow::{Context, ensure};
use axum::body::Bytes;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};

use super::store::{Commit, Store};

/// Bodies lie in their rows as they came, as the product's do.
const TABLES: [&str; 3] = [
    "CREATE TABLE event (id bigint PRIMARY KEY, body bytea NOT NULL) WITH (toast_tuple_target = 8160)",
    "ALTER TABLE event ALTER COLUMN body SET STORAGE EXTERNAL",
    "CREATE TABLE queue (id bigint PRIMARY KEY)",
];

struct Database(PgConnection);

/// Makes the tables, with so many rows that are done.
pub async fn fill(url: &str, rows: u64) -> anyhow::Result<()> {
    let mut connection = connect(url).await?;
    for sql in TABLES {
        sqlx::query(sql).execute(&mut connection).await?;
    }
    let rows = i64::try_from(rows)?;
    let fill = "INSERT INTO event SELECT id, '' FROM generate_series(1, $1) id";
    sqlx::query(fill).bind(rows).execute(&mut connection).await?;
    for sql in ["VACUUM ANALYZE", "CHECKPOINT"] {
        sqlx::query(sql).execute(&mut connection).await?;
    }
    Ok(connection.close().await?)
}

/// Starts the writer on tables that are there.
pub async fn open(url: &str) -> anyhow::Result<Store> {
    let mut connection = connect(url).await?;
    let last: i64 =
        sqlx::query_scalar("SELECT coalesce(max(id), 0) FROM event").fetch_one(&mut connection).await?;
    Ok(Store::over(Database(connection), last + 1))
}

/// Without scans and compiled plans, as the product's writer is. Fails when commits would not be durable.
async fn connect(url: &str) -> anyhow::Result<PgConnection> {
    let options = PgConnectOptions::from_str(url)?.options([("enable_seqscan", "off"), ("jit", "off")]);
    let mut connection = options.connect().await.context("the ceiling's database")?;
    for (setting, asked) in [("fsync", "SHOW fsync"), ("synchronous_commit", "SHOW synchronous_commit")] {
        let value: String = sqlx::query_scalar(asked).fetch_one(&mut connection).await?;
        ensure!(value == "on", "{setting} is {value}");
    }
    Ok(connection)
}

impl Commit for Database {
    async fn commit(&mut self, rows: &[(i64, Bytes)], done: &[i64]) -> anyhow::Result<()> {
        let mut tx = self.0.begin().await?;
        if !rows.is_empty() {
            let (rows, bodies): (Vec<i64>, Vec<&[u8]>) =
                rows.iter().map(|(row, body)| (*row, body.as_ref())).unzip();
            let event = "INSERT INTO event SELECT unnest($1::bigint[]), unnest($2::bytea[])";
            sqlx::query(event).bind(&rows).bind(bodies).execute(&mut *tx).await?;
            sqlx::query("INSERT INTO queue SELECT unnest($1::bigint[])").bind(rows).execute(&mut *tx).await?;
        }
        if !done.is_empty() {
            sqlx::query("DELETE FROM queue WHERE id = ANY($1)").bind(done).execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::{TestDatabase, is_installed};

    #[tokio::test]
    async fn a_row_waits_in_the_queue_from_its_append_until_it_is_done_and_numbers_go_on_after_what_was_there()
     {
        if !is_installed() {
            return;
        }
        let database = TestDatabase::new();
        fill(&database.url(), 3).await.expect("tables");
        let store = open(&database.url()).await.expect("a store");
        let row = store.append(Bytes::from_static(b"body")).await.expect("stored");
        assert_eq!(row, 4);
        assert_eq!(database.sql("SELECT id FROM queue"), "4");
        store.done(row).await;
        assert_eq!(store.append(Bytes::from_static(b"next")).await, Some(5));
        assert_eq!(database.sql("SELECT id FROM queue"), "5");
        assert_eq!(database.sql("SELECT count(*) FROM event"), "5");
    }
}

//! The queue's ceiling on PostgreSQL: one connection, natural batches, one transaction for what came and what is done,
//! and nothing else: no identities, no claims, no history, no ledger.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::Context;
use axum::body::Bytes;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::{mpsc, oneshot};

/// Most of publishes and settles in one transaction; the product's own limit of publishes.
const BATCH_MAX: usize = 512;
/// Work that waits for the writer; past it callers wait.
const WAITING_MAX: usize = 4096;
/// Bodies lie in their rows as they came, as the product's do.
const TABLES: [&str; 3] = [
    "CREATE TABLE event (id bigint PRIMARY KEY, body bytea NOT NULL) WITH (toast_tuple_target = 8160)",
    "ALTER TABLE event ALTER COLUMN body SET STORAGE EXTERNAL",
    "CREATE TABLE queue (id bigint PRIMARY KEY)",
];

enum Work {
    Publish(Bytes, oneshot::Sender<i64>),
    Settle(i64),
}

/// A handle to the writer.
#[derive(Clone)]
pub struct Store {
    work: mpsc::Sender<Work>,
    commits: Arc<AtomicU64>,
}

impl Store {
    /// Makes the tables, with so many rows that nobody settles, and starts the writer.
    pub async fn open(url: &str, filled: u64) -> anyhow::Result<Store> {
        let mut connection = PgConnection::connect(url).await.context("the ceiling's database")?;
        for sql in TABLES {
            sqlx::query(sql).execute(&mut connection).await?;
        }
        let filled = i64::try_from(filled)?;
        for sql in [
            "INSERT INTO event SELECT id, '' FROM generate_series(1, $1) id",
            "INSERT INTO queue SELECT id FROM generate_series(1, $1) id",
        ] {
            sqlx::query(sql).bind(filled).execute(&mut connection).await?;
        }
        sqlx::query("VACUUM ANALYZE").execute(&mut connection).await?;
        sqlx::query("CHECKPOINT").execute(&mut connection).await?;
        let (work, waiting) = mpsc::channel(WAITING_MAX);
        let commits = Arc::new(AtomicU64::new(0));
        tokio::spawn(write_all(connection, filled + 1, waiting, commits.clone()));
        Ok(Store { work, commits })
    }

    /// The row's number once it is committed; `None` when it could not be.
    pub async fn publish(&self, body: Bytes) -> Option<i64> {
        let (stored, row) = oneshot::channel();
        self.work.send(Work::Publish(body, stored)).await.ok()?;
        row.await.ok()
    }

    /// Takes a row out of the queue with some later commit.
    pub async fn settle(&self, row: i64) {
        // The writer ends only with the process.
        let _ = self.work.send(Work::Settle(row)).await;
    }

    /// Commits so far.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }
}

async fn write_all(
    mut connection: PgConnection,
    mut next_row: i64,
    mut waiting: mpsc::Receiver<Work>,
    commits: Arc<AtomicU64>,
) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let (mut rows, mut bodies, mut answers, mut settled) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for work in batch.drain(..) {
            match work {
                Work::Publish(body, answer) => {
                    rows.push(next_row);
                    bodies.push(body.to_vec());
                    answers.push(answer);
                    next_row += 1;
                }
                Work::Settle(row) => settled.push(row),
            }
        }
        match commit(&mut connection, &rows, &bodies, &settled).await {
            Ok(()) => {
                commits.fetch_add(1, Ordering::Relaxed);
                for (answer, row) in answers.into_iter().zip(rows) {
                    // Whoever asked may be gone; the row stays.
                    let _ = answer.send(row);
                }
            }
            Err(error) => eprintln!("a batch was not stored: {error}"),
        }
    }
}

async fn commit(
    connection: &mut PgConnection,
    rows: &[i64],
    bodies: &[Vec<u8>],
    settled: &[i64],
) -> Result<(), sqlx::Error> {
    let mut tx = connection.begin().await?;
    if !rows.is_empty() {
        let event = "INSERT INTO event SELECT * FROM unnest($1::bigint[], $2::bytea[])";
        sqlx::query(event).bind(rows).bind(bodies).execute(&mut *tx).await?;
        sqlx::query("INSERT INTO queue SELECT unnest($1::bigint[])").bind(rows).execute(&mut *tx).await?;
    }
    if !settled.is_empty() {
        sqlx::query("DELETE FROM queue WHERE id = ANY($1)").bind(settled).execute(&mut *tx).await?;
    }
    tx.commit().await
}

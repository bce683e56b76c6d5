//! Ceiling (b)'s storage: one writer, natural batches, one transaction each for appends and completions.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context, ensure};
use axum::body::Bytes;
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, DbErr, Statement,
    TransactionTrait, Value,
};
use tokio::sync::{mpsc, oneshot};

/// Most of appends and completions in one transaction.
const BATCH_MAX: usize = 512;
/// Work that waits for the writer; past it callers wait.
const WAITING_MAX: usize = 4096;
/// Rows in one statement: powers of two up to this, so a handful of prepared statements serves every batch.
const ROWS_MAX: usize = 64;

enum Work {
    Append(Bytes, oneshot::Sender<i64>),
    Done(i64),
}

/// A handle to the writer.
#[derive(Clone)]
pub struct Store {
    work: mpsc::Sender<Work>,
    committed: Arc<Committed>,
}

#[derive(Default)]
struct Committed {
    commits: AtomicU64,
    appended: AtomicU64,
    done: AtomicU64,
}

impl Store {
    /// Makes the file and starts the writer. Fails when SQLite does not confirm WAL and `synchronous=FULL`.
    pub async fn open(file: &Path) -> anyhow::Result<Store> {
        let mut options = ConnectOptions::new(format!("sqlite://{}?mode=rwc", file.display()));
        options.max_connections(1).sqlx_logging(false).map_sqlx_sqlite_opts(|options| {
            options.pragma("journal_mode", "WAL").pragma("synchronous", "FULL")
        });
        let database = Database::connect(options).await.context("the ceiling's database")?;
        for (pragma, wanted) in [("journal_mode", "wal"), ("synchronous", "2")] {
            ensure!(read_pragma(&database, pragma).await? == wanted, "{pragma} is not {wanted}");
        }
        // The flag is a narrow table of its own: rewriting the event's page for it would double the bytes.
        for table in [
            "CREATE TABLE event (id INTEGER PRIMARY KEY, body BLOB NOT NULL)",
            "CREATE TABLE done (id INTEGER PRIMARY KEY)",
        ] {
            database.execute_unprepared(table).await?;
        }
        let (work, waiting) = mpsc::channel(WAITING_MAX);
        let committed = Arc::new(Committed::default());
        tokio::spawn(write_all(database, waiting, Arc::clone(&committed)));
        Ok(Store { work, committed })
    }

    /// The row's number once it is on disk; `None` when it could not be stored.
    pub async fn append(&self, body: Bytes) -> Option<i64> {
        let (stored, row) = oneshot::channel();
        self.work.send(Work::Append(body, stored)).await.ok()?;
        row.await.ok()
    }

    /// Flags a row as delivered with some later commit.
    pub async fn done(&self, row: i64) {
        // The writer ends only with the process.
        let _ = self.work.send(Work::Done(row)).await;
    }

    /// Commits, and rows in them.
    pub fn counted(&self) -> [(&'static str, u64); 3] {
        let Committed { commits, appended, done } = &*self.committed;
        [("commits", commits), ("appended", appended), ("done", done)]
            .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }
}

async fn read_pragma(database: &DatabaseConnection, name: &str) -> anyhow::Result<String> {
    let asked = Statement::from_string(DbBackend::Sqlite, format!("PRAGMA {name}"));
    let row = database.query_one_raw(asked).await?.context("a pragma has a value")?;
    match row.try_get_by_index::<String>(0) {
        Ok(text) => Ok(text),
        Err(_) => Ok(row.try_get_by_index::<i64>(0)?.to_string()),
    }
}

async fn write_all(
    database: DatabaseConnection,
    mut waiting: mpsc::Receiver<Work>,
    committed: Arc<Committed>,
) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    let mut next_row = 1;
    while waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let (mut rows, mut answers, mut done) = (Vec::new(), Vec::new(), Vec::new());
        for work in batch.drain(..) {
            match work {
                Work::Append(body, answer) => {
                    rows.push((next_row, body));
                    answers.push((next_row, answer));
                    next_row += 1;
                }
                Work::Done(row) => done.push(row),
            }
        }
        committed.appended.fetch_add(rows.len() as u64, Ordering::Relaxed);
        committed.done.fetch_add(done.len() as u64, Ordering::Relaxed);
        committed.commits.fetch_add(1, Ordering::Relaxed);
        match commit(&database, &rows, &done).await {
            Ok(()) => answers.into_iter().for_each(|(row, answer)| {
                // Whoever asked may be gone; the row stays.
                let _ = answer.send(row);
            }),
            Err(error) => eprintln!("a batch was not stored: {error}"),
        }
    }
}

async fn commit(database: &DatabaseConnection, rows: &[(i64, Bytes)], done: &[i64]) -> Result<(), DbErr> {
    let transaction = database.begin().await?;
    for part in powers_of_two(rows) {
        let values = part.iter().flat_map(|(row, body)| [Value::from(*row), Value::from(body.to_vec())]);
        transaction.execute_raw(insert("event (id, body)", "(?, ?)", part.len(), values.collect())).await?;
    }
    for part in powers_of_two(done) {
        let values = part.iter().map(|row| Value::from(*row)).collect();
        transaction.execute_raw(insert("done (id)", "(?)", part.len(), values)).await?;
    }
    transaction.commit().await
}

fn insert(into: &str, row: &str, rows: usize, values: Vec<Value>) -> Statement {
    let sql = format!("INSERT INTO {into} VALUES {}", vec![row; rows].join(", "));
    Statement::from_sql_and_values(DbBackend::Sqlite, sql, values)
}

/// The slice in parts whose lengths are powers of two, none past [`ROWS_MAX`].
fn powers_of_two<T>(mut rest: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let rows = ROWS_MAX.min(1 << rest.len().checked_ilog2()?);
        let (part, tail) = rest.split_at(rows);
        rest = tail;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_cut_into_few_sizes_of_statement() {
        let sizes: Vec<usize> = powers_of_two(&[0; 205]).map(<[i32]>::len).collect();
        assert_eq!(sizes, [64, 64, 64, 8, 4, 1]);
    }

    #[tokio::test]
    async fn a_row_is_stored_before_its_number_is_known_and_flagged_afterwards() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("ceiling.db");
        let store = Store::open(&file).await.expect("a store");
        let row = store.append(Bytes::from_static(b"body")).await.expect("stored");
        store.done(row).await;
        assert_eq!(store.append(Bytes::from_static(b"next")).await, Some(row + 1));
        let reader = Database::connect(format!("sqlite://{}", file.display())).await.expect("a reader");
        let sql = "SELECT count(*) FROM event JOIN done USING (id)";
        let counted =
            reader.query_one_raw(Statement::from_string(DbBackend::Sqlite, sql)).await.expect("an answer");
        assert_eq!(counted.expect("a row").try_get_by_index::<i64>(0).expect("a number"), 1);
    }
}

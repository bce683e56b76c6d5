//! A ceiling's storage on SQLite.

use std::path::Path;

use anyhow::{Context, ensure};
use axum::body::Bytes;
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement, TransactionTrait,
    Value,
};

use super::store::{Commit, Store};

/// Rows in one statement: powers of two up to this, so a handful of prepared statements serves every batch.
const ROWS_MAX: usize = 64;

struct File(DatabaseConnection);

/// Makes the file and starts the writer. Fails when SQLite does not confirm WAL and `synchronous=FULL`.
pub async fn open(file: &Path) -> anyhow::Result<Store> {
    let mut options = ConnectOptions::new(format!("sqlite://{}?mode=rwc", file.display()));
    options
        .max_connections(1)
        .sqlx_logging(false)
        .map_sqlx_sqlite_opts(|options| options.pragma("journal_mode", "WAL").pragma("synchronous", "FULL"));
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
    Ok(Store::over(File(database), 1))
}

async fn read_pragma(database: &DatabaseConnection, name: &str) -> anyhow::Result<String> {
    let asked = Statement::from_string(DbBackend::Sqlite, format!("PRAGMA {name}"));
    let row = database.query_one_raw(asked).await?.context("a pragma has a value")?;
    match row.try_get_by_index::<String>(0) {
        Ok(text) => Ok(text),
        Err(_) => Ok(row.try_get_by_index::<i64>(0)?.to_string()),
    }
}

impl Commit for File {
    async fn commit(&mut self, rows: &[(i64, Bytes)], done: &[i64]) -> anyhow::Result<()> {
        let transaction = self.0.begin().await?;
        for part in powers_of_two(rows) {
            let values = part.iter().flat_map(|(row, body)| [Value::from(*row), Value::from(body.to_vec())]);
            let values = values.collect();
            transaction.execute_raw(insert("event (id, body)", "(?, ?)", part.len(), values)).await?;
        }
        for part in powers_of_two(done) {
            let values = part.iter().map(|row| Value::from(*row)).collect();
            transaction.execute_raw(insert("done (id)", "(?)", part.len(), values)).await?;
        }
        Ok(transaction.commit().await?)
    }
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
        let store = open(&file).await.expect("a store");
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

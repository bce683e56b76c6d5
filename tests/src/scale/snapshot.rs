//! When pending runs are due, written down beside the database and compared with it later.

use std::path::{Path, PathBuf};

use anyhow::Context;
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement};

/// Times that were written down.
pub struct Snapshot {
    own: DatabaseConnection,
    /// Runs in it.
    pub runs: u64,
}

impl Snapshot {
    /// Writes down when each run is due that is due after this time, unix milliseconds. The product runs meanwhile.
    pub async fn take(data: &Path, after_ms: i64, file: PathBuf) -> anyhow::Result<Snapshot> {
        let own = open(&file, data).await?;
        let write = format!(
            "CREATE TABLE due AS SELECT id, due_ms FROM product.queue WHERE gate IS NULL AND due_ms > {after_ms}"
        );
        own.execute_unprepared(&write).await?;
        own.execute_unprepared("CREATE UNIQUE INDEX due_id ON due (id)").await?;
        let runs = count(&own, "SELECT count(*) FROM due").await?;
        Ok(Snapshot { own, runs })
    }

    /// How many of them are due at another time by now, or are gone.
    pub async fn changed(&self) -> anyhow::Result<u64> {
        const CHANGED: &str = "SELECT count(*) FROM due LEFT JOIN product.queue now ON now.id = due.id \
                               WHERE now.due_ms IS NOT due.due_ms";
        count(&self.own, CHANGED).await
    }

    /// Makes all of them due at this time, unix milliseconds. The product does not run: its clock would be asked to jump.
    pub async fn make_due(&self, at_ms: i64) -> anyhow::Result<u64> {
        let move_all = format!("UPDATE product.queue SET due_ms = {at_ms} WHERE id IN (SELECT id FROM due)");
        let moved = self.own.execute_unprepared(&move_all).await?;
        Ok(moved.rows_affected())
    }

    /// Closes it.
    pub async fn close(self) -> anyhow::Result<()> {
        Ok(self.own.close().await?)
    }
}

/// A database of our own with the product's attached.
async fn open(file: &Path, data: &Path) -> anyhow::Result<DatabaseConnection> {
    let mut options = ConnectOptions::new(format!("sqlite://{}?mode=rwc", file.display()));
    options.max_connections(1).sqlx_logging(false);
    let own = Database::connect(options).await.with_context(|| file.display().to_string())?;
    let attach = format!("ATTACH '{}' AS product", data.join("sheaf.db").display());
    own.execute_unprepared(&attach).await?;
    Ok(own)
}

async fn count(own: &DatabaseConnection, sql: &str) -> anyhow::Result<u64> {
    let row = own.query_one_raw(Statement::from_string(DbBackend::Sqlite, sql)).await?;
    let counted: i64 = row.context("a count")?.try_get_by_index(0)?;
    Ok(u64::try_from(counted)?)
}

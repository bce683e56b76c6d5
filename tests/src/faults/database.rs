//! The product's database as an outsider reads it, beside the product.

use std::path::Path;

use anyhow::Context;
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, QueryResult, Statement,
};

/// A connection that only reads.
pub struct Reader(DatabaseConnection);

impl Reader {
    /// Opens the database in a data directory. The product must be running: the last to close a database tidies up.
    pub async fn open(data: &Path) -> anyhow::Result<Reader> {
        let file = data.join("sheaf.db");
        let mut options = ConnectOptions::new(format!("sqlite://{}?mode=ro", file.display()));
        options.max_connections(1).sqlx_logging(false);
        Ok(Reader(Database::connect(options).await.with_context(|| file.display().to_string())?))
    }

    /// What SQLite finds wrong with it; empty when nothing is.
    pub async fn damage(&self) -> anyhow::Result<Vec<String>> {
        let rows = self.rows("PRAGMA integrity_check").await?;
        let lines = rows.iter().map(|row| row.try_get_by_index(0)).collect::<Result<Vec<String>, _>>()?;
        Ok(lines.into_iter().filter(|line| line != "ok").collect())
    }

    /// All rows of a query.
    pub async fn rows(&self, sql: &str) -> anyhow::Result<Vec<QueryResult>> {
        let ask = Statement::from_string(DbBackend::Sqlite, sql);
        self.0.query_all_raw(ask).await.with_context(|| sql.to_owned())
    }

    /// Closes it.
    pub async fn close(self) -> anyhow::Result<()> {
        Ok(self.0.close().await?)
    }
}

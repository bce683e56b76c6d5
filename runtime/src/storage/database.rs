//! Which database a server or a command works on.

use std::path::PathBuf;

use sea_orm::DatabaseConnection;

use super::{
    postgres::{self, url::DatabaseUrl},
    sqlite,
};
use crate::queue::QueueError;

/// Where events, runs and versions are kept.
#[derive(Debug, Clone)]
pub enum Database {
    /// One SQLite file, served by one process.
    File(PathBuf),
    /// A PostgreSQL that any number of nodes share.
    Postgres {
        /// Where it is.
        url: DatabaseUrl,
        /// This node's own directory: its name among the nodes. No other process may use it at the same time.
        data: PathBuf,
        /// A node that was not heard of for so long is taken to be dead, milliseconds.
        node_silence_ms: i64,
    },
}

impl Database {
    /// The database file, or the PostgreSQL of a URL, for a node that keeps its own things in `data`.
    pub fn of(url: Option<&DatabaseUrl>, data: PathBuf) -> Database {
        match url {
            Some(url) => {
                Database::Postgres { url: url.clone(), data, node_silence_ms: postgres::node::SILENCE_MS }
            }
            None => Database::File(data.join("sheaf.db")),
        }
    }

    /// Connections that only read an existing database.
    pub(super) async fn readers(&self) -> Result<DatabaseConnection, QueueError> {
        match self {
            Database::File(path) => {
                if !path.exists() {
                    return Err(QueueError::Missing(path.clone()));
                }
                let readers = sqlite::connect::readers(path).await?;
                sqlite::schema::expect_current(&readers).await?;
                Ok(readers)
            }
            Database::Postgres { url, .. } => {
                let readers = postgres::connect::pool(url, postgres::connect::Use::Read);
                postgres::schema::expect_current(&readers).await?;
                Ok(readers)
            }
        }
    }

    /// A connection for what is written beside the turns: what people do to runs and gates, and notes.
    pub(super) async fn writer(&self) -> Result<DatabaseConnection, QueueError> {
        match self {
            Database::File(path) => sqlite::connect::writer(path, false).await,
            Database::Postgres { url, .. } => Ok(postgres::connect::pool(url, postgres::connect::Use::Write)),
        }
    }
}

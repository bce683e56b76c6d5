//! Connections to the database, and the settings that durability and speed rest on.

use std::{sync::Arc, time::Duration};

use sea_orm::{DatabaseConnection, SqlxPostgresConnector};
use sqlx::{
    ConnectOptions as _, PgConnection, Row as _,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::timeout;

use super::url::DatabaseUrl;
use crate::queue::{
    QueueError,
    backend::{BackendError, Failure},
};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections of a pool.
const POOL_MAX: u32 = 4;
/// The server ends a statement of ours that takes longer, milliseconds.
const STATEMENT_MS: &str = "30000";
/// The server ends a transaction of ours that hears nothing for so long, milliseconds: a node that was cut off would hold
/// its locks for as long as the server believes in the connection.
const IDLE_TRANSACTION_MS: &str = "10000";
/// Settings of every connection. Plans are not compiled: the server would do so wherever it believes in many rows, and takes
/// some hundred milliseconds for it each time.
const SETTINGS: [(&str, &str); 3] = [
    ("statement_timeout", STATEMENT_MS),
    ("idle_in_transaction_session_timeout", IDLE_TRANSACTION_MS),
    ("jit", "off"),
];

/// What connections are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Lists and pages: read-only, one snapshot for a transaction.
    Read,
    /// What is rare: migrations, activations, what people do to runs, nodes.
    Write,
}

/// A pool; nothing is connected before it is used.
pub fn pool(url: &DatabaseUrl, what_for: Use) -> DatabaseConnection {
    let options = match what_for {
        Use::Read => options(url).options([
            ("default_transaction_read_only", "on"),
            ("default_transaction_isolation", "repeatable read"),
        ]),
        Use::Write => options(url),
    };
    let pool = PgPoolOptions::new().max_connections(POOL_MAX).acquire_timeout(CONNECT_TIMEOUT);
    SqlxPostgresConnector::from_sqlx_postgres_pool(pool.connect_lazy_with(options))
}

/// The connection that commits turns. A stale plan made claims five to ten times slower; with scans and sorts off there is
/// only one plan.
pub async fn writer(url: &DatabaseUrl) -> Result<PgConnection, sqlx::Error> {
    let options = options(url).options([("enable_seqscan", "off"), ("enable_sort", "off")]);
    let connecting = timeout(CONNECT_TIMEOUT, options.connect());
    let mut connection = connecting.await.map_err(|_| sqlx::Error::PoolTimedOut)??;
    make_durable(&mut connection).await?;
    Ok(connection)
}

fn options(url: &DatabaseUrl) -> PgConnectOptions {
    url.options().application_name("sheaf").options(SETTINGS).disable_statement_logging()
}

/// Sets what "committed" has to mean, unless it means more already, and reads it back instead of believing it.
async fn make_durable(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    if setting(connection, "SHOW synchronous_commit").await? != "remote_apply" {
        sqlx::query("SET synchronous_commit = on").execute(&mut *connection).await?;
    }
    let synchronous = setting(connection, "SHOW synchronous_commit").await?;
    let fsync = setting(connection, "SHOW fsync").await?;
    if fsync == "on" && (synchronous == "on" || synchronous == "remote_apply") {
        return Ok(());
    }
    let message = format!("fsync is {fsync}, synchronous_commit is {synchronous}; both have to be on");
    Err(sqlx::Error::Configuration(message.into()))
}

async fn setting(connection: &mut PgConnection, sql: &'static str) -> Result<String, sqlx::Error> {
    sqlx::query(sql).fetch_one(connection).await?.try_get(0)
}

impl From<sqlx::Error> for QueueError {
    fn from(error: sqlx::Error) -> QueueError {
        QueueError::Storage(Arc::from(error.to_string()))
    }
}

impl From<sqlx::Error> for BackendError {
    fn from(error: sqlx::Error) -> BackendError {
        // A failed fsync ends the PostgreSQL server itself, so there is no broken state that we would have to tell.
        BackendError { failure: Failure::Refused, message: error.to_string() }
    }
}

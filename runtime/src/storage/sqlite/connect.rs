//! Connections to the database file, and the settings that durability rests on.

use std::{
    fs, io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbErr, SqliteTransactionMode,
    TransactionOptions,
};

use super::shape::fixed;
use crate::{
    queue::{
        QueueError,
        backend::{BackendError, Failure},
    },
    storage::sql::database_code,
};

/// The page size of a new database, bytes. With 4 KiB a page holds one Calltouch call and wastes 40 %.
const PAGE_BYTES: u32 = 8192;
/// The writer's page cache, KiB.
const WRITER_CACHE_KIB: u32 = 16 * 1024;
/// A reader's page cache, KiB.
const READER_CACHE_KIB: u32 = 1024;
/// The write-ahead log is copied into the database when it has grown this long, bytes: commits wait meanwhile, and eight
/// times more made the slowest answers twice as slow and wrote no less. Pages written again and again
/// (the right ends of the trees) are copied once.
const WAL_BYTES: u32 = 4 * 1024 * 1024;
/// How long a write waits for another process's short transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Compiled statements kept by the writer: about fifteen statements of at most ten shapes each.
const STATEMENTS_MAX: usize = 320;
/// Readers at once.
const READERS_MAX: u32 = 4;
/// The oldest SQLite whose write-ahead log is sound (3.51.3 fixed a corruption when the log is reset).
const SQLITE_MIN: [u32; 3] = [3, 51, 3];

/// FULL: a commit returns after its fsync.
const SYNCHRONOUS_FULL: i64 = 2;

fn synchronous() -> i64 {
    #[cfg(feature = "faulty")]
    if crate::faulty::has(crate::faulty::Fault::SynchronousNormal) {
        return SYNCHRONOUS_FULL - 1;
    }
    SYNCHRONOUS_FULL
}

/// Rights of the database's files: they hold people's phones and e-mails.
const OWNER_ONLY: u32 = 0o600;

/// Makes the database file before SQLite does, and takes one that others may read from them, whatever the folder it lies in.
/// SQLite gives its log and its index of it the rights of the database.
fn make_private(path: &Path) -> io::Result<()> {
    // One that is there is not opened: closing it would drop this process's locks on it.
    match fs::OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(_) | Err(_) => {}
    }
    for ending in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(ending);
        match fs::metadata(&file) {
            Ok(found) if found.permissions().mode() & 0o077 != 0 => {
                fs::set_permissions(&file, fs::Permissions::from_mode(OWNER_ONLY))?;
            }
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}

/// The one connection that writes.
pub async fn writer(path: &Path, create: bool) -> Result<DatabaseConnection, QueueError> {
    if create && let Err(error) = make_private(path) {
        // What makes it useless SQLite says better.
        tracing::warn!(%error, path = %path.display(), "the database may be readable by others");
    }
    let path = path.to_owned();
    let mut options = ConnectOptions::new("sqlite://sheaf");
    options.max_connections(1).sqlx_logging(false).test_before_acquire(false);
    options.idle_timeout(None::<Duration>).max_lifetime(None::<Duration>);
    options.map_sqlx_sqlite_opts(move |options| {
        options
            .filename(&path)
            .create_if_missing(create)
            .busy_timeout(BUSY_TIMEOUT)
            .statement_cache_capacity(STATEMENTS_MAX)
            .pragma("page_size", PAGE_BYTES.to_string())
            .pragma("journal_mode", "WAL")
            .pragma("synchronous", synchronous().to_string())
            .pragma("cache_size", format!("-{WRITER_CACHE_KIB}"))
            .pragma("wal_autocheckpoint", (WAL_BYTES / PAGE_BYTES).to_string())
            .pragma("journal_size_limit", WAL_BYTES.to_string())
            .pragma("temp_store", "MEMORY")
    });
    let connection = Database::connect(options).await?;
    check(&connection).await?;
    Ok(connection)
}

/// Connections that only read; opened when first used.
pub async fn readers(path: &Path) -> Result<DatabaseConnection, QueueError> {
    let path = path.to_owned();
    let mut options = ConnectOptions::new("sqlite://sheaf");
    options.max_connections(READERS_MAX).connect_lazy(true).sqlx_logging(false).test_before_acquire(false);
    options.map_sqlx_sqlite_opts(move |options| {
        options
            .filename(&path)
            .create_if_missing(false)
            .busy_timeout(BUSY_TIMEOUT)
            .pragma("query_only", "ON")
            .pragma("cache_size", format!("-{READER_CACHE_KIB}"))
    });
    Ok(Database::connect(options).await?)
}

/// A transaction that may write: it takes the write lock first, so that it never fails half-way for being late.
pub fn immediate() -> TransactionOptions {
    TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    }
}

/// Reads back what durability rests on, instead of believing that it was set.
async fn check(connection: &DatabaseConnection) -> Result<(), QueueError> {
    let version: String = read(connection, "SELECT sqlite_version()").await?;
    let numbers: Vec<u32> = version.split('.').filter_map(|part| part.parse().ok()).collect();
    if numbers.as_slice() < SQLITE_MIN.as_slice() {
        return Err(QueueError::OldSqlite(version));
    }
    let journal: String = read(connection, "PRAGMA journal_mode").await?;
    let synchronous: i64 = read(connection, "PRAGMA synchronous").await?;
    let expected = self::synchronous();
    if journal != "wal" || synchronous != expected {
        let message =
            format!("journal_mode is {journal}, synchronous is {synchronous}; expected wal and {expected}");
        return Err(QueueError::Storage(Arc::from(message)));
    }
    Ok(())
}

async fn read<T: sea_orm::TryGetable>(connection: &DatabaseConnection, sql: &str) -> Result<T, QueueError> {
    let row = connection.query_one_raw(fixed(sql, [])).await?;
    row.ok_or_else(|| QueueError::Storage(Arc::from(format!("no answer to {sql}"))))?
        .try_get_by_index(0)
        .map_err(QueueError::from)
}

impl From<DbErr> for QueueError {
    fn from(error: DbErr) -> QueueError {
        QueueError::Storage(Arc::from(error.to_string()))
    }
}

/// SQLite's extended codes of a failed fsync: of the log or database, of the directory.
const FSYNC_CODES: [&str; 2] = ["1034", "1290"];

impl From<DbErr> for BackendError {
    fn from(error: DbErr) -> BackendError {
        let broken = database_code(&error).is_some_and(|code| FSYNC_CODES.contains(&code.as_str()));
        let failure = if broken { Failure::Broken } else { Failure::Refused };
        BackendError { failure, message: error.to_string() }
    }
}

/// SQLite's code of a full disk.
const FULL_CODE: &str = "13";

/// Whether the disk is full.
pub fn is_full(error: &DbErr) -> bool {
    database_code(error).is_some_and(|code| code == FULL_CODE)
}

//! What the database still keeps old rows for.

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr};

use super::sql::statement;
use crate::queue::observe::Horizon;

/// Numbers and process ids are shown to every role, times and names are not. A snapshot begins with the oldest transaction
/// that is open, of any database: that one comes first, then whoever merely sees it. VACUUM holds nothing back.
const OLDEST: &str = "
SELECT held.xid::text::bigint, held.holder FROM (
    SELECT backend_xid AS xid, 'pid ' || pid AS holder, 0 AS place FROM pg_stat_activity WHERE pid <> pg_backend_pid()
    UNION ALL SELECT transaction, 'prepared transaction', 0 FROM pg_prepared_xacts
    UNION ALL SELECT xmin, 'replication slot ' || slot_name, 1 FROM pg_replication_slots
    UNION ALL SELECT backend_xmin, 'pid ' || pid, 2 FROM pg_stat_activity
        WHERE pid <> pg_backend_pid() AND (datname IS NULL OR datname = current_database())
            AND pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum)
) held WHERE held.xid IS NOT NULL ORDER BY age(held.xid) DESC, held.place LIMIT 1";

/// The oldest transaction or snapshot that is open; `None` when none is. SQLite has one process to itself and needs none.
pub async fn oldest(connection: &DatabaseConnection) -> Result<Option<Horizon>, DbErr> {
    if connection.get_database_backend() != DbBackend::Postgres {
        return Ok(None);
    }
    let row = connection.query_one_raw(statement(connection, OLDEST, [])).await?;
    row.map(|row| Ok(Horizon { xid: row.try_get_by_index(0)?, holder: row.try_get_by_index(1)? })).transpose()
}

//! The ledger: counters in the same commits as what they count.

use std::collections::BTreeMap;

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, QueryResult, TransactionTrait,
};

use super::sql::statement;
use crate::queue::history::{LedgerLine, LedgerMismatch};

/// A counter of the ledger, in the order of its columns.
#[derive(Debug, Clone, Copy)]
pub enum Count {
    Received,
    Accepted,
    Duplicate,
    Quarantined,
    Unrouted,
    Decisions,
    Delivered,
    Filtered,
    Parked,
    Pending,
    Discarded,
}

/// How many counters there are.
pub const COUNTS: usize = 11;

/// Their columns.
pub const NAMES: [&str; COUNTS] = [
    "received",
    "accepted",
    "duplicate",
    "quarantined",
    "unrouted",
    "decisions",
    "delivered",
    "filtered",
    "parked",
    "pending",
    "discarded",
];

/// What a transaction changes in the ledger.
#[derive(Debug, Default)]
pub struct Tally(BTreeMap<i64, [i64; COUNTS]>);

impl Tally {
    /// Changes one counter of a connection.
    pub fn add(&mut self, connection: i64, count: Count, by: i64) {
        self.0.entry(connection).or_default()[count as usize] += by;
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The changes, by the connection's number.
    pub fn into_rows(self) -> impl ExactSizeIterator<Item = (i64, [i64; COUNTS])> {
        self.0.into_iter()
    }
}

/// The statement that adds to counters. `key` names the columns of the table's key, `rows` gives keys and changes.
pub fn adding(table: &str, key: &str, rows: &str) -> String {
    let sums = NAMES.map(|name| format!("{name} = {table}.{name} + excluded.{name}")).join(", ");
    let names = NAMES.join(", ");
    format!("INSERT INTO {table} ({key}, {names}) {rows} ON CONFLICT ({key}) DO UPDATE SET {sums}")
}

/// Writes the changes of a person's doing; relative, as the changes of every server are.
pub async fn write(tx: &DatabaseTransaction, tally: Tally) -> Result<(), DbErr> {
    let places = ["?"; COUNTS + 1].join(", ");
    let sql = match tx.get_database_backend() {
        DbBackend::Postgres => adding("ledger_of_node", "node, connection", &format!("VALUES (0, {places})")),
        _ => adding("ledger", "connection", &format!("VALUES ({places})")),
    };
    for (connection, counts) in tally.into_rows() {
        let values = std::iter::once(connection).chain(counts).map(sea_orm::Value::from);
        tx.execute_raw(statement(tx, &sql, values)).await?;
    }
    Ok(())
}

const LINES: &str = "
SELECT c.name, l.received, l.accepted, l.duplicate, l.quarantined, l.unrouted, l.decisions,
    l.delivered, l.filtered, l.parked, l.pending, l.discarded
FROM ledger l JOIN connection c ON c.id = l.connection ORDER BY c.name";

/// The ledger and whether its two equations hold, per connection, in one snapshot.
pub async fn lines(connection: &DatabaseConnection) -> Result<Vec<LedgerLine>, DbErr> {
    connection.query_all_raw(statement(connection, LINES, [])).await?.iter().map(line).collect()
}

fn line(row: &QueryResult) -> Result<LedgerLine, DbErr> {
    let mut line = LedgerLine {
        connection: row.try_get_by_index(0)?,
        received: row.try_get_by_index(1)?,
        accepted: row.try_get_by_index(2)?,
        duplicate: row.try_get_by_index(3)?,
        quarantined: row.try_get_by_index(4)?,
        unrouted: row.try_get_by_index(5)?,
        decisions: row.try_get_by_index(6)?,
        delivered: row.try_get_by_index(7)?,
        filtered: row.try_get_by_index(8)?,
        parked: row.try_get_by_index(9)?,
        pending: row.try_get_by_index(10)?,
        discarded: row.try_get_by_index(11)?,
        events_balance: false,
        decisions_balance: false,
    };
    line.events_balance = line.received == line.accepted + line.duplicate + line.quarantined;
    line.decisions_balance =
        line.decisions == line.delivered + line.filtered + line.parked + line.pending + line.discarded;
    Ok(line)
}

/// The longest that the server may take for a whole count, for PostgreSQL: hours of rows, where a statement of ours has
/// half a minute otherwise.
const VERIFY_TIMEOUT: &str = "SET LOCAL statement_timeout = '6h'";

/// Counts the rows themselves. One statement, so one snapshot.
const MISMATCHES: &str = "
WITH counted (connection, name, rows) AS (
    SELECT connection, CASE kind WHEN 0 THEN 'accepted' ELSE 'quarantined' END, count(*) FROM event GROUP BY 1, 2
    UNION ALL
    SELECT connection, 'filtered', coalesce(sum(length(filtered)), 0) / 8 FROM event GROUP BY 1
    UNION ALL
    SELECT connection, 'pending', count(*) FROM queue GROUP BY 1
    UNION ALL
    SELECT connection, CASE state WHEN 0 THEN 'delivered' WHEN 1 THEN 'parked' ELSE 'discarded' END, count(*)
    FROM run GROUP BY 1, 2
),
said (connection, name, rows) AS (
    SELECT connection, 'accepted', accepted FROM ledger
    UNION ALL SELECT connection, 'quarantined', quarantined FROM ledger
    UNION ALL SELECT connection, 'filtered', filtered FROM ledger
    UNION ALL SELECT connection, 'pending', pending FROM ledger
    UNION ALL SELECT connection, 'delivered', delivered FROM ledger
    UNION ALL SELECT connection, 'parked', parked FROM ledger
    UNION ALL SELECT connection, 'discarded', discarded FROM ledger
)
SELECT coalesce(c.name, ''), coalesce(said.name, counted.name), coalesce(said.rows, 0), coalesce(counted.rows, 0)
FROM said FULL JOIN counted ON counted.connection = said.connection AND counted.name = said.name
LEFT JOIN connection c ON c.id = coalesce(said.connection, counted.connection)
WHERE coalesce(said.rows, 0) <> coalesce(counted.rows, 0)
ORDER BY 1, 2";

/// Counters that differ from the rows they count. Reads every narrow row: for checks, not for a page.
pub async fn mismatches(connection: &DatabaseConnection) -> Result<Vec<LedgerMismatch>, DbErr> {
    let tx = connection.begin().await?;
    if tx.get_database_backend() == DbBackend::Postgres {
        tx.execute_unprepared(VERIFY_TIMEOUT).await?;
    }
    let rows = tx.query_all_raw(statement(&tx, MISMATCHES, [])).await?;
    tx.commit().await?;
    rows.iter()
        .map(|row| {
            Ok(LedgerMismatch {
                connection: row.try_get_by_index(0)?,
                counter: row.try_get_by_index(1)?,
                counted: row.try_get_by_index(2)?,
                rows: row.try_get_by_index(3)?,
            })
        })
        .collect()
}

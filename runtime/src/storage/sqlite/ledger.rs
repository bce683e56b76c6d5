//! The ledger: counters in the same commits as what they count.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, QueryResult};

use super::shape::{Rows, Shape, Shapes, fixed};
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

const COUNTS: usize = 11;

/// What a transaction changes in the ledger.
#[derive(Debug, Default)]
pub struct Tally(BTreeMap<i64, [i64; COUNTS]>);

impl Tally {
    /// Changes one counter of a connection.
    pub fn add(&mut self, connection: i64, count: Count, by: i64) {
        self.0.entry(connection).or_default()[count as usize] += by;
    }

    /// Writes the changes; relative, so that another process may write its own.
    pub async fn write(self, tx: &DatabaseTransaction, shapes: &mut Shapes) -> Result<(), DbErr> {
        let mut rows = Rows::with_capacity(self.0.len() * (COUNTS + 1));
        for (connection, counts) in self.0 {
            let mut row: [sea_orm::Value; COUNTS + 1] = std::array::from_fn(|_| connection.into());
            for (place, count) in row[1..].iter_mut().zip(counts) {
                *place = count.into();
            }
            rows.push(row);
        }
        shapes.execute(tx, &ADD, rows).await?;
        Ok(())
    }
}

const ADD: Shape = Shape {
    before: "INSERT INTO ledger (connection, received, accepted, duplicate, quarantined, unrouted, decisions, \
             delivered, filtered, parked, pending, discarded) SELECT * FROM (",
    columns: COUNTS + 1,
    after: ") WHERE column1 IS NOT NULL ON CONFLICT (connection) DO UPDATE SET \
            received = received + excluded.received, accepted = accepted + excluded.accepted, \
            duplicate = duplicate + excluded.duplicate, quarantined = quarantined + excluded.quarantined, \
            unrouted = unrouted + excluded.unrouted, decisions = decisions + excluded.decisions, \
            delivered = delivered + excluded.delivered, filtered = filtered + excluded.filtered, \
            parked = parked + excluded.parked, pending = pending + excluded.pending, \
            discarded = discarded + excluded.discarded",
};

const LINES: &str = "
SELECT c.name, l.received, l.accepted, l.duplicate, l.quarantined, l.unrouted, l.decisions,
    l.delivered, l.filtered, l.parked, l.pending, l.discarded,
    l.received = l.accepted + l.duplicate + l.quarantined,
    l.decisions = l.delivered + l.filtered + l.parked + l.pending + l.discarded
FROM ledger l JOIN connection c ON c.id = l.connection ORDER BY c.name";

/// The ledger and whether its two equations hold, per connection, in one snapshot.
pub async fn lines(connection: &DatabaseConnection) -> Result<Vec<LedgerLine>, DbErr> {
    connection.query_all_raw(fixed(LINES, [])).await?.iter().map(line).collect()
}

fn line(row: &QueryResult) -> Result<LedgerLine, DbErr> {
    Ok(LedgerLine {
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
        events_balance: row.try_get_by_index(12)?,
        decisions_balance: row.try_get_by_index(13)?,
    })
}

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
SELECT c.name, said.name, said.rows, coalesce(counted.rows, 0)
FROM said JOIN connection c ON c.id = said.connection
LEFT JOIN counted ON counted.connection = said.connection AND counted.name = said.name
WHERE said.rows <> coalesce(counted.rows, 0)
ORDER BY 1, 2";

/// Counters that differ from the rows they count. Reads every narrow row: for checks, not for a page.
pub async fn mismatches(connection: &DatabaseConnection) -> Result<Vec<LedgerMismatch>, DbErr> {
    let rows = connection.query_all_raw(fixed(MISMATCHES, [])).await?;
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

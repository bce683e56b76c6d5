//! The ledger's counters, written with the turn they belong to.

use sea_orm::{DatabaseTransaction, DbErr};

use super::{
    super::ledger::{COUNTS, Tally},
    shape::{Rows, Shape, Shapes},
};

/// Writes the changes; relative, so that another process may write its own.
pub async fn write(tx: &DatabaseTransaction, shapes: &mut Shapes, tally: Tally) -> Result<(), DbErr> {
    let changes = tally.into_rows();
    let mut rows = Rows::with_capacity(changes.len() * (COUNTS + 1));
    for (connection, counts) in changes {
        let mut row: [sea_orm::Value; COUNTS + 1] = std::array::from_fn(|_| connection.into());
        for (place, count) in row[1..].iter_mut().zip(counts) {
            *place = count.into();
        }
        rows.push(row);
    }
    shapes.execute(tx, &ADD, rows).await?;
    Ok(())
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

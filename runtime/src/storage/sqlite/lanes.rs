//! Lanes: who is the head of a key's runs, and which of them a newer event took over.

use std::collections::{BTreeSet, HashMap, HashSet};

use sea_orm::{DatabaseTransaction, DbErr, Value};
use sheaf_bundles::{
    id::{EventId, RunId},
    lane::LaneId,
};

use super::{
    settle::RUN_IN_LANE,
    shape::{Rows, Shape, Shapes},
};
use crate::{
    queue::lane::{lane_gate, newness, superseded_by},
    storage::{
        ledger::{Count, Tally},
        numbers::RUN_DISCARDED,
    },
};

/// Which of these lanes have a run in the queue.
pub async fn occupied(
    tx: &DatabaseTransaction,
    shapes: &mut Shapes,
    lanes: &BTreeSet<LaneId>,
) -> Result<HashSet<LaneId>, DbErr> {
    let found = shapes.query(tx, &OCCUPIED, rows(lanes)).await?;
    found.iter().map(|row| row.try_get_by_index(0).map(LaneId)).collect()
}

/// Gives a head to those of these lanes that have none, due now at the soonest; the soonest due time among the new heads.
pub async fn open(
    tx: &DatabaseTransaction,
    shapes: &mut Shapes,
    now_ms: i64,
    lanes: &BTreeSet<LaneId>,
) -> Result<Option<i64>, DbErr> {
    let mut rows = Rows::with_capacity(lanes.len() * 2);
    lanes.iter().for_each(|lane| rows.push([lane.0.into(), now_ms.into()]));
    let opened = shapes.query(tx, &OPEN, rows).await?;
    let due = opened.iter().map(|row| row.try_get_by_index::<i64>(0)).collect::<Result<Vec<_>, _>>()?;
    Ok(due.into_iter().min())
}

/// Gives up the runs of these lanes that nobody has begun, unless they are the latest of their lane.
pub async fn supersede(
    tx: &DatabaseTransaction,
    shapes: &mut Shapes,
    tally: &mut Tally,
    now_ms: i64,
    lanes: &BTreeSet<LaneId>,
) -> Result<(), DbErr> {
    let found = shapes.query(tx, &WAITING_OR_BEGUN, rows(lanes)).await?;
    let mut latest = HashMap::new();
    for row in &found {
        let run = newness(row.try_get_by_index(5)?, RunId(row.try_get_by_index(0)?), now_ms);
        let run = (run, EventId(row.try_get_by_index(1)?));
        let latest = latest.entry(row.try_get_by_index::<i64>(4)?).or_insert(run);
        *latest = (*latest).max(run);
    }
    let (mut gone, mut runs) = (Rows::default(), Rows::default());
    for row in &found {
        let (run, lane): (i64, i64) = (row.try_get_by_index(0)?, row.try_get_by_index(4)?);
        let ((_, _, kept), by) = latest[&lane];
        let is_begun = row.try_get_by_index::<u32>(6)? != 0;
        if is_begun || RunId(run) == kept {
            continue;
        }
        let connection: i64 = row.try_get_by_index(3)?;
        let of: [Value; 4] = [
            run.into(),
            row.try_get_by_index::<i64>(1)?.into(),
            row.try_get_by_index::<i64>(2)?.into(),
            connection.into(),
        ];
        gone.push([run.into()]);
        runs.push(of);
        // State, fence, attempt, generation, begun, ended, reason, deliveries, lane.
        let reason = superseded_by(by);
        runs.push([
            RUN_DISCARDED.into(),
            0.into(),
            0.into(),
            0.into(),
            0_i64.into(),
            now_ms.into(),
            reason.into(),
            "[]".into(),
            lane.into(),
        ]);
        tally.add(connection, Count::Pending, -1);
        tally.add(connection, Count::Discarded, 1);
    }
    shapes.execute(tx, &GONE, gone).await?;
    shapes.execute(tx, &RUN_IN_LANE, runs).await?;
    Ok(())
}

fn rows(lanes: &BTreeSet<LaneId>) -> Rows {
    let mut rows = Rows::with_capacity(lanes.len());
    lanes.iter().for_each(|lane| rows.push([lane.0.into()]));
    rows
}

const OCCUPIED: Shape = Shape {
    before: "SELECT v.column1 FROM (",
    columns: 1,
    after: ") v WHERE EXISTS (SELECT 1 FROM queue q WHERE q.lane = v.column1)",
};

/// By the index on lane and gate: what is ready or leased has no gate, every other gate is above that of lanes.
pub const OPEN: Shape = Shape {
    before: concat!(
        "UPDATE queue SET gate = NULL, due_ms = max(due_ms, head.now_ms) FROM (SELECT v.column2 AS now_ms, \
         (SELECT q.id FROM queue q WHERE q.lane = v.column1 AND q.gate = ",
        lane_gate!(),
        " ORDER BY q.id LIMIT 1) AS id FROM ("
    ),
    columns: 2,
    after: concat!(
        ") v WHERE v.column1 IS NOT NULL \
         AND NOT EXISTS (SELECT 1 FROM queue q WHERE q.lane = v.column1 AND q.gate IS NULL) \
         AND NOT EXISTS (SELECT 1 FROM queue q WHERE q.lane = v.column1 AND q.gate > ",
        lane_gate!(),
        ")) head WHERE queue.id = head.id RETURNING due_ms"
    ),
};

const WAITING_OR_BEGUN: Shape = Shape {
    before: "SELECT q.id, q.event, q.version, q.connection, q.lane, e.received_ms, q.fence FROM (",
    columns: 1,
    after: ") v CROSS JOIN queue q ON q.lane = v.column1 CROSS JOIN event e ON e.id = q.event",
};

const GONE: Shape = Shape { before: "DELETE FROM queue WHERE id IN (", columns: 1, after: ")" };

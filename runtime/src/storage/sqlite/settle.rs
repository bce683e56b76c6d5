//! The ends of attempts: history, the next due time, the ledger.

use sea_orm::{DatabaseTransaction, DbErr, Value};
use sheaf_bundles::id::RunId;

use super::shape::{Rows, Shape, Shapes};
use crate::{
    queue::{
        backend::{SettleRow, SettleStep},
        delivery::DeliveryRecord,
    },
    storage::{
        ledger::{Count, Tally},
        numbers::{ATTEMPT_CRASHED, ATTEMPT_REPEAT, RUN_DELIVERED, RUN_PARKED},
    },
};

/// The rows a batch of settles becomes.
#[derive(Default)]
struct Work {
    removed: Rows,
    runs: Rows,
    runs_in_lanes: Rows,
    moved: Rows,
    attempts: Rows,
    states: Rows,
    states_gone: Rows,
    removed_count: u64,
    moved_count: u64,
}

/// Writes the settles. `false` when one met a stale fence: the caller rolls back and leaves the stale ones out.
pub async fn settle<'a>(
    tx: &DatabaseTransaction,
    shapes: &mut Shapes,
    tally: &mut Tally,
    now_ms: i64,
    settles: impl Iterator<Item = &'a SettleRow>,
) -> Result<bool, DbErr> {
    let mut work = Work::default();
    for settle in settles {
        work.add(settle, now_ms, tally);
    }
    if shapes.execute(tx, &REMOVE, work.removed).await? != work.removed_count
        || shapes.execute(tx, &MOVE, work.moved).await? != work.moved_count
    {
        return Ok(false);
    }
    shapes.execute(tx, &RUN, work.runs).await?;
    shapes.execute(tx, &RUN_IN_LANE, work.runs_in_lanes).await?;
    shapes.execute(tx, &ATTEMPT, work.attempts).await?;
    shapes.execute(tx, &STATE, work.states).await?;
    shapes.execute(tx, &STATE_GONE, work.states_gone).await?;
    Ok(true)
}

/// Extends leases. `false` when one met a stale fence.
pub async fn extend<'a>(
    tx: &DatabaseTransaction,
    shapes: &mut Shapes,
    lease_end_ms: i64,
    claims: impl Iterator<Item = &'a (RunId, u32)>,
) -> Result<bool, DbErr> {
    let mut rows = Rows::default();
    let mut count = 0;
    for (run, fence) in claims {
        rows.push([run.0.into(), (*fence).into(), lease_end_ms.into()]);
        count += 1;
    }
    Ok(shapes.execute(tx, &EXTEND, rows).await? == count)
}

/// Which of these runs still have the fence given with them.
pub async fn alive(
    tx: &DatabaseTransaction,
    shapes: &mut Shapes,
    claims: impl Iterator<Item = (RunId, u32)>,
) -> Result<std::collections::HashSet<RunId>, DbErr> {
    let mut rows = Rows::default();
    for (run, fence) in claims {
        rows.push([run.0.into(), fence.into()]);
    }
    let found = shapes.query(tx, &ALIVE, rows).await?;
    found.iter().map(|row| row.try_get_by_index(0).map(RunId)).collect()
}

impl Work {
    fn add(&mut self, settle: &SettleRow, now_ms: i64, tally: &mut Tally) {
        let row = &settle.row;
        match &settle.step {
            SettleStep::Delivered { reason } => {
                tally.add(row.connection, Count::Delivered, 1);
                self.finish(settle, RUN_DELIVERED, reason.as_ref(), now_ms, tally);
                if row.has_state {
                    self.states_gone.push([row.run.0.into()]);
                }
            }
            SettleStep::Parked { reason, state } => {
                tally.add(row.connection, Count::Parked, 1);
                self.finish(settle, RUN_PARKED, Some(reason), now_ms, tally);
                if let Some(state) = state {
                    self.states.push([row.run.0.into(), state.clone().into()]);
                }
            }
            SettleStep::Retry { due_ms, state } => {
                self.move_to(settle, *due_ms, row.attempt + 1, row.crashes);
                self.attempt(settle, ATTEMPT_REPEAT, now_ms);
                self.states.push([row.run.0.into(), state.clone().into()]);
            }
            SettleStep::Onward { state } => {
                self.move_to(settle, now_ms, row.attempt, row.crashes);
                if !settle.deliveries.is_empty() {
                    self.attempt(settle, ATTEMPT_REPEAT, now_ms);
                }
                self.states.push([row.run.0.into(), state.clone().into()]);
            }
            SettleStep::Released { due_ms } => {
                self.move_to(settle, now_ms.max(*due_ms), row.attempt, row.crashes)
            }
            SettleStep::Crashed { due_ms } => {
                self.move_to(settle, *due_ms, row.attempt, row.crashes + 1);
                self.attempt(settle, ATTEMPT_CRASHED, now_ms);
            }
        }
    }

    fn finish(
        &mut self,
        settle: &SettleRow,
        state: i64,
        reason: Option<&String>,
        now_ms: i64,
        tally: &mut Tally,
    ) {
        let row = &settle.row;
        tally.add(row.connection, Count::Pending, -1);
        self.removed.push([row.run.0.into(), row.fence.into()]);
        self.removed_count += 1;
        let runs = if row.lane.is_some() { &mut self.runs_in_lanes } else { &mut self.runs };
        runs.push([
            row.run.0.into(),
            row.event.0.into(),
            row.version.0.into(),
            row.connection.into(),
            state.into(),
            row.fence.into(),
            row.attempt.into(),
            row.generation.into(),
            settle.started_ms.into(),
            now_ms.into(),
            reason.cloned().into(),
            deliveries(&settle.deliveries),
        ]);
        if let Some(lane) = row.lane {
            runs.push([lane.0.into()]);
        }
    }

    fn move_to(&mut self, settle: &SettleRow, due_ms: i64, attempt: u32, crashes: u32) {
        let row = &settle.row;
        self.moved.push([
            row.run.0.into(),
            row.fence.into(),
            due_ms.into(),
            attempt.into(),
            crashes.into(),
            settle.through.0.into(),
        ]);
        self.moved_count += 1;
    }

    fn attempt(&mut self, settle: &SettleRow, outcome: i64, now_ms: i64) {
        let row = &settle.row;
        self.attempts.push([
            row.run.0.into(),
            row.fence.into(),
            outcome.into(),
            settle.started_ms.into(),
            now_ms.into(),
            Value::String(None),
            deliveries(&settle.deliveries),
        ]);
    }
}

fn deliveries(deliveries: &[DeliveryRecord]) -> Value {
    serde_json::to_string(deliveries).expect("records of texts and numbers are always JSON").into()
}

const REMOVE: Shape = Shape {
    before: "DELETE FROM queue WHERE id IN (SELECT q.id FROM (",
    columns: 2,
    after: ") v CROSS JOIN queue q ON q.id = v.column1 AND q.fence = v.column2)",
};

const ALIVE: Shape = Shape {
    before: "SELECT q.id FROM (",
    columns: 2,
    after: ") v CROSS JOIN queue q ON q.id = v.column1 AND q.fence = v.column2",
};

const MOVE: Shape = Shape {
    before: "UPDATE queue SET due_ms = v.column3, attempt = v.column4, crashes = v.column5, through = v.column6, \
             gate = NULL, owner = 0 FROM (",
    columns: 6,
    after: ") v WHERE queue.id = v.column1 AND queue.fence = v.column2",
};

const EXTEND: Shape = Shape {
    before: "UPDATE queue SET due_ms = v.column3 FROM (",
    columns: 3,
    after: ") v WHERE queue.id = v.column1 AND queue.fence = v.column2",
};

const RUN: Shape = Shape {
    before: "INSERT OR ROLLBACK INTO run (id, event, version, connection, state, fence, attempt, generation, started_ms, \
             finished_ms, reason, deliveries) SELECT * FROM (",
    columns: 12,
    after: ") WHERE column1 IS NOT NULL",
};

/// The same with the lane, for a replay.
pub const RUN_IN_LANE: Shape = Shape {
    before: "INSERT OR ROLLBACK INTO run (id, event, version, connection, state, fence, attempt, generation, started_ms, \
             finished_ms, reason, deliveries, lane) SELECT * FROM (",
    columns: 13,
    after: ") WHERE column1 IS NOT NULL",
};

const ATTEMPT: Shape = Shape {
    before: "INSERT INTO attempt (run, fence, outcome, started_ms, finished_ms, reason, deliveries) SELECT * FROM (",
    columns: 7,
    after: ") WHERE column1 IS NOT NULL",
};

const STATE: Shape = Shape {
    before: "INSERT INTO run_state (run, state) SELECT * FROM (",
    columns: 2,
    after: ") WHERE column1 IS NOT NULL ON CONFLICT (run) DO UPDATE SET state = excluded.state",
};

const STATE_GONE: Shape = Shape { before: "DELETE FROM run_state WHERE run IN (", columns: 1, after: ")" };

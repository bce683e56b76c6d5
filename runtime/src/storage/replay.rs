//! What a person does to finished runs: replay, discard. Works beside a serving process, in short transactions.

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, TransactionTrait};
use sheaf_bundles::id::{RunId, VersionId};

use super::{
    history::state_name,
    lanes,
    ledger::{self, Count, Tally},
    numbers::{RUN_DISCARDED, RUN_PARKED},
    sql::{locked, statement},
    sqlite::connect::immediate,
};
use crate::queue::{
    delivery::{DeliveryRecord, SentRequest},
    gate::{GateId, GateKind},
    history::RunStateName,
    lane::lane_gate,
    types::{Discarded, Replay, ReplayRefusal, Replayed},
};

/// Runs replayed in one transaction, so that the serving process waits for milliseconds only.
const CHUNK: usize = 200;

/// The finished attempt moves to the history of attempts, the run back to the queue, due now.
const KEEP: &str = "INSERT INTO attempt (run, fence, outcome, started_ms, finished_ms, reason, deliveries) \
                    SELECT id, fence, CASE state WHEN 0 THEN 0 ELSE 1 END, started_ms, finished_ms, reason, deliveries FROM run WHERE id = ?";
/// Behind another of its key, when there is one. Under another fence: an end of the attempt before that comes late is not the replay's.
const ENQUEUE: &str = concat!(
    "INSERT INTO queue (id, due_ms, event, version, connection, fence, attempt, generation, crashes, \
                       lost, owner, through, lane, gate) \
     SELECT id, ?, event, coalesce(?, version), connection, fence + 1, 0, generation + ?, 0, 0, 0, ?, lane, \
         CASE WHEN EXISTS (SELECT 1 FROM queue WHERE queue.lane = run.lane) THEN ",
    lane_gate!(),
    " END FROM run WHERE id = ?"
);

/// Makes finished runs due again.
pub async fn replay(
    connection: &DatabaseConnection,
    runs: &[RunId],
    how: Replay,
    now_ms: i64,
) -> Result<Replayed, DbErr> {
    let mut replayed = Replayed::default();
    for chunk in runs.chunks(CHUNK) {
        let tx = connection.begin_with_options(immediate()).await?;
        lanes::lock_of_runs(&tx, chunk).await?;
        let mut tally = Tally::default();
        for run in chunk {
            match replay_one(&tx, &mut tally, *run, how, now_ms).await? {
                None => replayed.runs.push(*run),
                Some(refusal) => replayed.refused.push((*run, refusal)),
            }
        }
        ledger::write(&tx, tally).await?;
        tx.commit().await?;
    }
    Ok(replayed)
}

async fn replay_one(
    tx: &DatabaseTransaction,
    tally: &mut Tally,
    run: RunId,
    how: Replay,
    now_ms: i64,
) -> Result<Option<ReplayRefusal>, DbErr> {
    let Some((number, state)) = finished(tx, run).await? else {
        let pending = exists(tx, "SELECT 1 FROM queue WHERE id = ?", run.0).await?;
        return Ok(Some(if pending { ReplayRefusal::Pending } else { ReplayRefusal::Unknown }));
    };
    let (version, again, action) = match how {
        // What it had done is not kept: it would begin with its first step, whose vendor need not know the key.
        Replay::Retry if state == RunStateName::Delivered => return Ok(Some(ReplayRefusal::Delivered)),
        Replay::Retry => (None, 0, "replay as retry"),
        Replay::New { version } => (version, 1, "replay as new"),
    };
    if let Some(VersionId(version)) = version
        && !exists(tx, "SELECT 1 FROM version WHERE id = ?", version).await?
    {
        return Ok(Some(ReplayRefusal::UnknownVersion));
    }
    let version = version.map(|version| version.0);
    tx.execute_raw(statement(tx, KEEP, [run.0.into()])).await?;
    let through = through(tx, run, how).await?;
    let values = [now_ms.into(), version.into(), again.into(), through.0.into(), run.0.into()];
    tx.execute_raw(statement(tx, ENQUEUE, values)).await?;
    tx.execute_raw(statement(tx, "DELETE FROM run WHERE id = ?", [run.0.into()])).await?;
    if again > 0 {
        tx.execute_raw(statement(tx, "DELETE FROM run_state WHERE run = ?", [run.0.into()])).await?;
    }
    tally.add(number, Count::Pending, 1);
    match state {
        RunStateName::Delivered => tally.add(number, Count::Delivered, -1),
        RunStateName::Parked => tally.add(number, Count::Parked, -1),
        RunStateName::Discarded => tally.add(number, Count::Discarded, -1),
        RunStateName::Pending => {}
    }
    audit(tx, run, action, now_ms).await?;
    Ok(None)
}

/// The gate that a replayed run goes through: as a retry of the connection it stopped at, when that was kept, else of its
/// version's first step.
async fn through(tx: &DatabaseTransaction, run: RunId, how: Replay) -> Result<GateId, DbErr> {
    const KEPT: &str = "SELECT coalesce(v.through, 0), r.deliveries FROM run r \
                        LEFT JOIN version v ON v.id = coalesce(?, r.version) WHERE r.id = ?";
    let version = match how {
        Replay::Retry => None,
        Replay::New { version } => version.map(|version| version.0),
    };
    let kept = tx.query_one_raw(statement(tx, KEPT, [version.into(), run.0.into()])).await?;
    let Some(row) = kept else { return Ok(GateId::NONE) };
    let deliveries: String = row.try_get_by_index(1)?;
    let deliveries: Vec<DeliveryRecord> = serde_json::from_str(&deliveries).unwrap_or_default();
    match deliveries.last().map(|last| &last.request) {
        Some(SentRequest::Stored(request)) if how == Replay::Retry => {
            Ok(GateId::of(GateKind::Connection, &request.connection))
        }
        _ => row.try_get_by_index(0).map(GateId),
    }
}

/// Gives up parked runs; `said` is who, and why.
pub async fn discard(
    connection: &DatabaseConnection,
    runs: &[RunId],
    said: &str,
    now_ms: i64,
) -> Result<Discarded, DbErr> {
    const GIVE_UP: &str = "UPDATE run SET state = ? WHERE id = ?";
    let mut discarded = Discarded::default();
    let action = format!("discard {said}");
    for chunk in runs.chunks(CHUNK) {
        let tx = connection.begin_with_options(immediate()).await?;
        let mut tally = Tally::default();
        for run in chunk {
            let Some((number, RunStateName::Parked)) = finished(&tx, *run).await? else {
                discarded.refused.push(*run);
                continue;
            };
            tx.execute_raw(statement(&tx, GIVE_UP, [RUN_DISCARDED.into(), run.0.into()])).await?;
            tally.add(number, Count::Parked, -1);
            tally.add(number, Count::Discarded, 1);
            audit(&tx, *run, &action, now_ms).await?;
            discarded.runs.push(*run);
        }
        ledger::write(&tx, tally).await?;
        tx.commit().await?;
    }
    Ok(discarded)
}

/// The number of its connection and the state of a finished run.
async fn finished(tx: &DatabaseTransaction, run: RunId) -> Result<Option<(i64, RunStateName)>, DbErr> {
    const FINISHED: &str = "SELECT CAST(connection AS BIGINT), CAST(state AS BIGINT) FROM run WHERE id = ?";
    let row = tx.query_one_raw(statement(tx, &locked(tx, FINISHED), [run.0.into()])).await?;
    row.map(|row| Ok((row.try_get_by_index(0)?, state_name(row.try_get_by_index(1)?)?))).transpose()
}

async fn exists(tx: &DatabaseTransaction, sql: &str, id: i64) -> Result<bool, DbErr> {
    Ok(tx.query_one_raw(statement(tx, sql, [id.into()])).await?.is_some())
}

async fn audit(tx: &DatabaseTransaction, run: RunId, action: &str, now_ms: i64) -> Result<(), DbErr> {
    let insert = "INSERT INTO audit (at_ms, action, run) VALUES (?, ?, ?)";
    tx.execute_raw(statement(tx, insert, [now_ms.into(), action.into(), run.0.into()])).await?;
    Ok(())
}

/// Ids of parked runs, oldest first, for replaying many.
pub async fn parked(connection: &DatabaseConnection, bundle: Option<&str>) -> Result<Vec<RunId>, DbErr> {
    const PARKED: &str = "SELECT r.id FROM run r LEFT JOIN version v ON v.id = r.version \
                          WHERE r.state <> 0 AND r.state = ?";
    let mut values = vec![RUN_PARKED.into()];
    values.extend(bundle.map(Into::into));
    let of_bundle = if bundle.is_some() { " AND v.bundle = ?" } else { "" };
    let sql = format!("{PARKED}{of_bundle} ORDER BY r.id");
    let rows = connection.query_all_raw(statement(connection, &sql, values)).await?;
    rows.iter().map(|row| row.try_get_by_index(0).map(RunId)).collect()
}

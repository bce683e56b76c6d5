//! Reading events, runs and attempts. Every list is one statement, so one snapshot.

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, QueryResult, Statement,
    TransactionTrait, Value,
};
use sheaf_bundles::id::{EventId, RunId, VersionId, compose};

use super::{
    head,
    numbers::{ATTEMPT_CRASHED, ATTEMPT_REPEAT, RUN_DELIVERED, RUN_DISCARDED, RUN_PARKED, RUN_PENDING},
    sql::{count, statement},
};
use crate::queue::{
    delivery::DeliveryRecord,
    history::{
        AttemptOutcome, AttemptRecord, AuditRecord, EventDetail, EventFilter, EventSummary, PAGE_MAX,
        RunDetail, RunFilter, RunStateName, RunSummary,
    },
    lane::lane_gate,
};

const EVENTS: &str = "
SELECT e.id, c.name, e.received_ms, e.reason, e.filtered FROM event e JOIN connection c ON c.id = e.connection";

const PENDING: &str = concat!(
    "
SELECT r.id, r.event, r.version, v.bundle, c.name, CAST(3 AS BIGINT), CAST(r.attempt AS BIGINT),
    CAST(r.generation AS BIGINT), r.due_ms, CAST(NULL AS BIGINT), CAST(NULL AS TEXT),
    CAST(CASE r.gate WHEN ",
    lane_gate!(),
    " THEN 1 ELSE 0 END AS BIGINT)
FROM queue r LEFT JOIN version v ON v.id = r.version LEFT JOIN connection c ON c.id = r.connection"
);

const FINISHED: &str = "
SELECT r.id, r.event, r.version, v.bundle, c.name, CAST(r.state AS BIGINT), CAST(r.attempt AS BIGINT),
    CAST(r.generation AS BIGINT), CAST(NULL AS BIGINT), r.finished_ms, r.reason, CAST(0 AS BIGINT)
FROM run r LEFT JOIN version v ON v.id = r.version LEFT JOIN connection c ON c.id = r.connection";

/// How far behind its event the ids of its runs may lie, milliseconds: there are 4096 ids in each, and no event has a
/// tenth as many runs as fit.
const RUNS_SPAN_MS: i64 = 16;

/// Conditions gathered for one statement.
#[derive(Default)]
struct Conditions {
    texts: Vec<&'static str>,
    values: Vec<Value>,
}

impl Conditions {
    fn add(&mut self, text: &'static str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.texts.push(text);
            self.values.push(value.into());
        }
    }

    fn text(&self) -> String {
        if self.texts.is_empty() { "TRUE".to_owned() } else { self.texts.join(" AND ") }
    }

    /// The newest rows of one table.
    fn list(self, on: &impl ConnectionTrait, select: &str, limit: u32) -> Statement {
        let sql =
            format!("{select} WHERE {} ORDER BY 1 DESC LIMIT {}", self.text(), limit.clamp(1, PAGE_MAX));
        statement(on, &sql, self.values)
    }

    /// The newest runs of both tables: each gives its own newest by its key, so that no table is read to its end.
    fn list_runs(self, on: &impl ConnectionTrait, state: Option<RunStateName>, limit: u32) -> Statement {
        let limit = limit.clamp(1, PAGE_MAX);
        let tail = format!("{} ORDER BY 1 DESC LIMIT {limit}", self.text());
        // The partial index on what is not ok is used only where the condition says so.
        let not_ok = |state: i64| format!("{FINISHED} WHERE r.state <> 0 AND r.state = {state} AND {tail}");
        let sql = match state {
            Some(RunStateName::Pending) => format!("{PENDING} WHERE {tail}"),
            Some(RunStateName::Delivered) => format!("{FINISHED} WHERE r.state = {RUN_DELIVERED} AND {tail}"),
            Some(RunStateName::Parked) => not_ok(RUN_PARKED),
            Some(RunStateName::Discarded) => not_ok(RUN_DISCARDED),
            None => {
                let both = format!(
                    "({PENDING} WHERE {tail}) AS waiting UNION ALL SELECT * FROM ({FINISHED} WHERE {tail}) AS finished"
                );
                let values: Vec<Value> = self.values.iter().chain(&self.values).cloned().collect();
                let sql = format!("SELECT * FROM {both} ORDER BY 1 DESC LIMIT {limit}");
                return statement(on, &sql, values);
            }
        };
        statement(on, &sql, self.values)
    }
}

/// Events, newest first.
pub async fn events(
    connection: &DatabaseConnection,
    filter: &EventFilter,
) -> Result<Vec<EventSummary>, DbErr> {
    let mut conditions = Conditions::default();
    conditions.add("c.name = ?", filter.connection.clone());
    conditions.add("e.kind = ?", filter.quarantined.map(i64::from));
    conditions.add("e.id >= ?", filter.since_ms.map(|since_ms| compose(since_ms, 0, 0)));
    conditions.add("e.received_ms >= ?", filter.since_ms);
    conditions.add("e.id < ?", filter.before.map(|id| id.0));
    connection
        .query_all_raw(conditions.list(connection, EVENTS, filter.limit))
        .await?
        .iter()
        .map(event)
        .collect()
}

/// Runs, newest first.
pub async fn runs(connection: &DatabaseConnection, filter: &RunFilter) -> Result<Vec<RunSummary>, DbErr> {
    let mut conditions = Conditions::default();
    conditions.add("c.name = ?", filter.connection.clone());
    conditions.add("v.bundle = ?", filter.bundle.clone());
    conditions.add("r.id >= ?", filter.since_ms.map(|since_ms| compose(since_ms, 0, 0)));
    conditions.add("r.id < ?", filter.before.map(|id| id.0));
    connection
        .query_all_raw(conditions.list_runs(connection, filter.state, filter.limit))
        .await?
        .iter()
        .map(run)
        .collect()
}

/// One event, its request and its runs.
pub async fn event_detail(
    connection: &DatabaseConnection,
    id: EventId,
) -> Result<Option<EventDetail>, DbErr> {
    let tx = connection.begin().await?;
    let row = tx.query_one_raw(statement(&tx, &format!("{EVENTS} WHERE e.id = ?"), [id.0.into()])).await?;
    let request = statement(&tx, "SELECT head, body FROM body WHERE id = ?", [id.0.into()]);
    let body = tx.query_one_raw(request).await?;
    let (Some(row), Some(body)) = (row, body) else { return Ok(None) };
    let summary = event(&row)?;
    let text: String = body.try_get_by_index(0)?;
    let received = head::read(&text, body.try_get_by_index(1)?, summary.received_ms)
        .map_err(|error| DbErr::Custom(format!("the stored head of {id}: {error}")))?;
    let runs = runs_of(&tx, id).await?;
    tx.commit().await?;
    Ok(Some(EventDetail { summary, received, runs }))
}

/// The runs of an event have ids right behind its own.
async fn runs_of(tx: &DatabaseTransaction, event: EventId) -> Result<Vec<RunSummary>, DbErr> {
    let mut conditions = Conditions::default();
    conditions.add("r.id > ?", Some(event.0));
    conditions.add("r.id < ?", Some(compose(event.time_ms() + RUNS_SPAN_MS, 0, 0)));
    conditions.add("r.event = ?", Some(event.0));
    let mut runs: Vec<RunSummary> = tx
        .query_all_raw(conditions.list_runs(tx, None, PAGE_MAX))
        .await?
        .iter()
        .map(run)
        .collect::<Result<_, _>>()?;
    runs.reverse();
    Ok(runs)
}

/// One run with its attempts.
pub async fn run_detail(connection: &DatabaseConnection, id: RunId) -> Result<Option<RunDetail>, DbErr> {
    const ATTEMPTS: &str = "
SELECT CAST(fence AS BIGINT), CAST(outcome AS BIGINT), started_ms, finished_ms, reason, deliveries
FROM attempt WHERE run = ?
UNION ALL
SELECT CAST(fence AS BIGINT), CAST(CASE state WHEN 0 THEN 0 ELSE 1 END AS BIGINT), started_ms, finished_ms, reason,
    deliveries
FROM run WHERE id = ? AND fence > 0
ORDER BY 1";
    let tx = connection.begin().await?;
    let mut conditions = Conditions::default();
    conditions.add("r.id = ?", Some(id.0));
    let Some(row) = tx.query_one_raw(conditions.list_runs(&tx, None, 1)).await? else { return Ok(None) };
    let attempts = tx.query_all_raw(statement(&tx, ATTEMPTS, [id.0.into(), id.0.into()])).await?;
    let left = statement(&tx, "SELECT state FROM run_state WHERE run = ?", [id.0.into()]);
    let state = tx.query_one_raw(left).await?;
    let asked = statement(&tx, "SELECT at_ms, action FROM audit WHERE run = ? ORDER BY id", [id.0.into()]);
    let asked = tx.query_all_raw(asked).await?;
    let detail = RunDetail {
        summary: run(&row)?,
        attempts: attempts.iter().map(attempt).collect::<Result<_, _>>()?,
        state: state.map(|row| row.try_get_by_index(0)).transpose()?,
        asked: asked.iter().map(audit).collect::<Result<_, _>>()?,
    };
    tx.commit().await?;
    Ok(Some(detail))
}

fn event(row: &QueryResult) -> Result<EventSummary, DbErr> {
    let filtered: Option<Vec<u8>> = row.try_get_by_index(4)?;
    Ok(EventSummary {
        id: EventId(row.try_get_by_index(0)?),
        connection: row.try_get_by_index(1)?,
        received_ms: row.try_get_by_index(2)?,
        quarantined: row.try_get_by_index(3)?,
        filtered: versions(&filtered.unwrap_or_default()),
    })
}

fn versions(bytes: &[u8]) -> Vec<VersionId> {
    bytes
        .chunks_exact(8)
        .map(|chunk| {
            VersionId(i64::from_be_bytes(chunk.try_into().expect("a chunk of eight is eight bytes")))
        })
        .collect()
}

fn run(row: &QueryResult) -> Result<RunSummary, DbErr> {
    let bundle: Option<String> = row.try_get_by_index(3)?;
    Ok(RunSummary {
        id: RunId(row.try_get_by_index(0)?),
        event: EventId(row.try_get_by_index(1)?),
        version: VersionId(row.try_get_by_index(2)?),
        bundle: bundle.unwrap_or_default(),
        connection: row.try_get_by_index(4)?,
        state: state_name(row.try_get_by_index(5)?)?,
        attempt: count(row, 6)?,
        generation: count(row, 7)?,
        due_ms: row.try_get_by_index(8)?,
        finished_ms: row.try_get_by_index(9)?,
        reason: row.try_get_by_index(10)?,
        behind_its_key: row.try_get_by_index::<i64>(11)? == 1,
    })
}

fn attempt(row: &QueryResult) -> Result<AttemptRecord, DbErr> {
    let deliveries: String = row.try_get_by_index(5)?;
    let deliveries: Vec<DeliveryRecord> = serde_json::from_str(&deliveries)
        .map_err(|error| DbErr::Custom(format!("stored deliveries: {error}")))?;
    Ok(AttemptRecord {
        fence: count(row, 0)?,
        outcome: outcome(row.try_get_by_index(1)?)?,
        started_ms: row.try_get_by_index(2)?,
        finished_ms: row.try_get_by_index(3)?,
        reason: row.try_get_by_index(4)?,
        deliveries,
    })
}

fn audit(row: &QueryResult) -> Result<AuditRecord, DbErr> {
    Ok(AuditRecord { at_ms: row.try_get_by_index(0)?, action: row.try_get_by_index(1)? })
}

/// The name of a stored state.
pub fn state_name(number: i64) -> Result<RunStateName, DbErr> {
    match number {
        RUN_DELIVERED => Ok(RunStateName::Delivered),
        RUN_PARKED => Ok(RunStateName::Parked),
        RUN_DISCARDED => Ok(RunStateName::Discarded),
        RUN_PENDING => Ok(RunStateName::Pending),
        other => Err(DbErr::Custom(format!("a run in the unknown state {other}"))),
    }
}

fn outcome(number: i64) -> Result<AttemptOutcome, DbErr> {
    match number {
        RUN_DELIVERED => Ok(AttemptOutcome::Delivered),
        RUN_PARKED => Ok(AttemptOutcome::Parked),
        ATTEMPT_REPEAT => Ok(AttemptOutcome::Repeat),
        ATTEMPT_CRASHED => Ok(AttemptOutcome::Crashed),
        other => Err(DbErr::Custom(format!("an attempt with the unknown outcome {other}"))),
    }
}

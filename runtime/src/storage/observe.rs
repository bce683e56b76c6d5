//! Ages and parked runs, each read by an index and bounded, however much waits.

use std::collections::HashSet;

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, QueryResult, Value};
use sheaf_bundles::{id::RunId, verdict::Class};

use super::{
    gates::{self, gates_with_runs},
    sql::statement,
};
use crate::queue::{
    gate::{GateId, Stand},
    lane::lane_gate,
    observe::{PARKED_COUNT_MAX, Parked, ParkedExample, REFUSED_EXAMPLES_MIN, Waiting, WaitingFor},
};

/// Due, and not taken: in the order of the index on due times, so the first of each connection is its oldest.
pub const READY: &str = "
SELECT c.name, count(*), min(q.due_ms), NULL
FROM (SELECT connection, due_ms FROM queue WHERE gate IS NULL AND due_ms <= ?2 ORDER BY due_ms LIMIT ?1) q
JOIN connection c ON c.id = q.connection GROUP BY c.name ORDER BY c.name";

/// Behind another of their key, and due.
pub const BEHIND: &str = concat!(
    "
SELECT c.name, count(*), min(q.due_ms), NULL
FROM (SELECT connection, due_ms FROM queue WHERE gate = ",
    lane_gate!(),
    " AND due_ms <= ?2 ORDER BY due_ms LIMIT ?1) q
JOIN connection c ON c.id = q.connection GROUP BY c.name ORDER BY c.name"
);

/// Not due yet and never refused, in the order of ids, which is the order they were made in. Nobody is told of these, so they
/// may be hidden by older ones that wait for something else.
const DELAYED: &str = "
SELECT c.name, count(*), min(q.id) >> 22, min(q.id)
FROM (SELECT id, connection, attempt, due_ms, owner, gate FROM queue ORDER BY id LIMIT ?1) q
JOIN connection c ON c.id = q.connection
WHERE q.due_ms > ?2 AND q.attempt = 0 AND q.owner = 0 AND q.gate IS NULL GROUP BY c.name ORDER BY c.name";

/// Refused before, by an index of these alone: any number may be delayed before them. How long a run has been trying is told
/// by its first attempt, not by its id: it may have been delayed.
/// An attempt that was an end (outcomes 0 and 1) is of a time before a replay, with all that were before it.
pub const RETRYING: &str = "
SELECT w.name, w.count, coalesce((SELECT min(started_ms) FROM attempt WHERE run = w.oldest AND started_ms > 0
        AND fence > coalesce((SELECT max(fence) FROM attempt WHERE run = w.oldest AND outcome < 2), -1)), w.oldest >> 22),
    w.oldest
FROM (
    SELECT c.name AS name, count(*) AS count, min(q.id) AS oldest
    FROM (SELECT id, connection FROM queue WHERE attempt > 0 AND gate IS NULL ORDER BY id LIMIT ?1) q
    JOIN connection c ON c.id = q.connection GROUP BY c.name
) w ORDER BY w.name";

/// Pending runs by connection and what they wait for. Looks at no more than `rows_max` rows of each, from the oldest on.
pub async fn waiting(
    connection: &DatabaseConnection,
    now_ms: i64,
    rows_max: u32,
) -> Result<Vec<Waiting>, DbErr> {
    let mut found = at_gates(connection, now_ms, rows_max).await?;
    let rows_max = Value::from(i64::from(rows_max));
    for (sql, values, waiting_for) in [
        (READY, vec![rows_max.clone(), now_ms.into()], WaitingFor::Slot),
        (BEHIND, vec![rows_max.clone(), now_ms.into()], WaitingFor::Key),
        (DELAYED, vec![rows_max.clone(), now_ms.into()], WaitingFor::Delay),
        (RETRYING, vec![rows_max], WaitingFor::Vendor),
    ] {
        for row in &connection.query_all_raw(statement(connection, sql, values)).await? {
            add(&mut found, read(row, waiting_for)?);
        }
    }
    Ok(found)
}

/// Behind gates: each has the same share of the rows that are looked at, so that none hides the others. A gate that is open
/// only gives its turn, so its runs wait for a slot.
async fn at_gates(
    connection: &DatabaseConnection,
    now_ms: i64,
    rows_max: u32,
) -> Result<Vec<Waiting>, DbErr> {
    let sql = at_gates_sql(connection.get_database_backend());
    let rows = connection.query_all_raw(statement(connection, &sql, [i64::from(rows_max).into()])).await?;
    let shut = if rows.is_empty() { HashSet::new() } else { gates::shut(connection, now_ms).await? };
    let mut found = Vec::new();
    for row in &rows {
        let through = GateId(row.try_get_by_index(5)?);
        let gate = Stand::read(GateId(row.try_get_by_index(4)?), through).gate.itself();
        let waiting_for = if shut.contains(&gate) { WaitingFor::Gate } else { WaitingFor::Slot };
        add(&mut found, read(row, waiting_for)?);
    }
    Ok(found)
}

fn read(row: &QueryResult, waiting_for: WaitingFor) -> Result<Waiting, DbErr> {
    Ok(Waiting {
        connection: row.try_get_by_index(0)?,
        waiting_for,
        count: count(row, 1)?,
        since_ms: row.try_get_by_index(2)?,
        oldest: row.try_get_by_index::<Option<i64>>(3)?.map(RunId),
    })
}

/// To those of the same connection that wait for the same thing; only where no run is named are there such.
fn add(found: &mut Vec<Waiting>, more: Waiting) {
    let same = |it: &&mut Waiting| (&it.connection, it.waiting_for) == (&more.connection, more.waiting_for);
    match found.iter_mut().find(same) {
        Some(known) => {
            known.count += more.count;
            known.since_ms = known.since_ms.min(more.since_ms);
        }
        None => found.push(more),
    }
}

/// The soonest due behind each gate, counted by connection.
pub fn at_gates_sql(backend: DbBackend) -> String {
    let (least, behind) = match backend {
        DbBackend::Postgres => (
            "greatest",
            "CROSS JOIN LATERAL (SELECT connection, due_ms FROM queue WHERE gate = b.gate ORDER BY gate, due_ms LIMIT (SELECT few FROM f)) q",
        ),
        _ => (
            "max",
            "JOIN queue q ON q.id IN (SELECT id FROM queue WHERE gate = b.gate ORDER BY due_ms LIMIT (SELECT few FROM f))",
        ),
    };
    let steps = gates_with_runs!();
    format!(
        "{steps}, f (few) AS (SELECT {least}(1, ?1 / count(*)) FROM b)
SELECT c.name, count(*), min(q.due_ms), CAST(NULL AS BIGINT), b.gate,
    (SELECT through FROM queue WHERE queue.gate = b.gate LIMIT 1)
FROM b {behind} JOIN connection c ON c.id = q.connection GROUP BY b.gate, c.name ORDER BY c.name"
    )
}

/// The class of a run's last delivery; exactly the expression of the index `run_parked`, or it would not be used. PostgreSQL
/// keeps it in a column: it does not take its own JSON functions for immutable.
fn class(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Postgres => "class",
        _ => "coalesce(json_extract(deliveries, '$[#-1].class'), '')",
    }
}

/// Versions with parked runs, found by stepping through the index from either end; a recursion's limit stands where the
/// database wants it.
fn versions(backend: DbBackend) -> String {
    let step = |name, end, further| match backend {
        DbBackend::Postgres => format!(
            "{name}_step (version) AS (
    SELECT {end}(version) FROM run WHERE state = 1
    UNION ALL
    SELECT (SELECT {end}(version) FROM run WHERE state = 1 AND version {further} s.version) FROM {name}_step s
    WHERE s.version IS NOT NULL
), {name} AS (SELECT version FROM {name}_step LIMIT ?1)"
        ),
        _ => format!(
            "{name} (version) AS (
    SELECT {end}(version) FROM run WHERE state = 1
    UNION ALL
    SELECT (SELECT {end}(version) FROM run WHERE state = 1 AND version {further} s.version) FROM {name} s
    WHERE s.version IS NOT NULL
    LIMIT ?1
)"
        ),
    };
    let (newest, oldest) = (step("newest", "max", "<"), step("oldest", "min", ">"));
    format!(
        "WITH RECURSIVE {newest}, {oldest}, v AS (
    SELECT version FROM newest WHERE version IS NOT NULL UNION SELECT version FROM oldest WHERE version IS NOT NULL
)"
    )
}

/// Parked runs by version and class, of at most so many versions from either end, newest first, each with its newest
/// examples, see [`REFUSED_EXAMPLES_MIN`]; and whether that is surely all of them.
pub async fn parked(
    connection: &DatabaseConnection,
    versions_max: u32,
    examples_max: u32,
) -> Result<(Vec<(Parked, Vec<ParkedExample>)>, bool), DbErr> {
    let sql = parked_sql(connection.get_database_backend());
    let limits = [i64::from(versions_max).into(), i64::from(PARKED_COUNT_MAX).into()];
    let rows = connection.query_all_raw(statement(connection, &sql, limits)).await?;
    let mut found = Vec::new();
    for row in &rows {
        let parked = Parked {
            bundle: row.try_get_by_index(0)?,
            connection: row.try_get_by_index(1)?,
            class: row.try_get_by_index(2)?,
            count: count(row, 3)?,
            since_ms: row.try_get_by_index(4)?,
            newest_ms: row.try_get_by_index(5)?,
        };
        let limit = match examples_max {
            1.. if parked.class == Class::AuthBroken.name() => examples_max.max(REFUSED_EXAMPLES_MIN),
            _ => examples_max,
        };
        let examples = examples(connection, row.try_get_by_index(6)?, &parked.class, limit).await?;
        found.push((parked, examples));
    }
    let versions = rows.first().map_or(Ok(0), |row| count(row, 7))?;
    // From both ends as many as may be: there may be others between them.
    Ok((found, versions < 2 * u64::from(versions_max)))
}

async fn examples(
    connection: &DatabaseConnection,
    version: i64,
    class: &str,
    limit: u32,
) -> Result<Vec<ParkedExample>, DbErr> {
    if limit == 0 {
        return Ok(Vec::new());
    }
    let sql = examples_sql(connection.get_database_backend());
    let values = [version.into(), class.into(), i64::from(limit).into()];
    let rows = connection.query_all_raw(statement(connection, &sql, values)).await?;
    rows.iter()
        .map(|row| {
            let text =
                |index| Ok::<_, DbErr>(row.try_get_by_index::<Option<String>>(index)?.unwrap_or_default());
            let status: Option<i64> = row.try_get_by_index(4)?;
            Ok(ParkedExample {
                run: RunId(row.try_get_by_index(0)?),
                parked_ms: row.try_get_by_index(1)?,
                step: text(2)?,
                through: text(3)?,
                status: status.and_then(|status| u16::try_from(status).ok()),
            })
        })
        .collect()
}

/// Steps from version to version by the index instead of reading every parked run, then asks for each class, and for none;
/// counts those that there are.
pub fn parked_sql(backend: DbBackend) -> String {
    let (versions, class) = (versions(backend), class(backend));
    let names = Class::ALL.iter().map(|class| format!("('{}')", class.name())).collect::<Vec<_>>().join(", ");
    let of = format!("FROM run WHERE state = 1 AND version = g.version AND {class} = g.class");
    format!(
        "{versions}
SELECT n.bundle, n.connection, g.class, (SELECT count(*) FROM (SELECT 1 {of} LIMIT ?2) AS few),
    (SELECT min(finished_ms) {of}), (SELECT max(finished_ms) {of}) AS newest, g.version, (SELECT count(*) FROM v)
FROM (SELECT v.version, c.column1 AS class FROM v CROSS JOIN (VALUES (''), {names}) c) g
JOIN version n ON n.id = g.version WHERE (SELECT 1 {of} LIMIT 1) IS NOT NULL
ORDER BY newest DESC, g.version DESC"
    )
}

/// The newest parked runs of a version and class.
pub fn examples_sql(backend: DbBackend) -> String {
    let shown = match backend {
        DbBackend::Postgres => {
            "deliveries::json -> -1 ->> 'step', deliveries::json -> -1 #>> '{request,stored,connection}',
    (deliveries::json -> -1 #>> '{answer,response,status}')::bigint"
        }
        _ => {
            "json_extract(deliveries, '$[#-1].step'), json_extract(deliveries, '$[#-1].request.stored.connection'),
    json_extract(deliveries, '$[#-1].answer.response.status')"
        }
    };
    let class = class(backend);
    format!(
        "SELECT id, finished_ms, {shown} FROM run WHERE state = 1 AND version = ?1 AND {class} = ?2
ORDER BY finished_ms DESC LIMIT ?3"
    )
}

fn count(row: &QueryResult, index: usize) -> Result<u64, DbErr> {
    Ok(row.try_get_by_index::<i64>(index)?.unsigned_abs())
}

//! Gates as they are stored: what is paused, breakers that are open, and who waits behind which.

use std::collections::{HashMap, HashSet};

use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, QueryResult, TransactionTrait, Value};
use sheaf_bundles::id::VersionId;

use super::{budgets, sql::statement, sqlite::connect::immediate};
use crate::queue::{
    breaker::{Breaker, Open, Why},
    gate::{ClosedGate, GateId, GateKind, GateRow, PausedVersion, Stand, WAITING_COUNT_MAX},
    gates::Stored,
};

/// Opens a breaker, or goes on with it.
pub const OPEN: &str = "INSERT INTO gate (id, kind, name, why, opened_ms, until_ms, tries, probe_until_ms) \
                        VALUES (?, 0, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET why = excluded.why, \
                        opened_ms = excluded.opened_ms, until_ms = excluded.until_ms, tries = excluded.tries, \
                        probe_until_ms = excluded.probe_until_ms";
/// Closes one.
pub const CLOSE: &str = "UPDATE gate SET opened_ms = NULL WHERE id = ?";
/// Forgets gates that are open.
pub const CLEAN: &str = "DELETE FROM gate WHERE opened_ms IS NULL AND paused_ms IS NULL";

/// The bundle of a version that keeps failing. One that was replaced says nothing about the version in its place.
pub const BUNDLE: &str = "SELECT bundle FROM version v WHERE id = $1 AND (active = 1 OR NOT EXISTS \
                          (SELECT 1 FROM version other WHERE other.bundle = v.bundle AND other.active = 1))";
/// Pauses it, unless it is paused; [`pause`] lets it go on.
pub const PAUSE_FAILING: &str = "INSERT INTO gate (id, kind, name, paused_ms, why) VALUES ($1, 1, $2, $3, 'failing') \
                                 ON CONFLICT (id) DO UPDATE SET paused_ms = excluded.paused_ms, why = excluded.why \
                                 WHERE gate.paused_ms IS NULL";

const ROWS: &str = "SELECT id, CAST(kind AS BIGINT), name, paused_ms, why, opened_ms, until_ms, CAST(tries AS BIGINT), \
                    probe_until_ms FROM gate ORDER BY kind, name";
const VERSIONS: &str = "SELECT v.id, CAST(g.kind AS BIGINT), g.name FROM gate g \
                        JOIN version v ON CASE g.kind WHEN 0 THEN v.connection ELSE v.bundle END = g.name \
                        WHERE g.paused_ms IS NOT NULL";
/// Steps from gate to gate by the index, however many rows are behind each. Below zero are places that runs hold. Of the
/// last step there is nothing.
macro_rules! gates_with_runs {
    () => {
        "WITH RECURSIVE b (gate) AS (
            SELECT min(gate) FROM queue WHERE gate IS NOT NULL AND gate >= 0
            UNION ALL
            SELECT (SELECT min(gate) FROM queue WHERE gate IS NOT NULL AND gate > b.gate) FROM b
            WHERE b.gate IS NOT NULL
        )"
    };
}
pub(super) use gates_with_runs;

macro_rules! from_gate_to_gate {
    ($column:literal) => {
        concat!(
            gates_with_runs!(),
            "SELECT gate, ",
            $column,
            ", (SELECT through FROM queue WHERE queue.gate = b.gate LIMIT 1) FROM b WHERE gate IS NOT NULL"
        )
    };
}
/// Where runs wait, and the soonest due time of these.
pub const BEHIND: &str = from_gate_to_gate!("(SELECT min(due_ms) FROM queue WHERE queue.gate = b.gate)");
/// How many wait there.
const WAITING: &str = from_gate_to_gate!(
    "(SELECT count(*) FROM (SELECT 1 FROM queue WHERE queue.gate = b.gate LIMIT ?) AS few)"
);

/// The values of [`OPEN`].
pub fn opened(gate: GateId, name: &str, open: Open) -> [Value; 7] {
    [
        gate.0.into(),
        name.into(),
        open.why.name().into(),
        open.since_ms.into(),
        open.until_ms.into(),
        i64::from(open.tries).into(),
        open.probe_until_ms.into(),
    ]
}

/// All that a writer has to know; where runs wait only if it asks for that.
pub async fn stored(connection: &DatabaseConnection, stands: bool) -> Result<Stored, DbErr> {
    let rows = rows(connection).await?;
    let versions = if rows.iter().any(|row| row.paused_ms.is_some()) {
        let found = connection.query_all_raw(statement(connection, VERSIONS, [])).await?;
        found.iter().map(paused_version).collect::<Result<_, _>>()?
    } else {
        Vec::new()
    };
    let behind = if stands { Some(behind(connection).await?) } else { None };
    Ok(Stored { rows, versions, behind, accounts: budgets::all(connection).await? })
}

async fn behind(connection: &DatabaseConnection) -> Result<Vec<(Stand, i64)>, DbErr> {
    let stand = |row: &QueryResult| {
        let through = GateId(row.try_get_by_index(2)?);
        Ok((Stand::read(GateId(row.try_get_by_index(0)?), through), row.try_get_by_index(1)?))
    };
    connection.query_all_raw(statement(connection, BEHIND, [])).await?.iter().map(stand).collect()
}

async fn rows(connection: &impl ConnectionTrait) -> Result<Vec<GateRow>, DbErr> {
    let rows = connection.query_all_raw(statement(connection, ROWS, [])).await?;
    rows.iter().map(row).collect()
}

fn row(row: &QueryResult) -> Result<GateRow, DbErr> {
    let why: Option<String> = row.try_get_by_index(4)?;
    let number = |column: usize| row.try_get_by_index::<Option<i64>>(column).map(Option::unwrap_or_default);
    let breaker = match row.try_get_by_index::<Option<i64>>(5)? {
        Some(since_ms) => Breaker::Open(Open {
            why: Why::from_name(why.as_deref().unwrap_or_default()),
            since_ms,
            until_ms: number(6)?,
            tries: u32::try_from(number(7)?).unwrap_or(u32::MAX),
            probe_until_ms: number(8)?,
        }),
        None => Breaker::default(),
    };
    let kind = kind(row.try_get_by_index(1)?);
    Ok(GateRow {
        gate: GateId(row.try_get_by_index(0)?),
        kind,
        name: row.try_get_by_index(2)?,
        paused_ms: row.try_get_by_index(3)?,
        failing: kind == GateKind::Bundle && why.as_deref() == Some(Why::Failing.name()),
        breaker,
    })
}

fn paused_version(row: &QueryResult) -> Result<PausedVersion, DbErr> {
    let name: String = row.try_get_by_index(2)?;
    let kind = match kind(row.try_get_by_index(1)?) {
        GateKind::Connection => GateKind::Source,
        other => other,
    };
    Ok(PausedVersion { version: VersionId(row.try_get_by_index(0)?), gate: GateId::of(kind, &name) })
}

fn kind(number: i64) -> GateKind {
    if number == 0 { GateKind::Connection } else { GateKind::Bundle }
}

fn kind_number(kind: GateKind) -> i64 {
    match kind {
        GateKind::Connection | GateKind::Source => 0,
        GateKind::Bundle => 1,
    }
}

/// Pauses or resumes; `false` when it was so already. Noted in the audit log.
pub async fn pause(
    connection: &DatabaseConnection,
    kind: GateKind,
    name: &str,
    paused: bool,
    now_ms: i64,
) -> Result<bool, DbErr> {
    const PAUSE: &str = "INSERT INTO gate (id, kind, name, paused_ms) VALUES (?, ?, ?, ?) \
                         ON CONFLICT (id) DO UPDATE SET paused_ms = excluded.paused_ms WHERE gate.paused_ms IS NULL";
    const RESUME: &str = "UPDATE gate SET paused_ms = NULL WHERE id = ? AND paused_ms IS NOT NULL";
    const AUDIT: &str = "INSERT INTO audit (at_ms, action, run) VALUES (?, ?, 0)";
    let gate = GateId::of(kind, name);
    let tx = connection.begin_with_options(immediate()).await?;
    let change = match paused {
        true => statement(&tx, PAUSE, [gate.0.into(), kind_number(kind).into(), name.into(), now_ms.into()]),
        false => statement(&tx, RESUME, [gate.0.into()]),
    };
    let changed = tx.execute_raw(change).await?.rows_affected() == 1;
    if changed {
        let action = format!("{} {} {name}", if paused { "pause" } else { "resume" }, kind.name());
        tx.execute_raw(statement(&tx, AUDIT, [now_ms.into(), action.into()])).await?;
        tx.execute_unprepared(CLEAN).await?;
    }
    tx.commit().await?;
    Ok(changed)
}

/// Gates that hold runs back, and how many wait behind each.
pub async fn closed(connection: &DatabaseConnection) -> Result<Vec<ClosedGate>, DbErr> {
    let rows = rows(connection).await?;
    let waiting = if rows.is_empty() { HashMap::new() } else { waiting(connection).await? };
    let behind = |gate: GateId| waiting.get(&gate).copied().unwrap_or(0);
    let closed = rows.iter().filter_map(|row| {
        let (why, since_ms, until_ms) = match (row.paused_ms, row.breaker.open()) {
            (Some(since_ms), _) if row.failing => (Why::Failing.name(), since_ms, None),
            (Some(since_ms), _) => ("paused", since_ms, None),
            (None, Some(open)) => (open.why.name(), open.since_ms, Some(open.until_ms)),
            (None, None) => return None,
        };
        let waiting = behind(row.gate) + source(row).map_or(0, behind);
        Some(ClosedGate { kind: row.kind, name: row.name.clone(), why, since_ms, until_ms, waiting })
    });
    Ok(closed.collect())
}

/// Gates that let nobody out now: paused, broken, or with a spent budget.
pub async fn shut(connection: &DatabaseConnection, now_ms: i64) -> Result<HashSet<GateId>, DbErr> {
    let mut shut = budgets::spent(connection, now_ms).await?;
    let rows = rows(connection).await?;
    for row in rows.iter().filter(|row| row.paused_ms.is_some() || row.breaker.open().is_some()) {
        shut.insert(row.gate);
        shut.extend(source(row));
    }
    Ok(shut)
}

/// How many runs wait at each gate, replays that wait apart included; [`WAITING_COUNT_MAX`] stands for that many or more.
pub async fn waiting(connection: &DatabaseConnection) -> Result<HashMap<GateId, u64>, DbErr> {
    let rows = connection
        .query_all_raw(statement(connection, WAITING, [i64::from(WAITING_COUNT_MAX).into()]))
        .await?;
    let mut waiting: HashMap<GateId, u64> = HashMap::new();
    for row in &rows {
        let through = GateId(row.try_get_by_index(2)?);
        let gate = Stand::read(GateId(row.try_get_by_index(0)?), through).gate.itself();
        let count = waiting.entry(gate).or_default();
        *count = (*count + row.try_get_by_index::<i64>(1)?.unsigned_abs()).min(WAITING_COUNT_MAX.into());
    }
    Ok(waiting)
}

/// Where the runs of a paused connection's own events wait.
fn source(row: &GateRow) -> Option<GateId> {
    (row.kind == GateKind::Connection && row.paused_ms.is_some())
        .then(|| GateId::of(GateKind::Source, &row.name))
}

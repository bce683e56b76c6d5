//! `sheaf ledger`: the two equations, for every connection.

use std::process::ExitCode;

use serde_json::json;
use sheaf_bundles::{duration, words::Language};

use super::{
    output::{Output, table, time},
    project::Project,
};
use crate::{
    clock::Clock,
    oversight::Seen,
    queue::{
        gate::{BudgetLeft, ClosedGate, GateKind},
        history::{LedgerLine, LedgerMismatch},
        observe::{PARKED_VERSIONS_MAX, WAITING_ROWS_MAX},
    },
    spool,
};

/// Show what came in and what became of it, and whether nothing is unaccounted for.
#[derive(Debug, clap::Args)]
pub struct Ledger {
    /// Also count every row and compare; reads the whole database.
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    project: Project,
}

impl Ledger {
    /// Exit code 0 when both equations hold everywhere, 1 otherwise.
    pub fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        let (lines, mismatches, oldest, (gates, budgets)) = self.project.read(async |store| {
            let mismatches = if self.verify { store.verify_ledger().await? } else { Vec::new() };
            let (rows_max, versions_max) =
                if self.verify { (u32::MAX, u32::MAX) } else { (WAITING_ROWS_MAX, PARKED_VERSIONS_MAX) };
            let waiting = store.waiting(rows_max).await?;
            let (parked, _) = store.parked_groups(versions_max, 0).await?;
            let seen = Seen { at_ms: Clock::system().now_ms(), waiting, parked, ..Seen::default() };
            let held = (store.closed_gates().await?, store.budgets_left().await?);
            Ok((store.ledger().await?, mismatches, ages(&seen), held))
        })?;
        let spooled_bytes = spool::waiting_bytes(&self.project.data_directory().join(spool::FOLDER))?;
        let balanced =
            mismatches.is_empty() && lines.iter().all(|line| line.events_balance && line.decisions_balance);
        let all = json!({
            "balanced": balanced,
            "connections": lines,
            "mismatches": mismatches,
            "oldest": oldest,
            "spooled_bytes": spooled_bytes,
            "held": gates,
            "budgets": budgets,
        });
        output.print(&all, || {
            let ages = if oldest.is_empty() { String::new() } else { in_table(&oldest, output) + "\n\n" };
            let held = if gates.is_empty() { String::new() } else { held(&gates, output) + "\n\n" };
            let left = if budgets.is_empty() { String::new() } else { left_of(&budgets, output) + "\n\n" };
            ages + &held
                + &left
                + &in_words(&lines, &mismatches, balanced, output)
                + &in_spool(spooled_bytes, output)
        });
        Ok(if balanced { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Who is held back by what.
fn held(gates: &[ClosedGate], output: &Output) -> String {
    let header = match output.language {
        Language::En => ["HELD BACK", "", "why", "since", "tries again", "waiting"],
        Language::Ru => ["УДЕРЖАНО", "", "почему", "с какого времени", "снова попробует", "ждут"],
    };
    let rows = gates.iter().map(|gate| {
        [
            gate.kind.name().to_owned(),
            gate.name.clone(),
            why(gate, output).to_owned(),
            time(gate.since_ms),
            gate.until_ms.map(time).unwrap_or_default(),
            gate.waiting.to_string(),
        ]
    });
    table(header, rows)
}

/// Why a gate is closed.
fn why(gate: &ClosedGate, output: &Output) -> &'static str {
    match (output.language, gate.why) {
        (Language::Ru, "failing") if gate.kind == GateKind::Bundle => "запуски откладываются подряд",
        (Language::Ru, "paused") => "на паузе",
        (Language::Ru, "failing") => "сервис сбоит",
        (Language::Ru, "refused") => "доступ отклонён",
        (Language::Ru, "busy") => "просит подождать",
        (Language::Ru, "quota") => "лимит исчерпан",
        (_, name) => name,
    }
}

/// What is left of the connections' budgets.
fn left_of(budgets: &[BudgetLeft], output: &Output) -> String {
    let header = match output.language {
        Language::En => ["BUDGET", "", "left", "of", "whole again", "waiting"],
        Language::Ru => ["БЮДЖЕТ", "", "осталось", "из", "снова полный", "ждут"],
    };
    let rows = budgets.iter().map(|it| {
        [
            it.connection.clone(),
            it.budget.clone(),
            it.left.to_string(),
            it.amount.to_string(),
            time(it.whole_ms),
            it.waiting.to_string(),
        ]
    });
    table(header, rows)
}

/// Requests that this node keeps in its own files are not received yet, as the equations see it.
fn in_spool(bytes: u64, output: &Output) -> String {
    if bytes == 0 {
        return String::new();
    }
    let said = output.words(
        "bytes of requests wait in this node's spool for the database",
        "байт запросов ждут базу в файлах этого узла",
    );
    format!("\n{bytes} {said}")
}

/// The oldest run of a connection in one state.
#[derive(Debug, serde::Serialize)]
struct Age {
    connection: String,
    state: &'static str,
    age_ms: i64,
}

fn ages(seen: &Seen) -> Vec<Age> {
    let age = |(connection, state, age_ms): (&str, &'static str, i64)| Age {
        connection: connection.to_owned(),
        state,
        age_ms,
    };
    seen.oldest_ms().into_iter().map(age).collect()
}

fn in_table(ages: &[Age], output: &Output) -> String {
    let header = match output.language {
        Language::En => ["OLDEST", "state", "age"],
        Language::Ru => ["ДОЛЬШЕ ВСЕХ", "состояние", "возраст"],
    };
    let state = |name: &'static str| match (output.language, name) {
        (Language::Ru, "ready") => "ждёт очереди",
        (Language::Ru, "held") => "удержано",
        (Language::Ru, "delayed") => "ждёт времени",
        (Language::Ru, "retrying") => "повторяется",
        (Language::Ru, "parked") => "отложено",
        (_, name) => name,
    };
    let seconds = |ms: i64| duration::format(ms.unsigned_abs() / 1_000 * 1_000);
    table(
        header,
        ages.iter().map(|it| [it.connection.clone(), state(it.state).to_owned(), seconds(it.age_ms)]),
    )
}

fn in_words(lines: &[LedgerLine], mismatches: &[LedgerMismatch], balanced: bool, output: &Output) -> String {
    let header = match output.words("en", "ru") {
        "ru" => [
            "ПОДКЛЮЧЕНИЕ",
            "получено",
            "= принято",
            "+ повтор",
            "+ карантин",
            "решений",
            "= доставлено",
            "+ отфильтровано",
            "+ отложено",
            "+ ждёт",
            "+ отменено",
            "ничьих",
        ],
        _ => [
            "CONNECTION",
            "received",
            "= accepted",
            "+ duplicate",
            "+ quarantined",
            "decisions",
            "= delivered",
            "+ filtered",
            "+ parked",
            "+ pending",
            "+ discarded",
            "unrouted",
        ],
    };
    let rows = lines.iter().map(|line| {
        let counts = [
            line.received,
            line.accepted,
            line.duplicate,
            line.quarantined,
            line.decisions,
            line.delivered,
            line.filtered,
            line.parked,
            line.pending,
            line.discarded,
            line.unrouted,
        ];
        let mut row = std::array::from_fn(|_| String::new());
        row[0] = line.connection.clone();
        for (cell, count) in row[1..].iter_mut().zip(counts) {
            *cell = count.to_string();
        }
        row
    });
    let mut text = table(header, rows);
    for mismatch in mismatches {
        let LedgerMismatch { connection, counter, counted, rows } = mismatch;
        text.push_str(&format!(
            "\n{connection}: {counter} = {counted}, {}: {rows}",
            output.words("rows", "строк")
        ));
    }
    let verdict = if balanced {
        output.words("Both equations hold.", "Оба равенства выполняются.")
    } else {
        output.words("AN EQUATION DOES NOT HOLD.", "РАВЕНСТВО НЕ ВЫПОЛНЯЕТСЯ.")
    };
    format!("{text}\n{verdict}")
}

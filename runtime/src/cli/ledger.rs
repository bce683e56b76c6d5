//! `sheaf ledger`: the two equations, for every connection.

use std::process::ExitCode;

use serde_json::json;

use super::{
    output::{Output, table},
    project::Project,
};
use crate::queue::history::{LedgerLine, LedgerMismatch};

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
        let (lines, mismatches) = self.project.read(async |store| {
            let mismatches = if self.verify { store.verify_ledger().await? } else { Vec::new() };
            Ok((store.ledger().await?, mismatches))
        })?;
        let balanced =
            mismatches.is_empty() && lines.iter().all(|line| line.events_balance && line.decisions_balance);
        let all = json!({"balanced": balanced, "connections": lines, "mismatches": mismatches});
        output.print(&all, || in_words(&lines, &mismatches, balanced, output));
        Ok(if balanced { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
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

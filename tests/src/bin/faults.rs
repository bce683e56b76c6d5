//! `make faults`: faults on purpose, judged by ledgers outside the product.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Parser;
use sheaf_tests::faults::{
    lab::{Lab, versions},
    report::{Report, Strict},
    scenario::{SCENARIOS, Scenario, asked_for},
};

/// Hurts the product in every way it promises to survive, and judges by ledgers outside it.
#[derive(Parser)]
struct Arguments {
    /// The product's binary.
    #[arg(long, default_value = "target/debug/sheaf")]
    sheaf: PathBuf,
    /// The same with promises broken on purpose, built with `--features faulty`.
    #[arg(long, default_value = "target/debug/sheaf-faulty")]
    faulty: PathBuf,
    /// Long counts instead of short ones.
    #[arg(long)]
    long: bool,
    /// Only these scenarios; NAME=COUNT for a number of cycles of one's own.
    #[arg(value_name = "SCENARIO[=CYCLES]")]
    scenarios: Vec<String>,
    /// Where all randomness starts; a random one when not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Where data and ledgers are made.
    #[arg(long, default_value = "target")]
    data_root: PathBuf,
    /// Where the report is written; beside it as text with the ending .txt.
    #[arg(long, default_value = "target/faults.json")]
    report: PathBuf,
    /// A missing tool is a failure.
    #[arg(long, env = "CI", default_value_t = false, value_parser = clap::builder::FalseyValueParser::new())]
    strict: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let lab = Lab {
        sheaf: arguments.sheaf.clone(),
        faulty: arguments.faulty.clone(),
        data_root: fs::canonicalize(&arguments.data_root).context("--data-root")?,
        seed: arguments.seed.unwrap_or_else(rand::random),
    };
    let mut report = Report { versions: versions(&lab.sheaf).await?, seed: lab.seed, findings: Vec::new() };
    for (scenario, cycles) in chosen(&arguments)? {
        eprintln!("{} ({}), seed {}", scenario.name, counted(cycles), lab.seed);
        let finding = scenario.run(&lab, cycles).await;
        print!("{finding}");
        report.findings.push(finding);
        report.write(&arguments.report)?;
    }
    let took_s: f64 = report.findings.iter().map(|it| it.took_s).sum();
    println!("\nall of it took {took_s:.0} s");
    println!("seed {}; the report is in {}", lab.seed, arguments.report.display());
    let names = report.not_good(Strict { tools: arguments.strict, ..Strict::default() });
    if names.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("not good: {}", names.join(", "));
    Ok(ExitCode::FAILURE)
}

/// What was asked for, with its number of cycles.
fn chosen(arguments: &Arguments) -> anyhow::Result<Vec<(Scenario, usize)>> {
    let usual = |scenario: Scenario| if arguments.long { scenario.long } else { scenario.short };
    if arguments.scenarios.is_empty() {
        let all = SCENARIOS.iter().map(|scenario| (*scenario, usual(*scenario)));
        return Ok(all.filter(|(_, cycles)| *cycles > 0).collect());
    }
    let asked = asked_for(&arguments.scenarios, SCENARIOS, |it| it.name)?;
    let cycles = |(scenario, count): (Scenario, Option<usize>)| {
        (scenario, count.unwrap_or_else(|| usual(scenario).max(1)))
    };
    Ok(asked.into_iter().map(cycles).collect())
}

fn counted(cycles: usize) -> String {
    if cycles == usize::MAX { "every cycle there is".to_owned() } else { format!("{cycles} cycles") }
}

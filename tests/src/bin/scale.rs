//! `make scale`: the product at its promised size.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Parser;
use sheaf_tests::{
    bench::Effort,
    faults::{
        lab::versions,
        report::{Report, Strict, Verdict},
        scenario::asked_for,
    },
    scale::{
        lab::Lab,
        scenario::{SCENARIOS, Scenario},
    },
};

/// Measures the product at its promised size, and fails when a promise does not hold; a speed that is not reached is said.
#[derive(Parser)]
struct Arguments {
    /// The product's binary, built for release.
    #[arg(long, default_value = "target/release/sheaf")]
    sheaf: PathBuf,
    /// Only these; NAME=SIZE for a size of one's own.
    #[arg(value_name = "SCENARIO[=SIZE]")]
    scenarios: Vec<String>,
    #[command(flatten)]
    effort: Effort,
    /// Where all randomness starts; a random one when not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Where data are made; a real disk with room: a million calls take 6 GB.
    #[arg(long, default_value = "target")]
    data_root: PathBuf,
    /// Where the report is written; beside it as text with the ending .txt.
    #[arg(long, default_value = "target/scale.json")]
    report: PathBuf,
    /// Prints the report as JSON instead of text.
    #[arg(long)]
    json: bool,
    /// A speed that is not reached is a failure too: for a machine that is fast enough, and at rest.
    #[arg(long)]
    strict: bool,
    /// A missing tool is a failure.
    #[arg(long, env = "CI", default_value_t = false, value_parser = clap::builder::FalseyValueParser::new())]
    every_tool: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    // Generator and vendors have a thread each and no scheduler between: the cores are the product's.
    let far_end = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let near_end = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let lab = Lab {
        sheaf: arguments.sheaf.clone(),
        data_root: fs::canonicalize(&arguments.data_root).context("--data-root")?,
        pairs: arguments.effort.pairs(),
        duration: arguments.effort.duration(),
        connections: arguments.effort.connections,
        far_end: far_end.handle().clone(),
    };
    near_end.block_on(measure(&arguments, &lab))
}

async fn measure(arguments: &Arguments, lab: &Lab) -> anyhow::Result<ExitCode> {
    let seed = arguments.seed.unwrap_or_else(rand::random);
    let mut report = Report { versions: versions(&lab.sheaf).await?, seed, findings: Vec::new() };
    for (scenario, size) in chosen(arguments)? {
        eprintln!("{} ({size} {})", scenario.name, scenario.unit);
        let finding = scenario.run(lab, size).await;
        if !arguments.json {
            print!("{finding}");
        }
        report.findings.push(finding);
        report.write(&arguments.report)?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    let slow = report.findings.iter().filter(|it| it.verdict == Verdict::Slow).count();
    if slow > 0 && !arguments.strict {
        eprintln!("SLOW: {slow}, which is no failure without --strict");
    }
    let names = report.not_good(Strict { tools: arguments.every_tool, speeds: arguments.strict });
    if names.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("not good: {}", names.join(", "));
    Ok(ExitCode::FAILURE)
}

/// What was asked for, with its size.
fn chosen(arguments: &Arguments) -> anyhow::Result<Vec<(Scenario, usize)>> {
    let usual = |scenario: Scenario| if arguments.effort.short { scenario.short } else { scenario.full };
    let asked = asked_for(&arguments.scenarios, SCENARIOS, |it| it.name)?;
    Ok(asked
        .into_iter()
        .map(|(scenario, size)| (scenario, size.unwrap_or_else(|| usual(scenario))))
        .collect())
}

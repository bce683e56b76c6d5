//! `make scale`: the product at its promised size.

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Parser;
use sheaf_tests::{
    faults::{lab::versions, report::Report, scenario::name_and_count},
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
    /// Small sizes: shows in a minute that it works, measures little.
    #[arg(long)]
    short: bool,
    /// Only these; NAME=SIZE for a size of one's own.
    #[arg(value_name = "SCENARIO[=SIZE]")]
    scenarios: Vec<String>,
    /// Rounds, where two things are compared.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Seconds of each load of a round.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Connections of the generator, so requests in flight at most.
    #[arg(long, default_value_t = 128)]
    connections: usize,
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
    /// A missing tool is a failure.
    #[arg(long, env = "CI", default_value_t = false, value_parser = clap::builder::FalseyValueParser::new())]
    strict: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    // Generator and vendors have a thread each and no scheduler between: the cores are the product's.
    let far_end = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let near_end = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let lab = Lab {
        sheaf: arguments.sheaf.clone(),
        data_root: fs::canonicalize(&arguments.data_root).context("--data-root")?,
        pairs: if arguments.short { 1 } else { arguments.pairs },
        duration: Duration::from_secs_f64(if arguments.short { 1.0 } else { arguments.seconds }),
        connections: arguments.connections,
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
    let names = report.not_good(arguments.strict);
    if names.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("not good: {}", names.join(", "));
    Ok(ExitCode::FAILURE)
}

/// What was asked for, with its size.
fn chosen(arguments: &Arguments) -> anyhow::Result<Vec<(Scenario, usize)>> {
    let usual = |scenario: Scenario| if arguments.short { scenario.short } else { scenario.full };
    if arguments.scenarios.is_empty() {
        return Ok(SCENARIOS.iter().map(|scenario| (*scenario, usual(*scenario))).collect());
    }
    let named = |text: &String| {
        let (name, size) = name_and_count(text)?;
        let names = || SCENARIOS.iter().map(|it| it.name).collect::<Vec<_>>().join(", ");
        let scenario =
            Scenario::named(name).with_context(|| format!("no scenario {name}; there are {}", names()))?;
        Ok((scenario, size.unwrap_or_else(|| usual(scenario))))
    };
    arguments.scenarios.iter().map(named).collect()
}

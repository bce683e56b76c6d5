//! `make bench`: the product beside its ceilings, in pairs, on this machine.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;
use sheaf_tests::{
    bench::{self, Contender, Plan},
    ceiling::{self, Ceiling},
    sink::Sink,
};

/// The product's: the ceilings use what it uses.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Measures the product and two ceilings under the same load.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The product's binary, built for release.
    #[arg(long, default_value = "target/release/sheaf")]
    sheaf: PathBuf,
    /// Rounds; each measures the product and every ceiling once.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Seconds of each load: full, then half.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Connections of the generator, so requests in flight at most.
    #[arg(long, default_value_t = 128)]
    connections: usize,
    /// One round of one second: shows that it works, measures little.
    #[arg(long)]
    short: bool,
    /// Who takes part; everybody when not given.
    #[arg(long, value_enum)]
    only: Vec<Contender>,
    /// Where data directories are made; a real disk.
    #[arg(long, default_value = "target")]
    data_root: PathBuf,
    /// Prints the report as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a ceiling until it is killed; prints its address.
    Ceiling {
        /// Where it sends.
        #[arg(long)]
        receiver: String,
        /// Its database; without one it stores nothing.
        #[arg(long)]
        database: Option<PathBuf>,
    },
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Ceiling { receiver, database }) => {
            let ceiling = database.map_or(Ceiling::NoStorage, Ceiling::Durable);
            let run = ceiling::run(ceiling, receiver, |address| println!("{address}"));
            tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run)
        }
        None => measure(arguments),
    }
}

fn measure(arguments: Arguments) -> anyhow::Result<()> {
    let plan = Plan {
        sheaf: arguments.sheaf,
        harness: std::env::current_exe().context("this very binary")?,
        data_root: arguments.data_root,
        pairs: if arguments.short { 1 } else { arguments.pairs },
        duration: Duration::from_secs_f64(if arguments.short { 1.0 } else { arguments.seconds }),
        connections: arguments.connections,
        contenders: if arguments.only.is_empty() { Contender::ALL.to_vec() } else { arguments.only },
    };
    // Generator and sink have a thread each and no scheduler between: the cores are the product's.
    let far_end = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let sink = Arc::new(far_end.block_on(Sink::start())?);
    let near_end = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = near_end.block_on(bench::run(&plan, sink, |sample| {
        let title = sample.contender.title();
        eprintln!(
            "round {}: {title}: {:.0} events/s, {} lost",
            sample.pair + 1,
            sample.events_per_s,
            sample.lost
        );
    }))?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    if !report.nothing_lost() {
        bail!("acknowledged events were lost");
    }
    Ok(())
}

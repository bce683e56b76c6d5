//! `make bench`: the product beside its ceilings, in pairs, on this machine.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;
use sheaf_tests::{
    bench::{self, Contender, Effort, Plan, databases::Databases},
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
    #[command(flatten)]
    effort: Effort,
    /// Who takes part; everybody when not given.
    #[arg(long, value_enum)]
    only: Vec<Contender>,
    /// Where data directories are made; a real disk.
    #[arg(long, default_value = "target")]
    data_root: PathBuf,
    /// Stores in a PostgreSQL, started for it, in place of files.
    #[arg(long)]
    postgres: bool,
    /// Runs that are in the PostgreSQL before.
    #[arg(long, default_value_t = 0, requires = "postgres")]
    filled: u64,
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
        /// Its database, a file or a URL; without one it stores nothing.
        #[arg(long)]
        database: Option<String>,
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
    // Generator and sink have a thread each and no scheduler between: the cores are the product's.
    let far_end = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let sink = Arc::new(far_end.block_on(Sink::start())?);
    let near_end = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let postgres = match arguments.postgres {
        true => Some(near_end.block_on(Databases::filled(
            &arguments.sheaf,
            &arguments.data_root,
            arguments.filled,
        ))?),
        false => None,
    };
    let plan = Plan {
        sheaf: arguments.sheaf,
        harness: std::env::current_exe().context("this very binary")?,
        data_root: arguments.data_root,
        pairs: arguments.effort.pairs(),
        duration: arguments.effort.duration(),
        connections: arguments.effort.connections,
        contenders: if arguments.only.is_empty() { Contender::ALL.to_vec() } else { arguments.only },
        postgres,
    };
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

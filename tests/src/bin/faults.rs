//! `make faults`: kill -9 at random moments under load.

use std::path::PathBuf;

use anyhow::bail;
use clap::Parser;
use sheaf_tests::faults::{Campaign, Who};

/// Kills the product at random moments under load and judges by ledgers outside it.
#[derive(Parser)]
struct Arguments {
    /// The product's binary, built for release.
    #[arg(long, default_value = "target/release/sheaf")]
    sheaf: PathBuf,
    /// How many kills.
    #[arg(long, default_value_t = 200)]
    kills: usize,
    /// Where all randomness starts; a random one when not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Senders, so requests in flight at most.
    #[arg(long, default_value_t = 32)]
    senders: usize,
    /// Runs the product has under way at most.
    #[arg(long, default_value_t = 32)]
    slots: usize,
    /// Where data and ledgers are made.
    #[arg(long, default_value = "target")]
    data_root: PathBuf,
    /// Kills a server that stores nothing instead, started from this binary of the bench; losses must be found.
    #[arg(long, value_name = "BENCH")]
    control: Option<PathBuf>,
    /// Prints the report as JSON.
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { sheaf, kills, seed, senders, slots, data_root, control, json } = Arguments::parse();
    let who = control.map_or(Who::Sheaf { binary: sheaf, slots }, |harness| Who::Control { harness });
    let campaign = Campaign { who, data_root, kills, seed: seed.unwrap_or_else(rand::random), senders };
    eprintln!("seed {}", campaign.seed);
    let report = campaign
        .run(|kill| {
            let (in_flight, acknowledged) = (kill.in_flight, kill.acknowledged_since);
            eprintln!(
                "kill {}: {in_flight} in flight, {acknowledged} acknowledged since the start",
                kill.round + 1
            );
        })
        .await?;
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    if !report.holds() {
        bail!("seed {}: the campaign failed", report.seed);
    }
    Ok(())
}

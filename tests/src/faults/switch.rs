//! The bundles are published anew under load: an event meets exactly the version in force when it is stored.
//!
//! Versions and runs are numbered in the order of their commits, so an outsider sees which run came after which version.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::{Context, ensure};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    database::Reader,
    judge::Rules,
    lab::Lab,
    report::Outcome,
    rig::{Plan, Rig, SENDERS, SLOTS},
};

/// How often the product looks at its files, milliseconds.
pub const WATCH_MS: u64 = 20;
/// Longest random time between two changes.
const BETWEEN_MS_MAX: u64 = 150;
/// How often a change is waited for, and how long in all.
const LOOK_EVERY: Duration = Duration::from_millis(5);
const LOOKS_MAX: usize = 2_000;
/// The files that change.
const BUNDLES: [&str; 2] = ["mindbox-dynamic", "mindbox-static"];
/// Versions by bundle, in the order of their commits.
const VERSIONS: &str = "SELECT bundle, id FROM version ORDER BY id";
/// Runs by version: the last one.
const LAST_RUNS: &str = "SELECT version, max(id) FROM (SELECT version, id FROM run UNION ALL SELECT version, id FROM queue) \
                         GROUP BY version";

/// Publishes both bundles anew so often.
pub async fn run(lab: &Lab, plan: Plan, switches: usize) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut randomness = StdRng::seed_from_u64(lab.seed);
    let rig = Rig::new(Plan { senders: SENDERS, ..plan }).await?;
    let product = rig.start().await?;
    let reader = Reader::open(&rig.setup.data).await?;
    rig.aim(&product)?;
    for number in 1..=switches {
        let wait = Duration::from_millis(randomness.random_range(0..=BETWEEN_MS_MAX));
        let struck = rig.ripe(wait).await;
        for bundle in BUNDLES {
            publish(&rig.setup.directory, bundle, number)?;
        }
        stored(&reader, (number + 1) * BUNDLES.len()).await?;
        outcome.cycle(
            format!("{} in flight, {} before it", struck.in_flight, struck.acknowledged),
            struck.bit(),
        );
    }
    rig.end_load().await?;
    let late = late(&reader).await?;
    outcome.count("versions that were run after the next was stored", late.len());
    outcome.expect(late.is_empty(), || format!("superseded versions were run: {late:?}"));
    reader.close().await?;
    rig.finish(Rules { concurrency: SLOTS, ..Rules::default() }).await?.tell(&mut outcome);
    Ok(outcome)
}

/// Writes a bundle that differs; it is there whole or not at all.
fn publish(directory: &Path, bundle: &str, number: usize) -> anyhow::Result<()> {
    let file = directory.join("bundles").join(bundle).with_extension("yaml");
    let text = fs::read_to_string(&file)?;
    let title = text.lines().find(|line| line.starts_with("title: ")).context("a bundle has a title")?;
    let text = text.replace(title, &format!("title: {bundle} {number}"));
    let fresh = directory.join(format!("{bundle}.fresh"));
    fs::write(&fresh, text)?;
    Ok(fs::rename(fresh, file)?)
}

async fn stored(reader: &Reader, versions: usize) -> anyhow::Result<()> {
    for _ in 0..LOOKS_MAX {
        if reader.rows(VERSIONS).await?.len() >= versions {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    ensure!(false, "the changed files did not go live");
    Ok(())
}

/// Versions with a run that was stored after the next version of the same bundle.
async fn late(reader: &Reader) -> anyhow::Result<Vec<i64>> {
    let mut last_runs = BTreeMap::new();
    for row in reader.rows(LAST_RUNS).await? {
        last_runs.insert(row.try_get_by_index::<i64>(0)?, row.try_get_by_index::<i64>(1)?);
    }
    let mut by_bundle: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for row in reader.rows(VERSIONS).await? {
        by_bundle.entry(row.try_get_by_index(0)?).or_default().push(row.try_get_by_index(1)?);
    }
    let pairs = by_bundle.values().flat_map(|versions| versions.windows(2));
    Ok(pairs
        .filter(|pair| last_runs.get(&pair[0]).is_some_and(|run| *run > pair[1]))
        .map(|pair| pair[0])
        .collect())
}

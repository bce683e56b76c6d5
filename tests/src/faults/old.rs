//! F14: servers of a former commit and of this one on the same database. On PostgreSQL two nodes are replaced one by one under
//! load, the first of the new ones bringing the database up to date while the other old one uses it; on SQLite the old server
//! is killed under load and the new one takes over its file.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, ensure};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    judge::Rules,
    lab::{Lab, said},
    report::Outcome,
    rig::{Plan, Rig, SENDERS, SLOTS},
    stop::{Node, stopped_in_turns},
};
use crate::{
    postgres::{self, TestDatabase},
    product::Setup,
};

/// The last commit before gates, lanes and budgets: the first schema on PostgreSQL, the third on SQLite.
const FORMER: &str = "7508048d3e8afccf9666d12c436e74a4d4a09de7";
/// Longest random wait between an acknowledgement and a kill.
const KILL_AFTER_MS_MAX: u64 = 250;

/// So often, on the two databases in turns.
pub async fn run(lab: &Lab, plan: Plan, rollouts: usize) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome { missing_tool: postgres::missing().or_else(missing), ..Outcome::default() };
    if outcome.missing_tool.is_some() {
        return Ok(outcome);
    }
    let former = built(&lab.data_root)?;
    let mut randomness = StdRng::seed_from_u64(lab.seed);
    for number in 0..rollouts {
        if number % 2 == 0 {
            nodes(lab, &plan, &former, &mut outcome).await.context("PostgreSQL")?;
        } else {
            let after = Duration::from_millis(randomness.random_range(0..=KILL_AFTER_MS_MAX));
            file(&plan, &former, after, &mut outcome).await.context("SQLite")?;
        }
    }
    Ok(outcome)
}

/// Old nodes are replaced by new ones. Calls that an old one cut off as it ended are none of this one's doing.
async fn nodes(lab: &Lab, plan: &Plan, former: &Path, outcome: &mut Outcome) -> anyhow::Result<()> {
    let database = TestDatabase::new();
    let rig = Rig::new(Plan { senders: 0, ..plan.clone().on(&database) }).await?;
    let old = Setup { binary: former.to_owned(), ..rig.setup.clone() };
    let second = Setup { data: rig.folder().join("second-data"), ..old.clone() };
    let mut nodes = vec![Node::start(old).await?, Node::start(second).await?];
    for node in &mut nodes {
        node.setup.binary.clone_from(&plan.binary);
    }
    let stops = nodes.len();
    stopped_in_turns(lab, rig, nodes, stops, outcome).await.map(drop)
}

/// The new server takes over what the old one had in hand.
async fn file(plan: &Plan, former: &Path, after: Duration, outcome: &mut Outcome) -> anyhow::Result<()> {
    let mut rig = Rig::new(Plan { senders: SENDERS, ..plan.clone() }).await?;
    former.clone_into(&mut rig.setup.binary);
    let mut old = rig.start().await?;
    rig.aim(&old)?;
    let struck = rig.ripe(after).await;
    rig.kill(&mut old.process, 0).await?;
    let waiting = rig.pending(false)?;
    rig.setup.binary.clone_from(&plan.binary);
    let new = rig.start().await?;
    rig.finish(Rules { concurrency: SLOTS, ..Rules::default() }).await?.tell(outcome);
    drop(new);
    outcome.cycle(
        format!("{} in flight, {waiting} runs left to the new server", struck.in_flight),
        struck.bit(),
    );
    Ok(())
}

fn missing() -> Option<String> {
    let there = said(Command::new("git").args(["cat-file", "-t", FORMER])).is_some_and(|it| it == "commit");
    (!there).then(|| format!("the commit {FORMER} is not in this clone"))
}

/// The server of that commit, built below the data root unless it is there already.
fn built(root: &Path) -> anyhow::Result<PathBuf> {
    let folder = root.join("former");
    let (sources, target) = (folder.join(FORMER), folder.join("target"));
    let binary = folder.join(format!("sheaf-{FORMER}"));
    if binary.exists() {
        return Ok(binary);
    }
    fs::create_dir_all(&sources)?;
    let mut archive = Command::new("sh");
    archive.args(["-c", "git archive \"$1\" | tar -x -C \"$2\"", "sh", FORMER]).arg(&sources);
    ensure!(archive.status()?.success(), "{archive:?}");
    let mut build = Command::new("cargo");
    build.args(["build", "--quiet", "--bin", "sheaf", "--target-dir"]).arg(&target).current_dir(&sources);
    ensure!(build.status()?.success(), "{build:?}");
    fs::rename(target.join("debug/sheaf"), &binary)?;
    Ok(binary)
}

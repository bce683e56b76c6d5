//! Nodes on one PostgreSQL: four do four times the work of one where the vendor is slow, and the runs of one that dies are
//! taken over soon after its lease.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::lab::{Lab, tell};
use crate::{
    bench::{arrived, median},
    faults::{equations, report::Outcome, rig::MASTER_KEY},
    load::{self, Load, Pace},
    postgres::{self, TestDatabase},
    product::{Product, Setup},
    sink::Sink,
};

/// How long the vendor takes.
const ANSWER: Duration = Duration::from_millis(200);
/// Slots of a node.
const SLOTS: usize = 16;
/// Nodes beside one.
const NODES: usize = 4;
/// The least work of all of them, in multiples of one's.
const TIMES_MIN: f64 = 3.5;
/// What is sent, in multiples of what the slots can do.
const OFFERED: f64 = 1.25;
/// What is sent while a node dies.
const HALF: f64 = 0.5;
/// Longest time until the runs of a dead node are done, with every setting at its default.
const TAKEOVER_MAX: Duration = Duration::from_secs(30);
/// How often that is looked at, and for how long at most.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the node that dies is under load before.
const KILL_AFTER: Duration = Duration::from_secs(3);
/// A drain without a new arrival for so long has failed: longer than a takeover.
const STUCK: Duration = Duration::from_secs(40);

/// Nodes of one database, and what they need.
struct Cluster {
    nodes: Vec<Product>,
    setups: Vec<Setup>,
    _folder: TempDir,
    database: Arc<TestDatabase>,
}

/// So many pairs of loads of so many seconds each, then a kill.
pub async fn run(lab: &Lab, pairs: usize, outcome: &mut Outcome) -> anyhow::Result<()> {
    outcome.missing_tool = postgres::missing();
    if outcome.missing_tool.is_some() {
        return Ok(());
    }
    let sink = lab.sink(ANSWER).await?;
    let server = TestDatabase::of_nodes();
    let (mut ratios, mut ones, mut fours) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..pairs {
        let mut order = [1, NODES];
        if pair % 2 == 1 {
            order.reverse();
        }
        let mut speeds = [0.0; NODES + 1];
        for nodes in order {
            let cluster = Cluster::start(lab, &server, nodes, &sink).await?;
            speeds[nodes] = cluster.speed(lab, &sink, outcome).await?;
        }
        let (one, four) = (speeds[1], speeds[NODES]);
        let text = format!("one node {one:.0} events/s, {NODES} nodes {four:.0}: {:.2} times", four / one);
        tell(&text);
        outcome.cycle(text, true);
        ratios.push(four / one);
        ones.push(one);
        fours.push(four);
    }
    let times = median(ratios);
    outcome.figure("one node, events/s", median(ones));
    outcome.figure("four nodes, events/s", median(fours));
    outcome.figure("four nodes to one, %", times * 100.0);
    outcome.expect_speed(times >= TIMES_MIN, || {
        format!("{NODES} nodes did {times:.2} times the work of one, wanted {TIMES_MIN}")
    });
    let cluster = Cluster::start(lab, &server, NODES, &sink).await?;
    cluster.one_dies(lab, &sink, outcome).await?;
    Ok(())
}

impl Cluster {
    async fn start(lab: &Lab, server: &TestDatabase, nodes: usize, sink: &Sink) -> anyhow::Result<Cluster> {
        let (folder, database) = (lab.folder()?, Arc::new(server.beside()));
        let first = Setup::fresh(&lab.sheaf, folder.path(), sink.origin())?
            .with("SHEAF_SLOTS", &SLOTS.to_string())
            .with("SHEAF_DATABASE", &database.url())
            .with("SHEAF_MASTER_KEY", MASTER_KEY);
        let setup = |number| Setup { data: folder.path().join(format!("data-{number}")), ..first.clone() };
        let setups: Vec<Setup> = (0..nodes).map(setup).collect();
        let mut started = Vec::new();
        for setup in &setups {
            started.push(setup.start().await?);
        }
        Ok(Cluster { nodes: started, setups, _folder: folder, database })
    }

    /// What each node can do, events a second.
    fn capacity() -> f64 {
        SLOTS as f64 / ANSWER.as_secs_f64()
    }

    /// Starts a load at every node, at this share of what they can do.
    fn load(&self, lab: &Lab, share: f64, duration: Duration) -> anyhow::Result<JoinSet<load::Outcome>> {
        let path = self.setups[0].hook_path()?;
        let pace = Pace::Open { per_second: share * Cluster::capacity() };
        let mut loads = JoinSet::new();
        for node in &self.nodes {
            let templates = load::calls(node.hooks, &path);
            loads.spawn(Load { pace, duration, ..lab.load(node.hooks, templates) }.run());
        }
        Ok(loads)
    }

    /// Arrivals a second while there is more to do than slots.
    async fn speed(&self, lab: &Lab, sink: &Sink, outcome: &mut Outcome) -> anyhow::Result<f64> {
        sink.reset();
        let loads = self.load(lab, OFFERED, lab.duration * 2)?;
        tokio::time::sleep(lab.duration / 2).await;
        let (from, begun) = (sink.unique(), Instant::now());
        tokio::time::sleep(lab.duration).await;
        let speed = (sink.unique() - from) as f64 / begun.elapsed().as_secs_f64();
        let repeats = delivered(loads, sink, outcome).await;
        outcome.expect(repeats == 0, || format!("{repeats} repeats without a fault"));
        equations::drained(&self.setups[0], PATIENCE).await?;
        Ok(speed)
    }

    /// One is killed under load; the others have its runs, and finish them.
    async fn one_dies(mut self, lab: &Lab, sink: &Sink, outcome: &mut Outcome) -> anyhow::Result<()> {
        sink.reset();
        let loads = self.load(lab, HALF, KILL_AFTER + TAKEOVER_MAX)?;
        tokio::time::sleep(KILL_AFTER).await;
        let (name, database) =
            (std::fs::read_to_string(self.setups[0].data.join("node"))?, self.database.clone());
        let mut victim = self.nodes.remove(0);
        victim.process.kill()?;
        let killed = Instant::now();
        let held = format!(
            "SELECT coalesce(string_agg(id::text, ','), '') FROM queue \
             WHERE owner = (SELECT epoch FROM node WHERE name = '{}')",
            name.trim()
        );
        let held = asked(&database, held).await?;
        let runs = held.split(',').filter(|id| !id.is_empty()).count();
        let left = format!("SELECT count(*) FROM queue WHERE id IN ({held})");
        while runs > 0 && killed.elapsed() < PATIENCE && asked(&database, left.clone()).await? != "0" {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let took = killed.elapsed();
        outcome.figure("takeover: runs of the dead node", runs as f64);
        outcome.figure("takeover: done after, s", took.as_secs_f64());
        tell(&format!("{runs} runs of a dead node were done after {:.1} s", took.as_secs_f64()));
        outcome.expect(took < TAKEOVER_MAX, || {
            format!("a dead node's runs were done after {:.1} s", took.as_secs_f64())
        });
        let repeats = delivered(loads, sink, outcome).await;
        outcome.count("repeated after the kill", repeats);
        outcome.expect(repeats <= SLOTS, || format!("{repeats} repeats, more than a node has slots"));
        outcome.cycle(format!("killed with {runs} runs in hand"), runs > 0);
        equations::drained(&self.setups[1], PATIENCE).await?;
        Ok(())
    }
}

/// Waits for everything that the loads brought; how many came again.
async fn delivered(loads: JoinSet<load::Outcome>, sink: &Sink, outcome: &mut Outcome) -> usize {
    let mut ids: Vec<i64> = loads.join_all().await.into_iter().flat_map(|it| it.acknowledged).collect();
    // Nodes' loads may meet in the same nanosecond: to the product that is one call.
    ids.sort_unstable();
    ids.dedup();
    arrived(sink, &ids, STUCK).await;
    let missing = sink.missing(&ids);
    outcome.count("acknowledged", ids.len());
    outcome.count("acknowledged and missing", missing);
    outcome.expect(missing == 0, || format!("{missing} acknowledged are missing"));
    usize::try_from(sink.repeats()).unwrap_or(usize::MAX)
}

/// Asks the database while the load goes on.
async fn asked(database: &Arc<TestDatabase>, sql: String) -> anyhow::Result<String> {
    let database = database.clone();
    tokio::task::spawn_blocking(move || database.sql(&sql)).await.context("a question")
}

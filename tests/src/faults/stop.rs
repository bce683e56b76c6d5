//! F15: SIGTERM under load, which goes on. Whatever was taken is answered and delivered, and no run is repeated: a stop is not
//! a fault. Of two nodes behind one list of addresses one after the other is replaced, and no call finds nobody.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    callers::{Callers, Met},
    equations,
    judge::Rules,
    lab::Lab,
    report::Outcome,
    rig::{Plan, Rig},
};
use crate::{
    postgres::{self, TestDatabase},
    product::{Product, Setup},
};

/// Longest random wait between the first acknowledgement after a start and the order.
const STOP_AFTER_MS_MAX: u64 = 250;
/// Longest time a stop takes here: no exchange takes a tenth of it.
const STOPPED_WITHIN: Duration = Duration::from_secs(10);
/// Callers, so requests in flight at most.
const CALLERS: usize = 24;

/// A server that is stopped and started at the same address.
pub struct Node {
    /// How it is started the next time.
    pub setup: Setup,
    product: Product,
}

/// Stops the only server so often; who calls meanwhile is refused and calls again.
pub async fn run(lab: &Lab, plan: Plan, stops: usize) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    let rig = Rig::new(Plan { senders: 0, ..plan }).await?;
    let node = Node::start(rig.setup.clone()).await?;
    let stopped = stopped_in_turns(lab, rig, vec![node], stops, &mut outcome).await?;
    uncut(&stopped, &mut outcome);
    Ok(outcome)
}

/// Stops two nodes in turns so often. Each is there again before the other is stopped.
pub async fn rolling(lab: &Lab, plan: Plan, stops: usize) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome { missing_tool: postgres::missing(), ..Outcome::default() };
    if outcome.missing_tool.is_some() {
        return Ok(outcome);
    }
    let database = TestDatabase::new();
    let rig = Rig::new(Plan { senders: 0, ..plan.on(&database) }).await?;
    let first = Node::start(rig.setup.clone()).await?;
    let second = Setup { data: rig.folder().join("second-data"), ..rig.setup.clone() };
    let nodes = vec![first, Node::start(second).await?];
    let stopped = stopped_in_turns(lab, rig, nodes, stops, &mut outcome).await?;
    uncut(&stopped, &mut outcome);
    let nobody = stopped.met.nobody.load(Ordering::Relaxed);
    outcome.expect(nobody == 0, || format!("{nobody} times a call found nobody at any address"));
    Ok(outcome)
}

/// What came of stops beside the judgement.
pub struct Stopped {
    met: Arc<Met>,
    /// Requests in the spools of the last processes.
    kept: usize,
    /// Calls that came again.
    duplicates: u64,
}

fn uncut(Stopped { met, kept, duplicates }: &Stopped, outcome: &mut Outcome) {
    // A call that was taken and not answered was sent again, and known; so is one that is in a spool and was stored after all.
    outcome.expect(*duplicates == 0 || *kept > 0, || {
        format!("{duplicates} calls were taken and never answered")
    });
    let cut = met.cut.load(Ordering::Relaxed);
    outcome.expect(cut == 0, || format!("{cut} calls were cut on a connection that was made for them"));
}

/// Stops the nodes in turns so often under load, puts what their setup says in their place, and judges.
pub async fn stopped_in_turns(
    lab: &Lab,
    rig: Rig,
    mut nodes: Vec<Node>,
    stops: usize,
    outcome: &mut Outcome,
) -> anyhow::Result<Stopped> {
    let mut randomness = StdRng::seed_from_u64(lab.seed);
    let addresses: Vec<SocketAddr> = nodes.iter().map(|node| node.product.hooks).collect();
    let callers = Callers::start(&rig, CALLERS, &addresses, lab.seed)?;
    let mut longest = Duration::ZERO;
    let count = nodes.len();
    for number in 0..stops {
        let after = Duration::from_millis(randomness.random_range(0..=STOP_AFTER_MS_MAX));
        let struck = rig.ripe(after).await;
        longest = longest.max(nodes[number % count].replaced(outcome).await?);
        outcome.cycle(
            format!("{} in flight, {} acknowledged", struck.in_flight, struck.acknowledged),
            struck.bit(),
        );
    }
    rig.ripe(Duration::ZERO).await;
    outcome.figure("longest stop, ms", longest.as_secs_f64() * 1_000.0);
    let met = callers.end().await;
    outcome.count("calls that one address refused and another took", met.elsewhere.load(Ordering::Relaxed));
    let again = met.cut_when_kept.load(Ordering::Relaxed);
    outcome.count("calls sent again: their kept connection was just closed", again);
    let mut kept = 0;
    for node in &nodes {
        kept += node.emptied().await?;
    }
    outcome.count("kept in the spool", kept);
    rig.drain().await?;
    let ledger = equations::read(&rig.setup.ledger(false)?)?;
    let duplicates: u64 = ledger.connections.iter().map(|it| it.duplicate).sum();
    // No fault is in the ledger, so no repeat is explained.
    let judgement = rig.finish(Rules::default()).await?;
    judgement.tell(outcome);
    let refused = judgement.refused;
    outcome.expect(refused == 0, || format!("{refused} calls were answered with a refusal"));
    Ok(Stopped { met, kept, duplicates })
}

impl Node {
    /// Starts it; it keeps the address that it gets.
    pub async fn start(setup: Setup) -> anyhow::Result<Node> {
        let product = setup.start().await?;
        let setup = setup.with("SHEAF_HOOKS_ADDRESS", &product.hooks.to_string());
        Ok(Node { setup, product })
    }

    /// Waits until its spool, where it has one, is empty; how much came into it.
    async fn emptied(&self) -> anyhow::Result<usize> {
        let Ok(kept) = self.product.metric("sheaf_spooled_total").await else { return Ok(0) };
        super::postgres::recovered(&self.product).await?;
        Ok(kept)
    }

    /// SIGTERM, its end, another in its place; how long the end took.
    async fn replaced(&mut self, outcome: &mut Outcome) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let ended = self.product.process.stop(STOPPED_WITHIN).await?;
        let took = begun.elapsed();
        let code = ended.and_then(|status| status.code());
        outcome.expect(code == Some(0), || format!("a stop ended with {ended:?}"));
        self.product = self.setup.start().await?;
        Ok(took)
    }
}

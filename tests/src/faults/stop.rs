//! F15: SIGTERM under load. Whatever was accepted is delivered, and no run is repeated: a stop is not a fault.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    judge::Rules,
    lab::Lab,
    report::Outcome,
    rig::{Plan, Rig, SENDERS},
};

/// Longest random wait between the first acknowledgement after a start and the order.
const STOP_AFTER_MS_MAX: u64 = 250;
/// Longest time a stop takes here: no exchange takes a tenth of it.
const STOPPED_WITHIN: Duration = Duration::from_secs(10);

/// Stops it so often.
pub async fn run(lab: &Lab, plan: Plan, stops: usize) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut randomness = StdRng::seed_from_u64(lab.seed);
    let rig = Rig::new(Plan { senders: SENDERS, ..plan }).await?;
    let mut longest = Duration::ZERO;
    for _ in 0..stops {
        let mut product = rig.start().await?;
        rig.aim(&product)?;
        let struck = rig.ripe(Duration::from_millis(randomness.random_range(0..=STOP_AFTER_MS_MAX))).await;
        rig.hold();
        let begun = Instant::now();
        let ended = product.process.stop(STOPPED_WITHIN).await?;
        longest = longest.max(begun.elapsed());
        let code = ended.and_then(|status| status.code());
        outcome.expect(code == Some(0), || format!("a stop ended with {ended:?}"));
        outcome.cycle(
            format!("{} in flight, {} acknowledged", struck.in_flight, struck.acknowledged),
            struck.bit(),
        );
    }
    outcome.figure("longest stop, ms", longest.as_secs_f64() * 1_000.0);
    let last = rig.start().await?;
    // No fault is in the ledger, so no repeat is explained.
    let judgement = rig.finish(Rules::default()).await?;
    judgement.tell(&mut outcome);
    let lost = judgement.unknown_arrived;
    outcome.expect(lost == 0, || format!("{lost} calls were taken and never answered"));
    drop(last);
    Ok(outcome)
}

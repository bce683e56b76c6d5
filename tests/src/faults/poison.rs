//! F13: executing some events panics. Each is tried three times and parked; all others are delivered meanwhile.
//!
//! No event is known that makes the product panic, so the build under test panics at calls that carry a mark.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::{
    database::Reader,
    equations,
    judge::Rules,
    report::Outcome,
    rig::{Plan, Rig, SENDERS, SLOTS},
};
use crate::{
    calltouch::{Method, Model, Moment, Payload, Spaces, Webhook},
    wire::Client,
};

/// What the build panics at; as `faulty::POISON` of the product says it.
const MARK: &str = "poison";
/// Attempts of one that panics.
const ATTEMPTS: i64 = 3;
/// Longest time until all are parked: two pauses of five seconds lie between three attempts.
const PATIENCE: Duration = Duration::from_secs(40);

/// So many poisonous calls among others.
pub async fn run(plan: Plan, calls: usize) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    let rig = Rig::new(Plan { senders: SENDERS, ..plan }).await?;
    let product = rig.start().await?;
    let webhook = Webhook {
        address: product.hooks,
        path: rig.setup.hook_path()?,
        method: Method::Post,
        model: Model::Simple,
        spaces: Spaces::Percent,
    };
    let mut client = Client::connect(product.hooks).await?;
    for number in 0..calls {
        let poison = Payload::call(Moment::CallEnded, 1 + number as u64).set("utm_campaign", MARK);
        let status = client.exchange(&webhook.request(&poison)).await?.status();
        ensure!(status == 200, "a call was answered {status}");
    }
    rig.aim(&product)?;
    let parked = parked(&rig, calls as u64).await?;
    outcome.expect(parked == calls as u64, || format!("{parked} of {calls} poisonous calls are parked"));
    rig.end_load().await?;
    let reader = Reader::open(&rig.setup.data).await?;
    let attempts =
        "SELECT r.reason, (SELECT count(*) FROM attempt a WHERE a.run = r.id) + 1 FROM run r WHERE state = 1";
    for row in reader.rows(attempts).await? {
        let (reason, tries): (Option<String>, i64) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        outcome.cycle(format!("{tries} attempts: {}", reason.as_deref().unwrap_or("parked")), true);
        outcome.expect(tries == ATTEMPTS, || format!("a poisonous call was tried {tries} times"));
    }
    reader.close().await?;
    rig.finish(Rules { concurrency: SLOTS, ..Rules::default() }).await?.tell(&mut outcome);
    drop(product);
    Ok(outcome)
}

/// Waits until so many are parked; how many are.
async fn parked(rig: &Rig, wanted: u64) -> anyhow::Result<u64> {
    let begun = Instant::now();
    loop {
        let ledger = equations::read(&rig.setup.ledger(false)?).context("the ledger")?;
        let parked = ledger.connections.iter().map(|it| it.parked).sum();
        if parked >= wanted || begun.elapsed() > PATIENCE {
            return Ok(parked);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

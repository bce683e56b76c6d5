//! F9: the machine's clock jumps forward and back under load. Nothing is sent before its time, and nothing twice.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    database::Reader,
    faketime,
    judge::Rules,
    lab::Lab,
    ledger::{self, Entry},
    report::Outcome,
    rig::{Plan, Rig},
};
use crate::clock::unix_ns;

/// Senders; each event waits, so few are enough.
const SENDERS: usize = 8;
/// How long every event waits.
const DELAY_MS: i64 = 1_500;
/// Around a jump one cannot tell which clock the product read.
const UNSURE_NS: i64 = 200_000_000;
/// Longest jump forward and back, seconds. What waits is later by as much after a jump back.
const FORWARD_S_MAX: i64 = 7_200;
const BACK_S_MAX: i64 = 10;
/// How old the newest event may be.
const FOLLOWS_MS: i64 = 900;
/// How long that may take to be so after a jump.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(2);
/// Longest random wait before a jump.
const JUMP_AFTER_MS_MAX: u64 = 1_000;

/// A clock's distance from the machine's, since when (nanoseconds since 1970).
struct Jump {
    at_ns: i64,
    offset_ns: i64,
}

/// So many jumps, by turns forward and back.
pub async fn run(lab: &Lab, plan: Plan, jumps: usize) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome { missing_tool: faketime::missing(), ..Outcome::default() };
    if outcome.missing_tool.is_some() {
        return Ok(outcome);
    }
    let mut randomness = StdRng::seed_from_u64(lab.seed);
    let mut rig = Rig::new(Plan { senders: SENDERS, ..plan }).await?;
    wait_before_sending(&rig.setup.directory.join("bundles"))?;
    let clock = rig.folder().join("clock");
    faketime::set(&clock, 0)?;
    rig.setup.settings.extend(faketime::settings(&clock));
    let mut offset_s = 0;
    let mut history = vec![Jump { at_ns: i64::MIN, offset_ns: 0 }];
    let product = rig.start().await?;
    let reader = Reader::open(&rig.setup.data).await?;
    rig.aim(&product)?;
    for number in 0..jumps {
        let wait = Duration::from_millis(randomness.random_range(0..=JUMP_AFTER_MS_MAX));
        let struck = rig.ripe(wait).await;
        let by_s = match number % 2 {
            0 => randomness.random_range(1..=FORWARD_S_MAX),
            _ => -randomness.random_range(1..=BACK_S_MAX),
        };
        offset_s += by_s;
        faketime::set(&clock, offset_s)?;
        history.push(Jump { at_ns: unix_ns(), offset_ns: offset_s * 1_000_000_000 });
        let seen = follows(&reader, offset_s).await?;
        outcome
            .cycle(format!("{by_s:+} s, {} acknowledged before", struck.acknowledged), struck.bit() && seen);
    }
    reader.close().await?;
    let received = rig.folder().join("receiver.ledger");
    rig.end_load().await?;
    let early = early(&ledger::read(&received)?, &history);
    outcome.count("sent before their time", early.len());
    outcome.expect(early.is_empty(), || format!("sent early, by ms: {:?}", &early[..early.len().min(10)]));
    // No fault is in the ledger, so no repeat is explained.
    rig.finish(Rules::default()).await?.tell(&mut outcome);
    drop(product);
    Ok(outcome)
}

/// Waits until the product's clock is where it was set, by the newest event; false when it never is.
async fn follows(reader: &Reader, offset_s: i64) -> anyhow::Result<bool> {
    let begun = Instant::now();
    while begun.elapsed() < FOLLOWS_WITHIN {
        let newest = reader.rows("SELECT received_ms FROM event ORDER BY id DESC LIMIT 1").await?;
        let received_ms: i64 = newest.first().context("there are events")?.try_get_by_index(0)?;
        if (unix_ns() / 1_000_000 + offset_s * 1_000 - received_ms).abs() < FOLLOWS_MS {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(false)
}

/// Gives every bundle a delay.
fn wait_before_sending(bundles: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(bundles)? {
        let file = entry?.path();
        let text = fs::read_to_string(&file)?;
        fs::write(&file, text.replace("delay: 0m", &format!("delay: {DELAY_MS}ms")))?;
    }
    Ok(())
}

/// By how many milliseconds calls came before their time by the product's own clock, read in its favour near a jump.
fn early(received: &[Entry], history: &[Jump]) -> Vec<i64> {
    let mut first: HashMap<i64, i64> = HashMap::new();
    for entry in received {
        if let Entry::Delivered(id, at_ns) = *entry {
            first.entry(id).or_insert(at_ns);
        }
    }
    let waited_ms = |(id, at_ns): (i64, i64)| {
        let sent_ns = id + offsets(history, id).min().unwrap_or(0);
        (at_ns + offsets(history, at_ns).max().unwrap_or(0) - sent_ns) / 1_000_000
    };
    first.into_iter().map(|it| DELAY_MS - waited_ms(it)).filter(|early_ms| *early_ms > 0).collect()
}

/// Every distance of the clock that the product may have seen around that moment.
fn offsets(history: &[Jump], at_ns: i64) -> impl Iterator<Item = i64> {
    let until = |index: usize| history.get(index + 1).map_or(i64::MAX, |next| next.at_ns);
    let near = move |(index, jump): (usize, &Jump)| {
        let seen =
            jump.at_ns <= at_ns.saturating_add(UNSURE_NS) && until(index) >= at_ns.saturating_sub(UNSURE_NS);
        seen.then_some(jump.offset_ns)
    };
    history.iter().enumerate().filter_map(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn what_comes_before_its_delay_by_the_products_own_clock_is_early() {
        let still = [Jump { at_ns: i64::MIN, offset_ns: 0 }];
        assert_eq!(early(&[Entry::Delivered(0, SECOND)], &still), [500]);
        assert!(early(&[Entry::Delivered(0, 2 * SECOND)], &still).is_empty());
        let forward =
            [Jump { at_ns: i64::MIN, offset_ns: 0 }, Jump { at_ns: SECOND / 2, offset_ns: 60 * SECOND }];
        assert!(early(&[Entry::Delivered(0, SECOND)], &forward).is_empty(), "its time came with the jump");
        assert_eq!(
            early(&[Entry::Delivered(SECOND, 2 * SECOND)], &forward),
            [500],
            "the jump was before both"
        );
    }
}

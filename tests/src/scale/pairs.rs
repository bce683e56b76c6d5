//! Two servers in turns under the same load: how fast the one is beside the other.

use std::path::Path;

use anyhow::ensure;

use super::lab::{Lab, tell};
use crate::{
    bench::{Drained, drained, median},
    faults::report::Outcome,
    load::{self, Load},
    product::Setup,
    sink::Sink,
};

/// A figure's name and where it is in a round.
type Figure = (&'static str, fn(&Round) -> f64);

/// The metric of runs that were read back.
const READ_BACK: &str = "sheaf_queue_claimed_total";

/// One round of one server, from its start.
struct Round {
    events_per_s: f64,
    cpu_s_per_1000: f64,
    /// Runs that were not handed over in memory when their event was stored, but read back from the database.
    read_back_percent: f64,
    ready_ms: f64,
}

/// A server with something in it, or something about it, beside a fresh one.
pub struct Compared<'a> {
    /// What the one has that the other has not, in words.
    pub what: &'a str,
    /// The one.
    pub this: &'a Setup,
    /// The other, made anew in a folder for each round.
    pub fresh: &'a dyn Fn(&Path) -> anyhow::Result<Setup>,
    /// The least speed, as a share of the other's.
    pub share_min: f64,
}

/// Takes turns, and notes each side's medians and the median ratio.
pub async fn compare(
    lab: &Lab,
    sink: &Sink,
    compared: &Compared<'_>,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let Compared { what, this, fresh, share_min } = compared;
    let (mut these, mut others, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..lab.pairs {
        let folder = lab.folder()?;
        let other = fresh(folder.path())?;
        // Whoever runs second meets a warmer machine, so they take turns.
        let (one, two) = if pair % 2 == 0 {
            let one = round(lab, this, sink, outcome).await?;
            (one, round(lab, &other, sink, outcome).await?)
        } else {
            let two = round(lab, &other, sink, outcome).await?;
            (round(lab, this, sink, outcome).await?, two)
        };
        let ratio = one.events_per_s / two.events_per_s;
        let text = format!("{what}: {:.0} events/s, without: {:.0}", one.events_per_s, two.events_per_s);
        tell(&format!("pair {}: {text}: {:.0} %", pair + 1, ratio * 100.0));
        outcome.cycle(text, true);
        ratios.push(ratio);
        these.push(one);
        others.push(two);
    }
    for (side, rounds) in [(*what, &these), ("without", &others)] {
        let figures: [Figure; 4] = [
            ("events/s", |it| it.events_per_s),
            ("CPU ms per 1,000 events", |it| it.cpu_s_per_1000 * 1_000.0),
            ("runs read back from the database, %", |it| it.read_back_percent),
            ("ready after, ms", |it| it.ready_ms),
        ];
        for (name, of) in figures {
            outcome.figure(&format!("{side}: {name}"), median(rounds.iter().map(of).collect()));
        }
    }
    let share = median(ratios);
    outcome.figure(&format!("{what}: share of the speed without, %"), share * 100.0);
    outcome.expect_speed(share >= *share_min, || {
        format!("{what}: {:.0} % of the speed without, wanted {:.0} %", share * 100.0, share_min * 100.0)
    });
    Ok(())
}

/// Starts a server, warms it up, loads it until the last event has arrived, ends it.
async fn round(lab: &Lab, setup: &Setup, sink: &Sink, outcome: &mut Outcome) -> anyhow::Result<Round> {
    let product = setup.start().await?;
    let load = lab.load(product.hooks, load::calls(product.hooks, &setup.hook_path()?));
    let warm = Load { duration: lab.duration / 5, ..load.clone() };
    nothing_lost(&drained(warm, sink).await?, outcome);
    let before = (product.process.usage()?, product.metric(READ_BACK).await?);
    let full = drained(load, sink).await?;
    let after = (product.process.usage()?, product.metric(READ_BACK).await?);
    let events = full.outcome.acknowledged.len() as f64;
    nothing_lost(&full, outcome);
    ensure!(full.events_per_s > 0.0, "nothing arrived");
    Ok(Round {
        events_per_s: full.events_per_s,
        cpu_s_per_1000: (after.0.cpu_s - before.0.cpu_s) / events * 1_000.0,
        read_back_percent: (after.1 - before.1) as f64 / events * 100.0,
        ready_ms: product.ready_after.as_secs_f64() * 1_000.0,
    })
}

/// A promise of every load without faults.
pub fn nothing_lost(drained: &Drained, outcome: &mut Outcome) {
    outcome.count("acknowledged", drained.outcome.acknowledged.len());
    outcome.expect(drained.lost == 0, || format!("{} acknowledged are missing", drained.lost));
    outcome.expect(drained.repeated == 0, || format!("{} repeats without a fault", drained.repeated));
}

//! F3: the power goes under load. What was acknowledged must be on the disk, and the database whole.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    database::Reader,
    disk::{self, Disk},
    judge::Rules,
    lab::Lab,
    ledger::Entry,
    report::Outcome,
    rig::{Plan, Rig, SENDERS, SLOTS},
};

/// Longest random wait between the first acknowledgement after a start and the cut.
const CUT_AFTER_MS_MAX: u64 = 250;

/// Cuts the power so often.
pub async fn run(lab: &Lab, plan: Plan, cuts: usize) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome { missing_tool: disk::missing(), ..Outcome::default() };
    if outcome.missing_tool.is_some() {
        return Ok(outcome);
    }
    let folder = tempfile::Builder::new().prefix("power-").tempdir_in(&plan.data_root)?;
    let disk = Disk::ext4(folder.path())?;
    let data = Some(disk.place().join("data"));
    let rig = Rig::new(Plan { senders: SENDERS, data, ..plan }).await?;
    let mut randomness = StdRng::seed_from_u64(lab.seed);
    for number in 0..cuts {
        let mut product = rig.start().await?;
        whole(&rig, &mut outcome).await?;
        let cutter = disk.cutter()?;
        rig.aim(&product)?;
        let struck = rig.ripe(Duration::from_millis(randomness.random_range(0..=CUT_AFTER_MS_MAX))).await;
        let cut_ns = cutter.cut()?;
        rig.pen().write(Entry::Cut(number, cut_ns));
        rig.kill(&mut product.process, number).await?;
        disk.power_up()?;
        let fault =
            format!("power cut: {} in flight, {} acknowledged", struck.in_flight, struck.acknowledged);
        outcome.cycle(fault, struck.bit());
    }
    let last = rig.start().await?;
    whole(&rig, &mut outcome).await?;
    // A refusal in the dark says nothing: the fsync that failed may have been the last to succeed.
    let judgement = rig.finish(Rules { concurrency: SLOTS, refused_may_arrive: true }).await?;
    drop(last);
    outcome.figure("cuts that lost something", judgement.missing_by_kill.len() as f64);
    judgement.tell(&mut outcome);
    Ok(outcome)
}

async fn whole(rig: &Rig, outcome: &mut Outcome) -> anyhow::Result<()> {
    let reader = Reader::open(&rig.setup.data).await?;
    let damage = reader.damage().await?;
    reader.close().await?;
    outcome.count("integrity checks", 1);
    outcome.expect(damage.is_empty(), || format!("the database is damaged: {damage:?}"));
    Ok(())
}

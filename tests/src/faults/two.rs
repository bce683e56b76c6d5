//! F5: a second server is started on the same data. It refuses, and says why; the first does not notice.

use std::fs;

use super::{
    judge::Rules,
    report::Outcome,
    rig::{Plan, Rig, SENDERS, SLOTS},
};
use crate::product::Ended;

/// What the second says.
const SAYS: &str = "another sheaf server is using";

/// Starts a second one so often, while the first is under load.
pub async fn run(plan: Plan, cycles: usize) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    let rig = Rig::new(Plan { senders: SENDERS, ..plan }).await?;
    let mut second = rig.setup.clone();
    let first = rig.start().await?;
    rig.aim(&first)?;
    // A log of its own.
    second.directory = rig.folder().join("second/integration");
    fs::create_dir_all(rig.folder().join("second"))?;
    crate::product::write_bundles(&second.directory)?;
    for _ in 0..cycles {
        let before = rig.ripe(std::time::Duration::ZERO).await;
        let refused = second.start().await.err();
        let ended = refused.as_ref().and_then(|error| error.downcast_ref::<Ended>());
        let code = ended.and_then(|ended| ended.status.code());
        outcome.expect(code == Some(1), || format!("the second did not refuse to start: {refused:?}"));
        let says = fs::read_to_string(second.log())?.lines().last().is_some_and(|line| line.contains(SAYS));
        outcome.expect(says, || "the second does not say that another server is there".to_owned());
        let after = rig.ripe(std::time::Duration::ZERO).await;
        outcome.cycle(
            format!("{} and {} acknowledged around it", before.acknowledged, after.acknowledged),
            after.bit(),
        );
    }
    rig.finish(Rules { concurrency: SLOTS, ..Rules::default() }).await?.tell(&mut outcome);
    drop(first);
    Ok(outcome)
}

//! Ten thousand active bundles on a thousand connections: what they cost when only some are used, and when all are.

use std::{fs, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use sheaf_runtime::token::MasterKey;

use super::{
    lab::{Lab, tell},
    pairs::{self, Compared, nothing_lost},
};
use crate::{
    bench::drained,
    faults::report::Outcome,
    load::Template,
    product::{Product, Setup},
    sink::Sink,
};

/// Bundles between a hook and a vendor, so that there are ten for each connection; each takes the calls of one campaign.
const BUNDLES_PER_SITE: usize = 20;
/// The least speed, as a share of what it is with the usual bundles alone.
const SHARE_MIN: f64 = 0.85;
/// Longest time until it is ready.
const READY_MAX: Duration = Duration::from_secs(3);
/// The generation of a hook's token that was never rotated.
const GENERATION: u32 = 1;

/// So many bundles.
pub async fn run(lab: &Lab, bundles: usize, outcome: &mut Outcome) -> anyhow::Result<()> {
    let folder = lab.folder()?;
    let sink = lab.sink(Duration::ZERO).await?;
    let sites = bundles.div_ceil(BUNDLES_PER_SITE);
    let alone = |folder: &Path| Setup::fresh(&lab.sheaf, folder, sink.origin());
    let many = alone(folder.path())?;
    write_files(&many.directory, sites)?;
    let first = ready(&many, "first start", outcome).await?;
    drop(first);
    let product = ready(&many, "second start", outcome).await?;
    let beside = lab.folder()?;
    let few = alone(beside.path())?.start().await?;
    tokio::time::sleep(lab.duration).await;
    let (many_kib, few_kib) = (product.process.memory_kib()?.0, few.process.memory_kib()?.0);
    outcome.figure("memory with the usual bundles, MiB", few_kib as f64 / 1024.0);
    outcome.figure("memory with many, MiB", many_kib as f64 / 1024.0);
    let each_kib = many_kib.saturating_sub(few_kib) as f64 / bundles as f64;
    outcome.figure("memory per bundle, KiB", each_kib);
    tell(&format!("{:.0} MiB, {each_kib:.1} KiB for each bundle", many_kib as f64 / 1024.0));
    drop(few);
    all_used(lab, &many, &product, sites, &sink, outcome).await?;
    drop(product);
    let compared = Compared { what: "with many", this: &many, fresh: &alone, share_min: SHARE_MIN };
    pairs::compare(lab, &sink, &compared, outcome).await?;
    Ok(())
}

async fn ready(setup: &Setup, which: &str, outcome: &mut Outcome) -> anyhow::Result<Product> {
    let product = setup.start().await?;
    let took_ms = product.ready_after.as_secs_f64() * 1_000.0;
    outcome.figure(&format!("{which}: ready after, ms"), took_ms);
    outcome.cycle(format!("{which}: ready after {took_ms:.0} ms"), true);
    tell(&format!("{which}: ready after {took_ms:.0} ms"));
    outcome.expect_speed(product.ready_after < READY_MAX, || format!("{which}: ready after {took_ms:.0} ms"));
    Ok(product)
}

/// Sites beside the usual one, each with a hook, a vendor's account and its bundles.
fn write_files(directory: &Path, sites: usize) -> anyhow::Result<()> {
    const HOOK: &str = "connection: calltouch-main";
    const VENDOR: &str = "connection: mindbox-main";
    const NAME: &str = "name: mindbox-dynamic";
    let text = fs::read_to_string(directory.join("bundles/mindbox-dynamic.yaml"))?;
    let hook = fs::read_to_string(directory.join("connections/calltouch-main.yaml"))?;
    let vendor = fs::read_to_string(directory.join("connections/mindbox-main.yaml"))?;
    let (before, after) = text.split_once("filter:").context("a bundle has a filter")?;
    let (_, after) = after.split_once("\nsteps:").context("a bundle has steps")?;
    ensure!(
        before.contains(HOOK) && before.contains(NAME) && after.contains(VENDOR),
        "the example's bundle reads otherwise"
    );
    for name in (0..sites).map(site) {
        let file = |kind| directory.join(format!("connections/{name}{kind}.yaml"));
        fs::write(file(""), hook.replace("name: calltouch-main", &format!("name: {name}")))?;
        fs::write(file("-crm"), vendor.replace("name: mindbox-main", &format!("name: {name}-crm")))?;
        let after = after.replace(VENDOR, &format!("connection: {name}-crm"));
        for campaign in (0..BUNDLES_PER_SITE).map(campaign) {
            let before = before
                .replace(HOOK, &format!("connection: {name}"))
                .replace(NAME, &format!("name: {name}-{campaign}"));
            let filter = format!("filter: utm_campaign = \"{campaign}\"\nsteps:");
            fs::write(directory.join(format!("bundles/{name}-{campaign}.yaml")), before + &filter + &after)?;
        }
    }
    Ok(())
}

fn site(number: usize) -> String {
    format!("site-{number}")
}

fn campaign(number: usize) -> String {
    format!("campaign-{number}")
}

/// Calls for all of them in turns: each is decided by all bundles of its site, and taken by one.
async fn all_used(
    lab: &Lab,
    setup: &Setup,
    product: &Product,
    sites: usize,
    sink: &Sink,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let key = MasterKey::load(None, &setup.data)?;
    let bundles = (0..sites).flat_map(|number| (0..BUNDLES_PER_SITE).map(move |own| (number, own)));
    let templates: Arc<[Template]> = bundles
        .map(|(number, own)| {
            let path = format!("/hooks/{}", key.token(&site(number), GENERATION).expose());
            Template::call_of_campaign(product.hooks, &path, &campaign(own))
        })
        .collect();
    let load = lab.load(product.hooks, templates);
    let all = drained(load, sink).await?;
    nothing_lost(&all, outcome);
    outcome.figure("all bundles in turns: events/s", all.events_per_s);
    outcome
        .cycle(format!("all bundles in turns: {:.0} events/s", all.events_per_s), all.outcome.refused == 0);
    tell(&format!("all bundles in turns: {:.0} events/s", all.events_per_s));
    Ok(())
}

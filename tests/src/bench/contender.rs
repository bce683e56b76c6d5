//! Whoever is measured, as a process of its own.

use std::{collections::BTreeMap, ffi::OsStr, net::SocketAddr, path::Path, time::Duration};

use serde::Serialize;

use super::Plan;
use crate::{
    ceiling,
    process::Process,
    product::{self, Setup},
};

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Contender {
    /// The product.
    Sheaf,
    /// Ceiling (a).
    NoStorage,
    /// Ceiling (b).
    Durable,
}

impl Contender {
    /// All, the product between its ceilings.
    pub const ALL: [Contender; 3] = [Contender::NoStorage, Contender::Sheaf, Contender::Durable];

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Contender::Sheaf => "sheaf",
            Contender::NoStorage => "ceiling a",
            Contender::Durable => "ceiling b",
        }
    }
}

/// A contender that is ready.
pub(super) struct Running {
    pub(super) process: Process,
    pub(super) address: SocketAddr,
    pub(super) path: String,
    pub(super) ready_after: Duration,
    metrics: SocketAddr,
}

impl Running {
    pub(super) async fn start(
        contender: Contender,
        plan: &Plan,
        data: &Path,
        receiver: &str,
    ) -> anyhow::Result<Running> {
        match contender {
            Contender::Sheaf => Running::sheaf(plan, data, receiver).await,
            Contender::NoStorage => Running::ceiling(plan, receiver, None),
            Contender::Durable => {
                let database = match &plan.postgres {
                    Some(databases) => databases.ceiling.url().into(),
                    None => data.join("ceiling.db").into_os_string(),
                };
                Running::ceiling(plan, receiver, Some(&database))
            }
        }
    }

    async fn sheaf(plan: &Plan, data: &Path, receiver: &str) -> anyhow::Result<Running> {
        let setup = Setup::fresh(&plan.sheaf, data, receiver.to_owned())?;
        let setup = match &plan.postgres {
            Some(databases) => databases.of_product(setup),
            None => setup,
        };
        let product = setup.start().await?;
        Ok(Running {
            path: setup.hook_path()?,
            address: product.hooks,
            metrics: product.management,
            ready_after: product.ready_after,
            process: product.process,
        })
    }

    fn ceiling(plan: &Plan, receiver: &str, database: Option<&OsStr>) -> anyhow::Result<Running> {
        let it = ceiling::process::start(&plan.harness, receiver, database)?;
        let path = ceiling::PATH.to_owned();
        Ok(Running {
            process: it.process,
            address: it.address,
            path,
            ready_after: it.ready_after,
            metrics: it.address,
        })
    }

    /// The counters of its writer, by name.
    pub(super) async fn counters(&self) -> anyhow::Result<BTreeMap<String, f64>> {
        Ok(counters(&product::get(self.metrics, "/metrics").await?))
    }
}

/// What a writer counts, beside its commits: what it stored, and what it flagged as done.
const COUNTED: [&str; 4] = ["published", "settled", "appended", "done"];

fn counters(metrics: &str) -> BTreeMap<String, f64> {
    let samples = metrics.lines().filter_map(|line| line.split_once("_total "));
    let values = samples.filter_map(|(name, value)| Some((name.rsplit('_').next()?, value.parse().ok()?)));
    let wanted = values.filter(|(name, _)| *name == "commits" || COUNTED.contains(name));
    wanted.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Average sizes of the batches between two readings.
pub(super) fn batches(
    before: &BTreeMap<String, f64>,
    after: &BTreeMap<String, f64>,
) -> BTreeMap<String, f64> {
    let grown = |name: &str| Some(after.get(name)? - before.get(name)?);
    let average = |name: &str| Some(grown(name)? / grown("commits").filter(|commits| *commits > 0.0)?);
    COUNTED.iter().filter_map(|name| Some(((*name).to_owned(), average(name)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_sizes_are_what_grew_by_commits_between_two_readings() {
        let read = |commits, published| {
            counters(&format!(
                "# TYPE x counter\nsheaf_queue_commits_total {commits}\nsheaf_queue_published_total {published}\nother_total 9\n"
            ))
        };
        let sizes = batches(&read(10, 100), &read(13, 190));
        assert_eq!(sizes.into_iter().collect::<Vec<_>>(), [("published".to_owned(), 30.0)]);
        assert!(batches(&read(1, 1), &read(1, 1)).is_empty(), "nothing was committed");
    }
}

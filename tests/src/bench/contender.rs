//! Whoever is measured, as a process of its own.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, time::Duration};

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
            Contender::Durable => Running::ceiling(plan, receiver, Some(&data.join("ceiling.db"))),
        }
    }

    async fn sheaf(plan: &Plan, data: &Path, receiver: &str) -> anyhow::Result<Running> {
        let directory = data.join("integration");
        product::write_bundles(&directory)?;
        let setup = Setup {
            binary: plan.sheaf.clone(),
            directory,
            data: data.join("data"),
            receiver: receiver.to_owned(),
            slots: None,
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

    fn ceiling(plan: &Plan, receiver: &str, database: Option<&Path>) -> anyhow::Result<Running> {
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

    /// Average batch sizes: of every `…batch…` histogram in the metrics, sum over count.
    pub(super) async fn batches(&self) -> BTreeMap<String, f64> {
        let text = product::get(self.metrics, "/metrics").await.unwrap_or_default();
        averages(&text)
    }
}

fn averages(metrics: &str) -> BTreeMap<String, f64> {
    let value = |name: &str| {
        let line =
            metrics.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    let names = metrics.lines().filter_map(|line| line.split_once("_count ")).map(|(name, _)| name);
    let batches = names.filter(|name| name.contains("batch"));
    let average = |name: &str| Some(value(&format!("{name}_sum"))? / value(&format!("{name}_count"))?);
    batches.filter_map(|name| Some((name.to_owned(), average(name).filter(|it| it.is_finite())?))).collect()
}

#[cfg(test)]
mod tests {
    use super::averages;

    #[test]
    fn batch_sizes_are_sums_over_counts() {
        let metrics =
            "# TYPE commit_batch histogram\ncommit_batch_sum 90.0\ncommit_batch_count 3\nother_count 1\n";
        assert_eq!(averages(metrics).into_iter().collect::<Vec<_>>(), [("commit_batch".to_owned(), 30.0)]);
        assert!(averages("a_batch_sum 0\na_batch_count 0\n").is_empty());
    }
}

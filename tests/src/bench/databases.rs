//! Databases on a PostgreSQL that is started for them: the product's and its ceiling's, with runs that are over.

use std::path::Path;

use anyhow::{Context, ensure};
use tempfile::TempDir;

use super::STOPPED_WITHIN;
use crate::{
    ceiling,
    clock::unix_ns,
    faults::rig::MASTER_KEY,
    postgres::{TestDatabase, missing},
    product::Setup,
};

/// A receiver that gets nothing.
const NOBODY: &str = "http://127.0.0.1:9";

/// Both, and their server.
#[derive(Debug)]
pub struct Databases {
    /// Runs that were in each before.
    pub runs: u64,
    /// Dropped before the server that it is on.
    pub(super) ceiling: TestDatabase,
    product: TestDatabase,
    /// The product is the same node in every round.
    data: TempDir,
}

impl Databases {
    /// Starts the server with its files on the disk that is measured, and puts so many runs in each.
    pub async fn filled(sheaf: &Path, root: &Path, runs: u64) -> anyhow::Result<Databases> {
        ensure!(missing().is_none(), "PostgreSQL is not installed; `make postgres` installs it");
        let (product, data) = (TestDatabase::measured(root), tempfile::tempdir_in(root)?);
        let databases = Databases { runs, ceiling: product.beside(), product, data };
        ceiling::postgres::fill(&databases.ceiling.url(), runs).await?;
        let folder = tempfile::tempdir()?;
        let setup = databases.of_product(Setup::fresh(sheaf, folder.path(), NOBODY.to_owned())?);
        // Makes the tables and knows the bundles from then on.
        let mut product = setup.start().await?;
        product.process.stop(STOPPED_WITHIN).await?.context("it did not stop")?;
        fill(&databases.product, "calltouch-main", runs);
        Ok(databases)
    }

    /// The same on the product's database.
    pub(super) fn of_product(&self, setup: Setup) -> Setup {
        let setup = setup.with("SHEAF_DATABASE", &self.product.url()).with("SHEAF_MASTER_KEY", MASTER_KEY);
        Setup { data: self.data.path().to_owned(), ..setup }
    }

    /// Does what a round left for later, so that the next one does not pay for it.
    pub(super) fn tidy(&self) {
        for database in [&self.product, &self.ceiling] {
            database.sql("VACUUM ANALYZE");
            database.sql("CHECKPOINT");
        }
    }
}

/// Puts runs that were delivered into the product's tables, with their events, identities and counts.
pub fn fill(database: &TestDatabase, connection: &str, runs: u64) {
    /// The low bits of an id below its millisecond.
    const ONE_MS: i64 = 1 << 22;
    let now_ms = unix_ns() / 1_000_000;
    let id = format!("{now_ms}::bigint * {ONE_MS} - n * {ONE_MS}");
    let rows =
        format!("FROM generate_series(1, {runs}::bigint) n, connection c WHERE c.name = '{connection}'");
    database.sql(&format!(
        "INSERT INTO connection (name) VALUES ('{connection}') ON CONFLICT DO NOTHING;
         INSERT INTO event SELECT {id}, c.id, {now_ms}, 0, NULL, NULL {rows};
         INSERT INTO body SELECT {id}, '{{\"m\":\"POST\"}}', '' {rows};
         INSERT INTO dedupe SELECT hashint8extended(n, 1), hashint8extended(n, 2), {id} {rows};
         INSERT INTO run (id, event, version, started_ms, finished_ms, connection, fence, attempt, generation, state,
             deliveries, class)
         SELECT {id}, {id}, (SELECT min(id) FROM version), {now_ms}, {now_ms}, c.id, 1, 0, 0, 0, '[]', 'ok' {rows};
         INSERT INTO ledger_of_node (node, connection, received, accepted, duplicate, quarantined, unrouted,
             decisions, delivered, filtered, parked, pending, discarded)
         SELECT 0, id, {runs}, {runs}, 0, 0, 0, {runs}, {runs}, 0, 0, 0, 0 FROM connection WHERE name = '{connection}'"
    ));
    database.sql("VACUUM ANALYZE");
    database.sql("CHECKPOINT");
}

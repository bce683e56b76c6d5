//! F14: the database of the oldest sheaf, filled, is brought up to date by a server that is killed at one of the writes, fsyncs
//! and sends that this takes. The next one finishes that, and everything acknowledged before is delivered.
//!
//! The older database is what the older migrations make, with the rows that a server under load left when it was killed,
//! as far as the older tables have room for them.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::{Context, ensure};
use rand::{Rng, SeedableRng, rngs::StdRng};
use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, DbBackend, Statement};

use super::{
    calls::{self, CALLS, spread},
    judge::Rules,
    lab::Lab,
    report::Outcome,
    rig::{Plan, Rig, SENDERS, SLOTS},
    strace::{self, Injection},
};
use crate::{
    postgres::{self, TestDatabase},
    product::{Ended, Setup},
};

/// Longest random wait between an acknowledgement and the kill that leaves the rows.
const KILL_AFTER_MS_MAX: u64 = 150;
/// The schema of the oldest sheaf.
const OLDEST: i64 = 1;
/// The file of an embedded database, and what SQLite keeps beside it.
const FILE: &str = "sheaf.db";
const BESIDE: [&str; 2] = ["sheaf.db-wal", "sheaf.db-shm"];

/// A database under test, filled and of the oldest schema.
struct Older {
    rig: Rig,
    postgres: Option<TestDatabase>,
    present: i64,
}

/// About so many kills on each kind of database, spread over the calls of the migrations.
pub async fn run(lab: &Lab, plan: Plan, kills: usize) -> anyhow::Result<Outcome> {
    let mut outcome =
        Outcome { missing_tool: strace::missing().or_else(postgres::missing), ..Outcome::default() };
    if outcome.missing_tool.is_some() {
        return Ok(outcome);
    }
    let mut randomness = StdRng::seed_from_u64(lab.seed);
    for on_postgres in [false, true] {
        let name = if on_postgres { "PostgreSQL" } else { "SQLite" };
        let calls = counted(Older::filled(lab, &plan, on_postgres, &mut randomness).await?).await?;
        let each = kills.div_ceil(calls.len().max(1));
        let all =
            calls.iter().flat_map(|(call, count)| spread(*count, each, lab.seed).map(move |at| (*call, at)));
        for (call, at) in all.take(kills) {
            let older = Older::filled(lab, &plan, on_postgres, &mut randomness).await?;
            let injection = Injection { call: call.to_owned(), what: "signal=KILL", when: at.to_string() };
            killed(older, name, &injection, &mut outcome)
                .await
                .with_context(|| format!("{name}, {call} {at}"))?;
        }
        // Some kills come after the last of them: of a start that talks over several connections one knows only about how many.
        if outcome.figures.get(&in_the_middle(name)).is_none_or(|left| *left == 0.0) {
            outcome.invalid.push(format!("{name}: no kill came in the middle of the migrations"));
        }
    }
    Ok(outcome)
}

fn in_the_middle(name: &str) -> String {
    format!("{name}: left in the middle of the migrations")
}

/// How often bringing it up to date makes each call: what its start takes and the next one does not.
async fn counted(older: Older) -> anyhow::Result<Vec<(&'static str, usize)>> {
    let mut first = started(&older, "first").await?;
    let second = started(&older, "second").await?;
    let more = CALLS.iter().filter_map(|call| {
        let more = first.remove(*call)?.saturating_sub(second.get(*call).copied().unwrap_or(0));
        Some((*call, more)).filter(|(_, more)| *more > 0)
    });
    let more: Vec<_> = more.collect();
    ensure!(!more.is_empty(), "strace saw no call of a migration");
    Ok(more)
}

/// The calls of one start.
async fn started(older: &Older, name: &str) -> anyhow::Result<BTreeMap<String, usize>> {
    let trace = older.rig.folder().join(name);
    let launcher = strace::launcher(&CALLS, None, &trace);
    let mut product = Setup { launcher, ..older.rig.setup.clone() }.start().await?;
    product.process.kill()?;
    strace::counts(&trace)
}

async fn killed(
    mut older: Older,
    name: &str,
    injection: &Injection,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let rig = &mut older.rig;
    rig.setup.launcher = strace::launcher(&CALLS, Some(injection), &rig.folder().join("trace"));
    let died = match rig.setup.start().await {
        Ok(mut product) => calls::gone(&mut product.process).await?,
        Err(error) => error.downcast_ref::<Ended>().is_some_and(|ended| calls::was_killed(ended.status)),
    };
    rig.setup.launcher = Vec::new();
    rig.died(1).await;
    let present = older.present;
    let left = older.found().await?;
    outcome.count(&in_the_middle(name), usize::from(left < present));
    let last = older.rig.start().await?;
    outcome.expect(older.found().await? == present, || format!("{name} stays at schema {left}"));
    let judgement = older.rig.finish(Rules { concurrency: 2 * SLOTS, ..Rules::default() }).await?;
    judgement.tell(outcome);
    outcome.cycle(
        format!("{name}: {} {} left schema {left} of {present}", injection.call, injection.when),
        died,
    );
    drop(last);
    Ok(())
}

impl Older {
    async fn filled(
        lab: &Lab,
        plan: &Plan,
        on_postgres: bool,
        randomness: &mut StdRng,
    ) -> anyhow::Result<Older> {
        let postgres = on_postgres.then(TestDatabase::new);
        let plan = Plan { senders: SENDERS, ..plan.clone() };
        let plan = postgres.iter().fold(plan, |plan, database| plan.on(database));
        let rig = Rig::new(plan).await?;
        let mut product = rig.start().await?;
        rig.aim(&product)?;
        rig.ripe(Duration::from_millis(randomness.random_range(0..=KILL_AFTER_MS_MAX))).await;
        rig.kill(&mut product.process, 0).await?;
        let mut older = Older { rig, postgres, present: 0 };
        older.present = older.found().await?;
        older.age(lab).await?;
        let found = older.found().await?;
        ensure!(found == OLDEST, "the older database has schema {found}");
        Ok(older)
    }

    /// The schema of the database.
    async fn found(&self) -> anyhow::Result<i64> {
        if let Some(database) = &self.postgres {
            return Ok(database.sql("SELECT max(version) FROM sheaf_schema").parse()?);
        }
        let file = opened(&self.rig.setup.data.join(FILE)).await?;
        let row =
            file.query_one_raw(Statement::from_string(DbBackend::Sqlite, "PRAGMA user_version")).await?;
        let found = row.context("SQLite has a version")?.try_get_by_index(0)?;
        file.close().await?;
        Ok(found)
    }

    /// Has the older migrations make the tables, and gives them the rows.
    async fn age(&self, lab: &Lab) -> anyhow::Result<()> {
        let data = self.rig.folder().join("older");
        let maker = Setup { binary: lab.faulty.clone(), data: data.clone(), ..self.rig.setup.clone() };
        let maker = maker.with("SHEAF_FAULT", &format!("schema-{OLDEST}"));
        if let Some(database) = &self.postgres {
            database.set_aside();
            made(&maker).await?;
            database.take_back();
            return Ok(());
        }
        made(&maker).await?;
        let (present, older) = (self.rig.setup.data.join(FILE), data.join(FILE));
        copied(&present, &older).await?;
        for left in BESIDE {
            // Whoever closes a database last removes them.
            let _ = fs::remove_file(present.with_file_name(left));
        }
        Ok(fs::rename(older, present)?)
    }
}

/// It makes the tables and ends.
async fn made(maker: &Setup) -> anyhow::Result<()> {
    match maker.start().await {
        Ok(_) => anyhow::bail!("a build that only makes the tables of an older sheaf serves"),
        Err(error) if error.is::<Ended>() => Ok(()),
        Err(error) => Err(error),
    }
}

async fn copied(present: &Path, older: &Path) -> anyhow::Result<()> {
    let file = opened(older).await?;
    file.execute_unprepared(&format!("ATTACH '{}' AS present", present.display())).await?;
    for table in texts(&file, "SELECT name FROM main.sqlite_schema WHERE type = 'table'").await? {
        let shared = format!(
            "SELECT name FROM pragma_table_info('{table}', 'main') \
             INTERSECT SELECT name FROM pragma_table_info('{table}', 'present')"
        );
        let columns = texts(&file, &shared).await?.join(", ");
        let copy = format!("INSERT INTO main.{table} ({columns}) SELECT {columns} FROM present.{table}");
        file.execute_unprepared(&copy).await.context(copy)?;
    }
    file.execute_unprepared("DETACH present").await?;
    Ok(file.close().await?)
}

async fn opened(file: &Path) -> anyhow::Result<DatabaseConnection> {
    let mut options = ConnectOptions::new(format!("sqlite://{}", file.display()));
    options.max_connections(1).sqlx_logging(false);
    Database::connect(options).await.with_context(|| file.display().to_string())
}

async fn texts(file: &DatabaseConnection, sql: &str) -> anyhow::Result<Vec<String>> {
    let rows = file.query_all_raw(Statement::from_string(DbBackend::Sqlite, sql)).await?;
    rows.iter().map(|row| Ok(row.try_get_by_index(0)?)).collect()
}

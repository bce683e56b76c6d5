//! F7 on one machine: a server is stopped past its lease, another takes its runs, the first wakes up with the answers.
//!
//! One file has one server, by a lock beside it. There that lock is taken away, as a person does who thinks it is left over,
//! or a disk shared by two machines; then the fence alone stands between the two.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use rustix::process::Signal;
use tokio::sync::watch;

use super::{database::Reader, report::Outcome, rig::Plan};
use crate::{
    clock::unix_ns,
    load::Template,
    postgres::{self, TestDatabase},
    product::{Product, Setup},
    wire::{Client, Reply, Server},
};

/// Runs in flight when the first server is stopped.
const RUNS: usize = 8;
/// The lease of both servers.
pub const LEASE: Duration = Duration::from_secs(1);
/// Longest time for anything here.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often something is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How often a server that was stopped inside a commit is let go and stopped again.
const TRIES: usize = 5;

/// A receiver that answers only as many requests, in the order they came, as it is allowed to.
struct Gate {
    server: Server,
    came: Arc<AtomicUsize>,
    allowed: watch::Sender<usize>,
}

/// The database of both servers.
enum Place {
    /// One file; the second server has the same data directory.
    File,
    /// One PostgreSQL; the second server is another node.
    Postgres(TestDatabase),
}

/// So many zombies on one file.
pub async fn run(plan: Plan, cycles: usize) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    for number in 1..=cycles {
        one(&plan, &Place::File, &mut outcome).await.with_context(|| format!("zombie {number}"))?;
    }
    Ok(outcome)
}

/// So many zombies among the nodes of one PostgreSQL.
pub async fn on_postgres(plan: Plan, cycles: usize) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome { missing_tool: postgres::missing(), ..Outcome::default() };
    let cycles = if outcome.missing_tool.is_some() { 0 } else { cycles };
    for number in 1..=cycles {
        let database = TestDatabase::new();
        let plan = plan.clone().on(&database);
        let place = Place::Postgres(database);
        one(&plan, &place, &mut outcome).await.with_context(|| format!("zombie {number}"))?;
    }
    Ok(outcome)
}

async fn one(plan: &Plan, place: &Place, outcome: &mut Outcome) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("zombie-").tempdir_in(&plan.data_root)?;
    let gate = Gate::start().await?;
    let setup = plan.setup(folder.path(), gate.server.origin())?;
    cycle(&setup, place, &gate, outcome).await
}

async fn cycle(setup: &Setup, place: &Place, gate: &Gate, outcome: &mut Outcome) -> anyhow::Result<()> {
    let first = setup.start().await?;
    send(&first, &setup.hook_path()?).await?;
    outcome.count("acknowledged", RUNS);
    gate.came(RUNS).await?;
    let _second = place.take_over(setup, &first).await?;
    // The second has taken all of them, and asks the receiver again.
    gate.came(2 * RUNS).await?;
    tokio::time::sleep(LEASE).await;
    gate.allowed.send_replace(RUNS);
    first.process.signal(Signal::CONT)?;
    let refused = ended(&first, setup, place).await?;
    let accepted = place.stale(setup).await?;
    outcome.count("stale settles refused", refused);
    outcome.count("stale settles accepted", accepted);
    outcome
        .expect(accepted == 0, || format!("{accepted} settles of a server that had lost its lease counted"));

    gate.allowed.send_replace(usize::MAX);
    let settled = until(async || Ok(place.finished(setup).await? >= RUNS)).await?;
    outcome.expect(settled || accepted > 0, || "the second server did not settle what it took".to_owned());
    outcome.cycle(format!("{RUNS} runs taken over, {refused} stale settles refused"), refused + accepted > 0);
    Ok(())
}

async fn send(product: &Product, path: &str) -> anyhow::Result<()> {
    let template = Template::call(product.hooks, path, true);
    let (mut client, mut buffer) = (Client::connect(product.hooks).await?, Vec::new());
    for _ in 0..RUNS {
        template.fill(unix_ns(), &mut buffer);
        let answer = client.exchange(&buffer).await?;
        ensure!(answer.status() == 200, "a call was answered {}", answer.status());
    }
    Ok(())
}

/// Waits until the woken server has tried to settle, one way or the other: how many of its claims were refused.
async fn ended(first: &Product, setup: &Setup, place: &Place) -> anyhow::Result<usize> {
    let refused = || first.metric("sheaf_queue_stale_total");
    until(async || Ok(refused().await? >= RUNS || place.stale(setup).await? >= RUNS)).await?;
    refused().await
}

impl Place {
    /// The first is stopped, the second starts.
    async fn take_over(&self, setup: &Setup, first: &Product) -> anyhow::Result<Product> {
        let mut tries = 0;
        loop {
            tries += 1;
            first.process.signal(Signal::STOP)?;
            match self.second(setup)?.start().await {
                Ok(second) => return Ok(second),
                // It stopped inside a commit, and holds the database's own lock.
                Err(error) if tries == TRIES => return Err(error),
                Err(_) => first.process.signal(Signal::CONT)?,
            }
        }
    }

    /// How the second server is started.
    fn second(&self, setup: &Setup) -> anyhow::Result<Setup> {
        match self {
            Place::File => {
                std::fs::remove_file(setup.data.join("sheaf.db.lock")).context("the lock is there")?;
                Ok(setup.clone())
            }
            Place::Postgres(_) => {
                Ok(Setup { data: setup.data.with_file_name("second-data"), ..setup.clone() })
            }
        }
    }

    /// Runs that are over.
    async fn finished(&self, setup: &Setup) -> anyhow::Result<usize> {
        self.count(setup, "SELECT count(*) FROM run").await
    }

    /// Ends of attempts by the first server, after the second took all of them and before it ended one.
    async fn stale(&self, setup: &Setup) -> anyhow::Result<usize> {
        const STALE: &str =
            "SELECT (SELECT count(*) FROM run) + (SELECT count(*) FROM attempt WHERE fence < 2)";
        self.count(setup, STALE).await
    }

    async fn count(&self, setup: &Setup, sql: &str) -> anyhow::Result<usize> {
        match self {
            Place::File => {
                let reader = Reader::open(&setup.data).await?;
                let rows = reader.rows(sql).await?;
                let counted: i64 = rows.first().context("a count")?.try_get_by_index(0)?;
                reader.close().await?;
                Ok(usize::try_from(counted)?)
            }
            Place::Postgres(database) => Ok(database.sql(sql).parse()?),
        }
    }
}

/// Whether it came to that in time.
async fn until(mut reached: impl AsyncFnMut() -> anyhow::Result<bool>) -> anyhow::Result<bool> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if reached().await? {
            return Ok(true);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(false)
}

impl Gate {
    async fn start() -> anyhow::Result<Gate> {
        let came = Arc::new(AtomicUsize::new(0));
        let (allowed, watching) = watch::channel(0);
        let counting = Arc::clone(&came);
        let server = Server::start(move |_| {
            let number = counting.fetch_add(1, Ordering::Relaxed);
            let mut watching = watching.clone();
            async move {
                // An error is the end of the cycle.
                let _ = watching.wait_for(|allowed| *allowed > number).await;
                Reply::answer(200, &[("Content-Type", "application/json")], br#"{"status":"Success"}"#)
            }
        })
        .await?;
        Ok(Gate { server, came, allowed })
    }

    async fn came(&self, count: usize) -> anyhow::Result<()> {
        let all = until(async || Ok(self.came.load(Ordering::Relaxed) >= count)).await?;
        ensure!(all, "{} of {count} requests came", self.came.load(Ordering::Relaxed));
        Ok(())
    }
}

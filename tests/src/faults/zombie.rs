//! F7 on one machine: a server is stopped past its lease, another takes its runs, the first wakes up with the answers.
//!
//! One file has one server, by a lock beside it. Here that lock is taken away, as a person does who thinks it is left over,
//! or a disk shared by two machines; then the fence alone stands between the two.

use std::{
    path::Path,
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
    product::{Product, Setup, get},
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

/// So many zombies.
pub async fn run(plan: Plan, cycles: usize) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    for number in 1..=cycles {
        let folder = tempfile::Builder::new().prefix("zombie-").tempdir_in(&plan.data_root)?;
        let gate = Gate::start().await?;
        let setup = plan.setup(folder.path(), gate.server.origin())?;
        cycle(&setup, &gate, &mut outcome).await.with_context(|| format!("zombie {number}"))?;
    }
    Ok(outcome)
}

async fn cycle(setup: &Setup, gate: &Gate, outcome: &mut Outcome) -> anyhow::Result<()> {
    let first = setup.start().await?;
    send(&first, &setup.hook_path()?).await?;
    outcome.count("acknowledged", RUNS);
    gate.came(RUNS).await?;
    let _second = take_over(setup, &first).await?;
    // The second has taken all of them, and asks the receiver again.
    gate.came(2 * RUNS).await?;
    tokio::time::sleep(LEASE).await;
    gate.allowed.send_replace(RUNS);
    first.process.signal(Signal::CONT)?;
    let refused = ended(&first, &setup.data).await?;
    let accepted = stale(&setup.data).await?;
    outcome.count("stale settles refused", refused);
    outcome.count("stale settles accepted", accepted);
    outcome
        .expect(accepted == 0, || format!("{accepted} settles of a server that had lost its lease counted"));

    gate.allowed.send_replace(usize::MAX);
    let settled = until(async || Ok(finished(&setup.data).await? >= RUNS)).await?;
    outcome.expect(settled || accepted > 0, || "the second server did not settle what it took".to_owned());
    outcome.cycle(format!("{RUNS} runs taken over, {refused} stale settles refused"), refused + accepted > 0);
    Ok(())
}

/// The first is stopped, its lock is taken away, the second starts.
async fn take_over(setup: &Setup, first: &Product) -> anyhow::Result<Product> {
    let mut tries = 0;
    loop {
        tries += 1;
        first.process.signal(Signal::STOP)?;
        std::fs::remove_file(setup.data.join("sheaf.db.lock")).context("the lock is there")?;
        match setup.start().await {
            Ok(second) => return Ok(second),
            // It stopped inside a commit, and holds the database's own lock.
            Err(error) if tries == TRIES => return Err(error),
            Err(_) => first.process.signal(Signal::CONT)?,
        }
    }
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
async fn ended(first: &Product, data: &Path) -> anyhow::Result<usize> {
    let refused = async || {
        let page = get(first.management, "/metrics").await?;
        let line = page.lines().find_map(|line| line.strip_prefix("sheaf_queue_stale_total "));
        Ok::<usize, anyhow::Error>(line.context("the metric of stale settles")?.parse()?)
    };
    until(async || Ok(refused().await? >= RUNS || stale(data).await? >= RUNS)).await?;
    refused().await
}

/// Ends of attempts with the first server's fence, after the second took all of them.
async fn stale(data: &Path) -> anyhow::Result<usize> {
    count(
        data,
        "SELECT (SELECT count(*) FROM run WHERE fence < 2) + (SELECT count(*) FROM attempt WHERE fence < 2)",
    )
    .await
}

async fn finished(data: &Path) -> anyhow::Result<usize> {
    count(data, "SELECT count(*) FROM run").await
}

async fn count(data: &Path, sql: &str) -> anyhow::Result<usize> {
    let reader = Reader::open(data).await?;
    let rows = reader.rows(sql).await?;
    let counted: i64 = rows.first().context("a count")?.try_get_by_index(0)?;
    reader.close().await?;
    Ok(usize::try_from(counted)?)
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

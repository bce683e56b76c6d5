//! F4: the disk fails. Nothing is acknowledged that is not stored, the server says that it is not ready, and goes on by
//! itself once it can; after a failed fsync it ends instead, since nobody knows what the disk holds.

use std::{
    fs::{self, File},
    io::Write,
    net::SocketAddr,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rustix::process::Signal;

use super::{
    disk::{self, Disk},
    judge::Rules,
    lab::Lab,
    ledger::Entry,
    report::Outcome,
    rig::{Plan, Rig, SENDERS, SLOTS},
    strace,
};
use crate::{
    load::Template,
    process::Process,
    product::{Ended, Product, get},
    wire::Client,
};

/// Longest random wait between the first acknowledgement and the fault.
const AFTER_MS_MAX: u64 = 150;
/// Longest time until a fault shows, and until the product is well again without it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Size of the disk that runs full, bytes: the database's log may take 32 MiB.
const SMALL_BYTES: u64 = 64 * 1024 * 1024;
/// What the file that fills it is written in, bytes.
const FILL_BYTES: usize = 64 * 1024;

/// What goes wrong, in turns.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// An fsync fails.
    Sync,
    /// Writes fail for a while with this error.
    Write(&'static str),
    /// The disk is full for a while.
    Full,
    /// It is started on a disk that is read-only.
    ReadOnly,
}

const FAULTS: [Fault; 6] = [
    Fault::Sync,
    Fault::Write("EIO"),
    Fault::Full,
    Fault::Write("EROFS"),
    Fault::Write("ENOSPC"),
    Fault::ReadOnly,
];

/// So many of them.
pub async fn run(lab: &Lab, plan: Plan, cycles: usize) -> anyhow::Result<Outcome> {
    let mut outcome =
        Outcome { missing_tool: strace::missing().or_else(disk::missing), ..Outcome::default() };
    if outcome.missing_tool.is_some() {
        return Ok(outcome);
    }
    let mut randomness = StdRng::seed_from_u64(lab.seed);
    for fault in FAULTS.iter().cycle().take(cycles) {
        let after = Duration::from_millis(randomness.random_range(0..=AFTER_MS_MAX));
        cycle(&plan, *fault, after, &mut outcome).await.with_context(|| format!("{fault:?}"))?;
    }
    Ok(outcome)
}

async fn cycle(plan: &Plan, fault: Fault, after: Duration, outcome: &mut Outcome) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("errors-").tempdir_in(&plan.data_root)?;
    let disk = match fault {
        Fault::Sync | Fault::Write(_) => None,
        Fault::Full => Some(Disk::memory(folder.path(), SMALL_BYTES)?),
        Fault::ReadOnly => Some(Disk::ext4(folder.path())?),
    };
    let data = disk.as_ref().map(|disk| disk.place().join("data"));
    let rig = Rig::new(Plan { senders: SENDERS, data, ..plan.clone() }).await?;
    let product = rig.start().await?;
    rig.aim(&product)?;
    rig.ripe(after).await;
    let (last, bit) = match (fault, &disk) {
        (Fault::ReadOnly, Some(disk)) => read_only(&rig, disk, product, outcome).await?,
        (Fault::Full, Some(disk)) => full(&rig, disk, product, outcome).await?,
        (Fault::Write(error), _) => write(&rig, error, product, outcome).await?,
        (Fault::Sync | Fault::ReadOnly | Fault::Full, _) => sync(&rig, product, outcome).await?,
    };
    outcome.cycle(format!("{fault:?}"), bit);
    let refused_may_arrive = matches!(fault, Fault::Sync);
    rig.finish(Rules { concurrency: SLOTS, refused_may_arrive }).await?.tell(outcome);
    drop(last);
    Ok(())
}

/// A failed fsync: the process ends by itself, and the next one has everything.
async fn sync(rig: &Rig, mut product: Product, outcome: &mut Outcome) -> anyhow::Result<(Product, bool)> {
    let _tracer = attach(rig, &product, &["fsync", "fdatasync"], "EIO")?;
    let begun = Instant::now();
    let mut ended = None;
    while ended.is_none() && begun.elapsed() < PATIENCE {
        tokio::time::sleep(LOOK_EVERY).await;
        ended = product.process.ended()?;
    }
    let code = ended.and_then(|status| status.code());
    outcome.expect(code == Some(1), || format!("after a failed fsync it did not end by itself: {ended:?}"));
    rig.kill(&mut product.process, 0).await?;
    let next = rig.start().await?;
    rig.aim(&next)?;
    Ok((next, code.is_some()))
}

/// Failed writes: refusals, not ready; well again once they succeed.
async fn write(
    rig: &Rig,
    error: &'static str,
    product: Product,
    outcome: &mut Outcome,
) -> anyhow::Result<(Product, bool)> {
    let tracer = attach(rig, &product, &["pwrite64"], error)?;
    let bit = refuses(rig, &product, outcome).await?;
    tracer.signal(Signal::TERM)?;
    recovers(&product, outcome).await;
    Ok((product, bit))
}

/// A full disk: the same.
async fn full(
    rig: &Rig,
    disk: &Disk,
    product: Product,
    outcome: &mut Outcome,
) -> anyhow::Result<(Product, bool)> {
    let filler = disk.place().join("filler");
    fill(&filler)?;
    let bit = refuses(rig, &product, outcome).await?;
    let begun = Instant::now();
    while rig.pending(false)? > 0 && begun.elapsed() < PATIENCE {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let left = rig.pending(false)?;
    outcome.expect(left == 0, || format!("on a full disk {left} accepted runs were not finished"));
    fs::remove_file(&filler)?;
    recovers(&product, outcome).await;
    Ok((product, bit))
}

/// A read-only disk: it does not start, and says so; then it has everything.
async fn read_only(
    rig: &Rig,
    disk: &Disk,
    mut product: Product,
    outcome: &mut Outcome,
) -> anyhow::Result<(Product, bool)> {
    rig.kill(&mut product.process, 0).await?;
    disk.read_only(true)?;
    let refused = rig.setup.start().await.err();
    let ended = refused.as_ref().and_then(|error| error.downcast_ref::<Ended>());
    let code = ended.and_then(|ended| ended.status.code());
    outcome.expect(code == Some(1), || format!("started on a read-only disk: {refused:?}"));
    let log = fs::read_to_string(rig.setup.log())?;
    let says_so =
        log.lines().last().is_some_and(|line| line.contains("ead-only") || line.contains("readonly"));
    outcome
        .expect(says_so, || format!("it does not say that the disk is read-only: {:?}", log.lines().last()));
    disk.read_only(false)?;
    let next = rig.start().await?;
    rig.aim(&next)?;
    Ok((next, refused.is_some()))
}

/// Has every call of these names fail from now on, until the tracer ends.
fn attach(rig: &Rig, product: &Product, calls: &[&str], error: &str) -> anyhow::Result<Process> {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o"]).arg(rig.folder().join("trace"));
    command.args(["-p", &product.process.id().to_string()]);
    command.arg("-e").arg(format!("trace={}", calls.join(",")));
    command.arg("-e").arg(format!("inject={}:error={error}", calls.join(",")));
    Process::start(&mut command).context("strace")
}

/// Waits until it refuses a call with 503 and `Retry-After`, and says that it is not ready.
async fn refuses(rig: &Rig, product: &Product, outcome: &mut Outcome) -> anyhow::Result<bool> {
    let (address, path) = rig.target().context("the senders have a target")?;
    let begun = Instant::now();
    let mut refused = false;
    while !refused && begun.elapsed() < PATIENCE {
        tokio::time::sleep(LOOK_EVERY).await;
        refused = probe(rig, address, &path, outcome).await?;
    }
    outcome.expect(refused, || "it refused nothing although the disk failed".to_owned());
    let ready = get(product.management, "/readyz").await.is_ok();
    outcome.expect(!ready, || "it says that it is ready although the disk fails".to_owned());
    Ok(refused)
}

/// Sends one call; whether it was refused.
async fn probe(rig: &Rig, address: SocketAddr, path: &str, outcome: &mut Outcome) -> anyhow::Result<bool> {
    let (id, pen, mut buffer) = (rig.gauge.next_id(), rig.pen(), Vec::new());
    Template::call(address, path, true).fill(id, &mut buffer);
    pen.write(Entry::Sent(id));
    let answer = Client::connect(address).await?.exchange(&buffer).await?;
    pen.write(match answer.status() {
        200 => Entry::Acknowledged(id, crate::clock::unix_ns()),
        status => Entry::Refused(id, status),
    });
    let refused = answer.status() != 200;
    outcome.expect(!refused || answer.status() == 503, || format!("it answered {}", answer.status()));
    outcome
        .expect(!refused || answer.header("retry-after").is_some(), || "503 without Retry-After".to_owned());
    Ok(refused)
}

/// Waits until it is ready again, by itself.
async fn recovers(product: &Product, outcome: &mut Outcome) {
    let begun = Instant::now();
    let mut ready = false;
    while !ready && begun.elapsed() < PATIENCE {
        tokio::time::sleep(LOOK_EVERY).await;
        ready = get(product.management, "/readyz").await.is_ok();
    }
    outcome.expect(ready, || format!("it was not ready {} s after the disk was well", PATIENCE.as_secs()));
    let took_ms = begun.elapsed().as_secs_f64() * 1_000.0;
    let longest = outcome.figures.get("longest recovery, ms").copied().unwrap_or(0.0);
    outcome.figure("longest recovery, ms", took_ms.max(longest));
}

/// Writes a file until there is no room for it.
fn fill(path: &Path) -> anyhow::Result<()> {
    let (mut file, block) = (File::create(path)?, vec![1; FILL_BYTES]);
    let mut size = FILL_BYTES;
    while size > 0 {
        match file.write(&block[..size]) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => size /= 2,
            Err(error) => return Err(error.into()),
        }
    }
    ensure!(file.metadata()?.len() > 0, "there was no room to fill");
    Ok(())
}

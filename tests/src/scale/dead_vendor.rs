//! F12: three vendors die at once, each in its own way, with a hundred thousand runs behind them; the calls of a hundred
//! others, which come at a fixed rate, take no longer than twice what they took before. Then the dead come back, and get all.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{
    lab::{Lab, tell},
    volume,
};
use crate::{
    bench::{Drained, drained},
    faults::{equations, report::Outcome},
    load::{Load, Pace, Template},
    product::{Product, Setup},
    sink::Sink,
    wire::{Reply, Server},
};

/// Vendors that are well.
const HEALTHY: usize = 100;
/// Their calls a second, all together.
const HEALTHY_PER_S: f64 = 400.0;
/// Calls a second of vendors that are dead, while the others are looked at.
const DEAD_PER_S: f64 = 40.0;
/// How long the healthy are looked at, in rounds' loads.
const LOOK: u32 = 4;
/// Vendors that die.
const DEAD: [&str; 3] = ["refusing", "failing", "silent"];
/// What the usual vendor's connection is sent to in production.
const MINDBOX: &str = "https://api.mindbox.ru";
/// A connection that is not made in this time meets a full queue: nobody answers there at all.
const UNANSWERED: Duration = Duration::from_millis(300);
/// Most connections it takes to fill the queue of a listener that takes one.
const FILL_MAX: usize = 16;
/// Under this a 99th percentile may be the machine's: who waits for a slot of the dead waits for ten seconds, milliseconds.
const NOISE_MS: f64 = 250.0;
/// Connections that wait to be taken by a vendor that is well.
const QUEUE: u32 = 1_024;
/// Longest time until the dead, back again, have got everything: their breakers ask once a minute, and those few runs that
/// were tried in vain wait out their schedule.
const RECOVERY: Duration = Duration::from_secs(900);

/// The three, dead, and where they are.
struct Dead {
    refusing: TcpSocket,
    refusing_at: SocketAddr,
    failing: Server,
    fails: Arc<AtomicBool>,
    silent: TcpListener,
    silent_at: SocketAddr,
    /// What fills its queue.
    filling: Vec<TcpStream>,
}

/// So many runs behind the dead.
pub async fn run(lab: &Lab, waiting: usize, outcome: &mut Outcome) -> anyhow::Result<()> {
    let folder = lab.folder()?;
    let (healthy, revived) = (lab.sink(Duration::ZERO).await?, lab.sink(Duration::ZERO).await?);
    let far = lab.far_end.clone();
    let receiver = revived.clone();
    let dead = lab.far_end.spawn(async move { Dead::new(&receiver).await }).await??;
    let at = [dead.refusing_at, dead.failing.address, dead.silent_at];
    let overrides = DEAD.iter().zip(at).map(|(name, at)| format!(",https://{name}.example=http://{at}"));
    let overrides = format!("{MINDBOX}={}", healthy.origin()) + &overrides.collect::<String>();
    let setup = Setup::fresh(&lab.sheaf, folder.path(), String::new())?;
    let setup = setup.with("SHEAF_EGRESS_OVERRIDE", &overrides);
    write_files(&setup.directory)?;
    let product = setup.start().await?;
    let load = Loads::of(lab, &setup, &product)?;

    let usual = drained(load.healthy.clone(), &healthy).await?;
    let sent = volume::send(&load.flood, waiting).await?;
    let mut to_dead = sent.acknowledged;
    tell(&format!(
        "{} runs are for the dead, taken at {:.0}/s",
        to_dead.len(),
        to_dead.len() as f64 / sent.seconds
    ));
    let (beside, more) = tokio::join!(drained(load.healthy.clone(), &healthy), load.trickle.clone().run());
    to_dead.extend(more.acknowledged);
    let beside = beside?;
    let left = pending(&setup)?;
    judge(&usual, &beside, outcome);
    outcome.figure("runs behind the dead while the others were looked at", left as f64);
    outcome.cycle(
        format!("{left} runs waited, none had come"),
        left as usize >= waiting * 99 / 100 && revived.unique() == 0,
    );

    let _back = far.spawn(dead.revive(revived.clone())).await??;
    volume::arrived(&revived, &to_dead, RECOVERY / 3).await;
    let ledger = equations::drained(&setup, RECOVERY).await?;
    let parked: u64 = ledger.connections.iter().map(|it| it.parked).sum();
    let missing = revived.missing(&to_dead);
    outcome.count("acknowledged for the dead", to_dead.len());
    outcome.count("missing at the dead, back again", missing);
    outcome.count("parked", usize::try_from(parked)?);
    outcome.expect(missing == 0, || {
        format!("{missing} acknowledged never came to vendors that were dead for a while")
    });
    outcome.cycle(format!("they came back, and got {}", revived.unique()), revived.unique() > 0);
    Ok(())
}

fn judge(usual: &Drained, beside: &Drained, outcome: &mut Outcome) {
    for (name, look) in [("usual", usual), ("beside the dead", beside)] {
        outcome.figure(&format!("healthy, {name}: p50, ms"), look.end_to_end.p50_ms);
        outcome.figure(&format!("healthy, {name}: p99, ms"), look.end_to_end.p99_ms);
        outcome.figure(&format!("healthy, {name}: answer p99, ms"), look.outcome.latencies.points().p99_ms);
        outcome.figure(&format!("healthy, {name}: calls"), look.outcome.acknowledged.len() as f64);
        super::pairs::nothing_lost(look, outcome);
    }
    let (usual_ms, beside_ms) = (usual.end_to_end.p99_ms, beside.end_to_end.p99_ms);
    let noticed = beside_ms >= (2.0 * usual_ms).max(NOISE_MS);
    outcome.expect(!noticed, || {
        format!("the healthy waited for the dead: their p99 went from {usual_ms:.1} to {beside_ms:.1} ms")
    });
    outcome.expect_speed(beside_ms < 2.0 * usual_ms, || {
        format!("the p99 of the healthy went from {usual_ms:.1} to {beside_ms:.1} ms")
    });
}

fn pending(setup: &Setup) -> anyhow::Result<u64> {
    let ledger = equations::read(&setup.ledger(false)?)?;
    equations::check(&ledger)?;
    Ok(ledger.connections.iter().map(|it| it.pending).sum())
}

/// Every vendor has a connection and a bundle that takes the campaign of its name.
fn write_files(directory: &Path) -> anyhow::Result<()> {
    let bundle = directory.join("bundles/mindbox-dynamic.yaml");
    let text = fs::read_to_string(&bundle)?;
    let connection = fs::read_to_string(directory.join("connections/mindbox-main.yaml"))?;
    let (before, after) = text.split_once("filter:").context("a bundle has a filter")?;
    let (_, after) = after.split_once("\nsteps:").context("a bundle has steps")?;
    fs::remove_file(&bundle)?;
    let dead = DEAD.iter().map(|name| ((*name).to_owned(), format!("base_url: https://{name}.example")));
    for (name, setting) in (0..HEALTHY).map(|number| (healthy(number), String::new())).chain(dead) {
        let own = connection.replace("name: mindbox-main", &format!("name: {name}"));
        let own = own.replace("settings:\n", &format!("settings:\n  {setting}\n"));
        fs::write(directory.join(format!("connections/{name}.yaml")), own)?;
        let before = before.replace("name: mindbox-dynamic", &format!("name: to-{name}"));
        let after = after.replace("connection: mindbox-main", &format!("connection: {name}"));
        let filter = format!("filter: utm_campaign = \"{name}\"\nsteps:");
        fs::write(directory.join(format!("bundles/to-{name}.yaml")), before + &filter + &after)?;
    }
    Ok(())
}

fn healthy(number: usize) -> String {
    format!("healthy-{number}")
}

/// What is sent.
struct Loads {
    healthy: Load,
    flood: Load,
    trickle: Load,
}

impl Loads {
    fn of(lab: &Lab, setup: &Setup, product: &Product) -> anyhow::Result<Loads> {
        let path = setup.hook_path()?;
        let of = |names: &mut dyn Iterator<Item = String>| -> Arc<[Template]> {
            names.map(|name| Template::call_of_campaign(product.hooks, &path, &name)).collect()
        };
        let dead = of(&mut DEAD.iter().map(|name| (*name).to_owned()));
        let open = |templates, per_second| Load {
            pace: Pace::Open { per_second },
            duration: lab.duration * LOOK,
            ..lab.load(product.hooks, templates)
        };
        Ok(Loads {
            healthy: open(of(&mut (0..HEALTHY).map(healthy)), HEALTHY_PER_S),
            flood: lab.load(product.hooks, dead.clone()),
            trickle: open(dead, DEAD_PER_S),
        })
    }
}

impl Dead {
    async fn new(revived: &Arc<Sink>) -> anyhow::Result<Dead> {
        let bound = || -> anyhow::Result<TcpSocket> {
            let socket = TcpSocket::new_v4()?;
            socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
            Ok(socket)
        };
        // Bound and not listening: whoever connects is refused, and nobody else gets the port.
        let refusing = bound()?;
        let fails = Arc::new(AtomicBool::new(true));
        let failing = failing(fails.clone(), revived.clone()).await?;
        let silent = bound()?.listen(1)?;
        let (refusing_at, silent_at) = (refusing.local_addr()?, silent.local_addr()?);
        let filling = fill(silent_at).await?;
        Ok(Dead { refusing, refusing_at, failing, fails, silent, silent_at, filling })
    }

    /// All of them are well again, where they were.
    async fn revive(self, revived: Arc<Sink>) -> anyhow::Result<[Server; 3]> {
        let Dead { refusing, failing, fails, silent, filling, .. } = self;
        fails.store(false, Ordering::Relaxed);
        drop(filling);
        let well = |listener| {
            let counting = revived.clone();
            Server::on(listener, move |message| std::future::ready(counting.take(&message.body)))
        };
        Ok([well(refusing.listen(QUEUE)?)?, failing, well(silent)?])
    }
}

/// A vendor that answers 500 until it does not.
async fn failing(fails: Arc<AtomicBool>, revived: Arc<Sink>) -> anyhow::Result<Server> {
    let server = Server::start(move |message| {
        let reply = if fails.load(Ordering::Relaxed) {
            Reply::answer(500, &[], b"")
        } else {
            revived.take(&message.body)
        };
        std::future::ready(reply)
    });
    Ok(server.await?)
}

/// Connects until nobody answers any more: then whoever comes next waits for an answer to his first packet.
async fn fill(address: SocketAddr) -> anyhow::Result<Vec<TcpStream>> {
    let mut filling = Vec::new();
    while let Ok(connected) = tokio::time::timeout(UNANSWERED, TcpStream::connect(address)).await {
        filling.push(connected?);
        ensure!(filling.len() < FILL_MAX, "a listener that takes one took {FILL_MAX} connections");
    }
    Ok(filling)
}

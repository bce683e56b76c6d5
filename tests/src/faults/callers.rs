//! Callers who know several addresses of the same hook, as a balancer does: whom one refuses goes to the next at once. Half of
//! them keep their connection, the others make one for each call, as most vendors do.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::task::JoinSet;

use super::{
    ledger::{Entry, Pen},
    rig::Rig,
    traffic::Gauge,
};
use crate::{clock::unix_ns, load::Template, wire::Client};

/// Longest pause of a caller between two calls.
const PAUSE_MS_MAX: u64 = 10;
/// How long a caller waits whom nobody takes.
const NOBODY: Duration = Duration::from_millis(1);

/// What they met.
#[derive(Default)]
pub struct Met {
    /// Calls that an address refused and another took, or the same one later.
    pub elsewhere: AtomicUsize,
    /// Calls that every address refused.
    pub nobody: AtomicUsize,
    /// Calls without an answer on a connection that was made for them.
    pub cut: AtomicUsize,
    /// Calls without an answer on a connection that had been used before: the server closed it at that very moment, which
    /// a client expects, and sends the call again.
    pub cut_when_kept: AtomicUsize,
}

/// They call until they are told to end.
pub struct Callers {
    /// What they met so far.
    pub met: Arc<Met>,
    gauge: Arc<Gauge>,
    calling: JoinSet<()>,
}

/// One of them.
struct Caller {
    addresses: Vec<SocketAddr>,
    template: Template,
    keeps: bool,
    pen: Pen,
    gauge: Arc<Gauge>,
    met: Arc<Met>,
    randomness: StdRng,
}

impl Callers {
    /// So many, who call these addresses.
    pub fn start(rig: &Rig, count: usize, addresses: &[SocketAddr], seed: u64) -> anyhow::Result<Callers> {
        let (path, met, mut calling) = (rig.setup.hook_path()?, Arc::new(Met::default()), JoinSet::new());
        let known = addresses.len().max(1);
        for index in 0..count {
            let mut addresses = addresses.to_vec();
            addresses.rotate_left(index % known);
            let caller = Caller {
                template: Template::call(addresses[0], &path, index % 4 < 2),
                addresses,
                keeps: index.is_multiple_of(2),
                pen: rig.pen(),
                gauge: Arc::clone(&rig.gauge),
                met: Arc::clone(&met),
                randomness: StdRng::seed_from_u64(seed ^ index as u64),
            };
            calling.spawn(caller.run());
        }
        Ok(Callers { met, gauge: Arc::clone(&rig.gauge), calling })
    }

    /// Ends them once each has its answer.
    pub async fn end(self) -> Arc<Met> {
        self.gauge.over.store(true, Ordering::Relaxed);
        self.calling.join_all().await;
        self.met
    }
}

impl Caller {
    async fn run(mut self) {
        let (mut kept, mut buffer) = (None, Vec::new());
        while !self.gauge.over.load(Ordering::Relaxed) {
            let id = self.gauge.next_id();
            self.template.fill(id, &mut buffer);
            self.pen.write(Entry::Sent(id));
            self.gauge.in_flight.fetch_add(1, Ordering::Relaxed);
            kept = self.call(id, &buffer, kept).await;
            self.gauge.in_flight.fetch_sub(1, Ordering::Relaxed);
            let pause_ms = self.randomness.random_range(0..=PAUSE_MS_MAX);
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
    }

    /// One call until somebody answers it; the connection for the next one.
    async fn call(&self, id: i64, request: &[u8], kept: Option<Client>) -> Option<Client> {
        let mut kept = kept.filter(Client::is_open);
        loop {
            let was_kept = kept.is_some();
            let mut client = match kept.take() {
                Some(client) => client,
                None => self.connected().await,
            };
            match client.exchange(request).await {
                Ok(answer) if answer.status() == 200 => {
                    self.pen.write(Entry::Acknowledged(id, unix_ns()));
                    self.gauge.acknowledged.fetch_add(1, Ordering::Relaxed);
                    return self.keeps.then_some(client);
                }
                Ok(answer) => {
                    self.pen.write(Entry::Refused(id, answer.status()));
                    return None;
                }
                Err(_) => {
                    self.pen.write(Entry::Unknown(id));
                    let met = if was_kept { &self.met.cut_when_kept } else { &self.met.cut };
                    met.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// A connection to the first address that takes it.
    async fn connected(&self) -> Client {
        loop {
            for (index, address) in self.addresses.iter().enumerate() {
                if let Ok(client) = Client::connect(*address).await {
                    self.met.elsewhere.fetch_add(usize::from(index > 0), Ordering::Relaxed);
                    return client;
                }
            }
            self.met.nobody.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(NOBODY).await;
        }
    }
}

//! Senders that outlive the product, and the receiver that outlives it too.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{sync::watch, task::JoinSet};

use super::ledger::{Entry, Pen};
use crate::{
    clock::unix_ns,
    load::Template,
    sink::call_id,
    wire::{Client, Reply, Server},
};

/// Longest pause of a sender between two calls.
const PAUSE_MS_MAX: u64 = 10;
/// Longest time the receiver thinks, so that deliveries are under way at any moment.
const ANSWER_MS_MAX: u64 = 8;

/// Where the product listens now, and the hook's path; `None` while it is down.
pub type Target = Option<(SocketAddr, String)>;

/// What the senders are doing.
#[derive(Default)]
pub struct Gauge {
    /// Requests without an answer yet.
    pub in_flight: AtomicUsize,
    /// Acknowledgements so far.
    pub acknowledged: AtomicUsize,
    /// No new calls.
    pub over: AtomicBool,
    last_id: AtomicI64,
}

/// Starts the senders; they end once the gauge says it is over.
pub fn senders(
    count: usize,
    seed: u64,
    target: &watch::Receiver<Target>,
    pen: &Pen,
    gauge: &Arc<Gauge>,
) -> JoinSet<()> {
    let mut senders = JoinSet::new();
    for index in 0..count {
        let randomness = StdRng::seed_from_u64(seed ^ (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        senders.spawn(send(target.clone(), pen.clone(), Arc::clone(gauge), randomness));
    }
    senders
}

async fn send(mut target: watch::Receiver<Target>, pen: Pen, gauge: Arc<Gauge>, mut randomness: StdRng) {
    let mut buffer = Vec::new();
    while !gauge.over.load(Ordering::Relaxed) {
        let Ok(up) = target.wait_for(Option::is_some).await.map(|it| it.clone()) else { return };
        let Some((address, path)) = up else { continue };
        let Ok(mut client) = Client::connect(address).await else {
            // Between the kill and the news of it.
            tokio::task::yield_now().await;
            continue;
        };
        let template = Template::call(address, &path, randomness.random());
        while !gauge.over.load(Ordering::Relaxed) && client.is_open() {
            let id = gauge.next_id();
            template.fill(id, &mut buffer);
            pen.write(Entry::Sent(id));
            gauge.in_flight.fetch_add(1, Ordering::Relaxed);
            let answer = client.exchange(&buffer).await;
            gauge.in_flight.fetch_sub(1, Ordering::Relaxed);
            let entry = entry(id, &answer);
            pen.write(entry);
            if matches!(entry, Entry::Acknowledged(..)) {
                gauge.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            if answer.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(randomness.random_range(0..=PAUSE_MS_MAX))).await;
        }
    }
}

fn entry(id: i64, answer: &io::Result<crate::wire::Message>) -> Entry {
    match answer.as_ref().map(crate::wire::Message::status) {
        Ok(200) => Entry::Acknowledged(id, unix_ns()),
        Ok(status) => Entry::Refused(id, status),
        Err(_) => Entry::Unknown(id),
    }
}

impl Gauge {
    /// The id of the next call: the time, made unique.
    pub fn next_id(&self) -> i64 {
        let now_ns = unix_ns();
        let last = self
            .last_id
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now_ns.max(last + 1)));
        now_ns.max(last.unwrap_or(0) + 1)
    }
}

/// Starts the receiver: it answers only after its ledger is on disk and a random while has passed.
pub async fn receiver(seed: u64, pen: Pen) -> io::Result<Server> {
    let randomness = Arc::new(Mutex::new(StdRng::seed_from_u64(seed)));
    Server::start(move |message| {
        let wait_ms =
            randomness.lock().unwrap_or_else(PoisonError::into_inner).random_range(0..=ANSWER_MS_MAX);
        let pen = pen.clone();
        async move {
            let Some(id) = call_id(&message.body) else { return Reply::answer(400, &[], b"") };
            pen.write_durably(Entry::Delivered(id, unix_ns())).await;
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            Reply::answer(200, &[("Content-Type", "application/json")], br#"{"status":"Success"}"#)
        }
    })
    .await
}

//! P6: the runs of one key go one after another, in the order in which their calls were answered: with many keys, with few,
//! with one.
//!
//! Senders know no order among calls that were under way at once. So a key is out of order when a call arrives after one
//! that was sent only when the first had been answered already; and its runs overlap when one arrives before the last one
//! of its key has its answer.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, ensure};

use super::lab::{Lab, tell};
use crate::{
    bench::drained,
    faults::{equations, report::Outcome},
    load::{Load, Pace, Template},
    product::Setup,
    sink::{Sink, call_id},
    wire::Server,
};

/// How long the vendor takes, so that runs of a key would be seen to overlap.
const ANSWER: Duration = Duration::from_millis(1);
/// A timer, and a call whose id had to be moved to be one of a kind, nanoseconds.
const SLACK_NS: i64 = 10_000;
/// Where the key stands in a body.
const KEY: &[u8] = b"\"utmCampaign\":\"";
/// Longest time until everything is settled.
const SETTLED: Duration = Duration::from_secs(60);

/// Calls of a key in a row: they are under way at the same time.
const IN_A_ROW: usize = 2;
/// Keys, and the rate at which calls come where as fast as possible would only make a longer queue.
const ROUNDS: [(usize, Option<f64>); 3] = [(10_000, None), (100, None), (1, Some(500.0))];

/// What the vendor saw of each key.
#[derive(Default)]
struct Book {
    arrived: HashMap<String, Vec<i64>>,
    under_way: HashSet<String>,
    overlaps: usize,
}

/// Loads of so many seconds each.
pub async fn run(lab: &Lab, seconds: usize, outcome: &mut Outcome) -> anyhow::Result<()> {
    let folder = lab.folder()?;
    let (sink, book) = (lab.sink(Duration::ZERO).await?, Arc::new(Mutex::new(Book::default())));
    let vendor = vendor(sink.clone(), book.clone());
    let vendor = lab.far_end.spawn(vendor).await??;
    let setup = Setup::fresh(&lab.sheaf, folder.path(), vendor.origin())?;
    write_files(&setup.directory)?;
    let product = setup.start().await?;
    let path = setup.hook_path()?;
    for (keys, per_second) in ROUNDS {
        let keyed = |key| Template::call_of_campaign(product.hooks, &path, &format!("key-{key}"));
        let load = Load {
            pace: per_second.map_or(Pace::Closed, |per_second| Pace::Open { per_second }),
            duration: Duration::from_secs(seconds as u64),
            ..lab.load(product.hooks, (0..keys * IN_A_ROW).map(|number| keyed(number / IN_A_ROW)).collect())
        };
        let done = drained(load, &sink).await?;
        super::pairs::nothing_lost(&done, outcome);
        let book = std::mem::take(&mut *lock(&book));
        let answered =
            done.outcome.acknowledged.iter().copied().zip(done.outcome.answered_ns.iter().copied());
        let late = out_of_order(&book.arrived, &answered.collect());
        let count = done.outcome.acknowledged.len();
        let text = format!("{keys} keys: {count} calls, {:.0} events/s", done.events_per_s);
        tell(&text);
        outcome.figure(&format!("{keys} keys: events/s"), done.events_per_s);
        outcome.figure(&format!("{keys} keys: end to end p99, ms"), done.end_to_end.p99_ms);
        outcome.count("out of order", late);
        outcome.count("overlapping", book.overlaps);
        outcome.expect(late == 0, || format!("{keys} keys: {late} calls came after later ones of their key"));
        outcome.expect(book.overlaps == 0, || {
            format!("{keys} keys: {} calls came while one of their key was under way", book.overlaps)
        });
        outcome.cycle(text, (1..count).contains(&book.arrived.len()));
        equations::drained(&setup, SETTLED).await?;
    }
    Ok(())
}

/// The bundle of known visitors keeps the calls of a campaign in order.
fn write_files(directory: &Path) -> anyhow::Result<()> {
    let bundle = directory.join("bundles/mindbox-dynamic.yaml");
    let text = fs::read_to_string(&bundle)?;
    ensure!(text.contains("\nsteps:"), "the example's bundle reads otherwise");
    fs::write(&bundle, text.replace("\nsteps:", "\norder_by: utm_campaign\nsteps:"))?;
    Ok(())
}

async fn vendor(sink: Arc<Sink>, book: Arc<Mutex<Book>>) -> anyhow::Result<Server> {
    let server = Server::start(move |message| {
        let (reply, book) = (sink.take(&message.body), book.clone());
        let key = key(&message.body).unwrap_or_default();
        if let Some(id) = call_id(&message.body) {
            let mut book = lock(&book);
            book.arrived.entry(key.clone()).or_default().push(id);
            if !book.under_way.insert(key.clone()) {
                book.overlaps += 1;
            }
        }
        async move {
            tokio::time::sleep(ANSWER).await;
            lock(&book).under_way.remove(&key);
            reply
        }
    });
    server.await.context("a vendor")
}

fn key(body: &[u8]) -> Option<String> {
    let at = body.windows(KEY.len()).position(|it| it == KEY)? + KEY.len();
    let text = body[at..].split(|byte| *byte == b'"').next()?;
    String::from_utf8(text.to_vec()).ok()
}

/// Calls that came after one of their key which was sent only after they had been answered. An id is when a call was sent.
fn out_of_order(arrived: &HashMap<String, Vec<i64>>, answered_ns: &HashMap<i64, i64>) -> usize {
    let late = |calls: &Vec<i64>| {
        let mut latest_ns = i64::MIN;
        let mut late = 0;
        for id in calls {
            late += usize::from(answered_ns.get(id).is_some_and(|at_ns| latest_ns > at_ns + SLACK_NS));
            latest_ns = latest_ns.max(*id);
        }
        late
    };
    arrived.values().map(late).sum()
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_answered_before_another_was_sent_comes_first() {
        let of = |calls: &[i64]| HashMap::from([("key".to_owned(), calls.to_vec())]);
        let answered_ns = HashMap::from([(0, 1_000_000), (500_000, 1_500_000), (2_000_000, 3_000_000)]);
        assert_eq!(out_of_order(&of(&[0, 500_000, 2_000_000]), &answered_ns), 0);
        assert_eq!(out_of_order(&of(&[500_000, 0, 2_000_000]), &answered_ns), 0, "both were under way");
        assert_eq!(out_of_order(&of(&[0, 2_000_000, 500_000]), &answered_ns), 1);
    }

    #[test]
    fn the_key_is_read_from_a_body() {
        let body = br#"{"customFields":{"callId":"7","utmCampaign":"key-12","utmMedium":"cpc"}}"#;
        assert_eq!(key(body).as_deref(), Some("key-12"));
        assert_eq!(key(b"{}"), None);
    }
}

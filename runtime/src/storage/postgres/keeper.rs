//! What a node does beside its turns: signs of life, taking over from the silent, hints between nodes, the database's time,
//! forgetting old identities.

use std::{sync::Arc, time::Duration};

use sheaf_bundles::id::compose;
use sqlx::{PgConnection, PgPool, Row as _, postgres::PgListener};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{Instant, timeout},
};

use super::node::{self, Node};
use crate::{clock::Clock, storage::identity::WINDOW_MS};

/// Signs of life within the time after which silence counts.
const BEATS: u32 = 3;
/// Hints to other nodes are gathered for so long.
const ANNOUNCE_EVERY: Duration = Duration::from_millis(75);
/// How long to wait before listening again after the connection broke.
const LISTEN_PAUSE: Duration = Duration::from_secs(1);
/// How often identities past their window are deleted, milliseconds: one hour.
const FORGET_EVERY_MS: i64 = 60 * 60 * 1000;
/// How long to wait before old identities are looked for again after a failure, milliseconds.
const FORGET_PAUSE_MS: i64 = 60_000;
/// Identities deleted in one statement.
const FORGET_MAX: i64 = 10_000;
/// Differences to the database's clock that are left alone, milliseconds: asking takes as long.
const TIME_SLACK_MS: i64 = 5;
/// An answer about the time that took longer says too little about it.
const TIME_TRIP_MAX: Duration = Duration::from_millis(200);
/// How often a starting node asks for the time; the quickest answer counts, however long it took.
const TIME_QUESTIONS: u32 = 3;
/// The channel of hints; the payload is the node that gives it.
const CHANNEL: &str = "sheaf_due";

/// The tasks of a node, ended when this is dropped.
#[derive(Debug)]
pub struct Keeper {
    tasks: JoinSet<()>,
    /// Another node has more due than it can take.
    hint: Arc<Notify>,
    /// This node has.
    announce: Arc<Notify>,
}

impl Keeper {
    /// Starts them.
    pub fn start(pool: PgPool, node: watch::Receiver<Node>, clock: Clock, silence_ms: i64) -> Keeper {
        let (hint, announce) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let mut tasks = JoinSet::new();
        let silence = Duration::from_millis(silence_ms.unsigned_abs());
        tasks.spawn(watch_over(pool.clone(), node.clone(), clock.clone(), silence, hint.clone()));
        tasks.spawn(forgetting(pool.clone(), clock));
        tasks.spawn(announcing(pool.clone(), node.clone(), announce.clone()));
        tasks.spawn(listening(pool, node, hint.clone()));
        Keeper { tasks, hint, announce }
    }

    /// Fires when something may be due that this node did not put in itself.
    pub fn hint(&self) -> Arc<Notify> {
        self.hint.clone()
    }

    /// Tells the other nodes that there is more due than this one has slots for.
    pub fn announce(&self) {
        self.announce.notify_one();
    }

    /// Ends them.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

/// An answer about the time: how long it took, and how far the database's clock is ahead of ours by it, milliseconds.
#[derive(Debug, Clone, Copy)]
struct Time {
    took: Duration,
    ahead_ms: i64,
}

impl Time {
    /// The answer was made at some moment while we waited for it; the middle is the best guess.
    fn of(asked_ms: i64, took: Duration, theirs_ms: i64) -> Time {
        let half_ms = i64::try_from(took.as_millis() / 2).unwrap_or(i64::MAX);
        Time { took, ahead_ms: theirs_ms - asked_ms.saturating_add(half_ms) }
    }

    async fn ask(connection: &mut PgConnection, clock: &Clock) -> Result<Time, sqlx::Error> {
        const NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
        let (asked, asked_ms) = (Instant::now(), clock.now_ms());
        let theirs_ms = sqlx::query(NOW).fetch_one(connection).await?.try_get(0)?;
        Ok(Time::of(asked_ms, asked.elapsed(), theirs_ms))
    }

    fn set(self, clock: &Clock) {
        if self.ahead_ms.abs() > TIME_SLACK_MS {
            clock.correct_by_ms(self.ahead_ms);
        }
    }
}

/// Sets the clock of a starting node to the database's, so that all nodes have one time.
pub async fn take_time(pool: &PgPool, clock: &Clock) -> Result<(), sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let mut best = Time::ask(&mut connection, clock).await?;
    for _ in 1..TIME_QUESTIONS {
        let time = Time::ask(&mut connection, clock).await?;
        best = if time.took < best.took { time } else { best };
    }
    best.set(clock);
    Ok(())
}

/// Keeps it there. The wait for a connection is not the answer's, and an answer that was held up says nothing: a clock that
/// jumped ahead would make delays fire early and living nodes look dead.
async fn follow_time(pool: &PgPool, clock: &Clock) -> Result<(), sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let time = Time::ask(&mut connection, clock).await?;
    if time.took <= TIME_TRIP_MAX {
        time.set(clock);
    }
    Ok(())
}

/// Who may call others dead. While the database stood still or was away nobody could give a sign of life; whoever is first
/// to be back would find all others silent. So a node that could not give its own in time waits until they had theirs.
#[derive(Debug)]
struct Judge {
    silence: Duration,
    heard: Instant,
    from: Instant,
}

impl Judge {
    fn new(silence: Duration, now: Instant) -> Judge {
        Judge { silence, heard: now, from: now }
    }

    /// After a sign of life of our own: whether the silence of others counts now.
    fn heard(&mut self, now: Instant) -> bool {
        if now - self.heard > self.silence * 2 / BEATS {
            self.from = now + self.silence;
        }
        self.heard = now;
        now >= self.from
    }
}

/// The heart: a database that cannot be reached is the writer's to report, so here it is only tried again.
async fn watch_over(
    pool: PgPool,
    node: watch::Receiver<Node>,
    clock: Clock,
    silence: Duration,
    hint: Arc<Notify>,
) {
    let every = silence / BEATS;
    let every_ms = i64::try_from(every.as_millis()).unwrap_or(i64::MAX);
    let mut judge = Judge::new(silence, Instant::now());
    loop {
        let next_ms = clock.now_ms().saturating_add(every_ms);
        // A connection that was cut says nothing for minutes, and nothing would be said on it.
        match timeout(every, round(&pool, &node, &clock, &mut judge)).await {
            Ok(Ok(0)) => {}
            Ok(Ok(runs)) => {
                tracing::warn!(
                    runs,
                    "a node was silent for too long, or lost a lease; what it held is due again"
                );
                hint.notify_one();
            }
            Ok(Err(error)) => tracing::debug!(%error, "a node's round was not done"),
            Err(_) => tracing::debug!("a node's round took too long"),
        }
        clock.sleep_until_ms(next_ms).await;
    }
}

/// How many runs came back: from silent nodes, and places whose lease ran out.
async fn round(
    pool: &PgPool,
    node: &watch::Receiver<Node>,
    clock: &Clock,
    judge: &mut Judge,
) -> Result<u64, sqlx::Error> {
    follow_time(pool, clock).await?;
    let own = *node.borrow();
    node::beat(pool, own, clock.now_ms()).await?;
    if !judge.heard(Instant::now()) {
        return Ok(0);
    }
    // It may have joined again meanwhile, and is not to take itself for another.
    let own = *node.borrow();
    let silence_ms = i64::try_from(judge.silence.as_millis()).unwrap_or(i64::MAX);
    let taken_over = node::take_over(pool, own, clock.now_ms(), silence_ms).await?;
    Ok(taken_over + node::give_back(pool, clock.now_ms()).await?)
}

/// Apart from the signs of life, which do not wait for it.
async fn forgetting(pool: PgPool, clock: Clock) {
    loop {
        let pause_ms = match forget(&pool, clock.now_ms()).await {
            Ok(()) => FORGET_EVERY_MS,
            Err(error) => {
                tracing::debug!(%error, "old identities were not forgotten");
                FORGET_PAUSE_MS
            }
        };
        clock.sleep_until_ms(clock.now_ms() + pause_ms).await;
    }
}

/// Deletes identities past their window, a few thousand at a time. One that is being taken anew right now is left to who
/// takes it: waiting for each other, the two would end in a deadlock.
async fn forget(pool: &PgPool, now_ms: i64) -> Result<(), sqlx::Error> {
    const FORGET: &str = "DELETE FROM dedupe WHERE ctid = ANY (ARRAY(\
                          SELECT ctid FROM dedupe WHERE event < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)) AND event < $1";
    let window = compose(now_ms - WINDOW_MS, 0, 0);
    loop {
        let forgotten =
            sqlx::query(FORGET).bind(window).bind(FORGET_MAX).execute(pool).await?.rows_affected();
        if forgotten < FORGET_MAX.unsigned_abs() {
            return Ok(());
        }
    }
}

async fn announcing(pool: PgPool, node: watch::Receiver<Node>, announce: Arc<Notify>) {
    loop {
        announce.notified().await;
        let own = node.borrow().id.to_string();
        let notify = sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(own);
        // A hint that is lost costs a second: every node looks by itself.
        let _ = notify.execute(&pool).await;
        tokio::time::sleep(ANNOUNCE_EVERY).await;
    }
}

async fn listening(pool: PgPool, node: watch::Receiver<Node>, hint: Arc<Notify>) {
    loop {
        let error = listen(&pool, &node, &hint).await;
        tracing::debug!(?error, "hints from other nodes are not heard for now");
        tokio::time::sleep(LISTEN_PAUSE).await;
    }
}

async fn listen(pool: &PgPool, node: &watch::Receiver<Node>, hint: &Notify) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        let heard = listener.recv().await?;
        if heard.payload() != node.borrow().id.to_string() {
            hint.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Duration = Duration::from_secs(15);

    #[test]
    fn the_middle_of_the_wait_is_when_the_answer_was_made() {
        let time = Time::of(1_000, Duration::from_millis(40), 5_020);
        assert_eq!((time.ahead_ms, time.took), (4_000, Duration::from_millis(40)));
    }

    #[test]
    fn who_beats_in_time_judges_the_silence_of_others_at_once() {
        let start = Instant::now();
        let mut judge = Judge::new(SILENCE, start);
        assert!((1..10).all(|beat| judge.heard(start + SILENCE / BEATS * beat)));
    }

    #[test]
    fn who_could_not_beat_itself_lets_the_others_have_one_silence_to_come_back() {
        let start = Instant::now();
        let mut judge = Judge::new(SILENCE, start);
        let back = start + Duration::from_secs(25);
        assert!(!judge.heard(back), "nobody could");
        assert!(!judge.heard(back + SILENCE / BEATS));
        assert!(!judge.heard(back + SILENCE / BEATS * 2));
        assert!(judge.heard(back + SILENCE));
    }
}

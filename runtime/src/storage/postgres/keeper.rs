//! What a node does beside its turns: signs of life, taking over from the silent, hints between nodes, the database's time,
//! forgetting old identities.

use std::{sync::Arc, time::Duration};

use sheaf_bundles::id::compose;
use sqlx::{PgPool, Row as _, postgres::PgListener};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};

use super::node::{self, Node};
use crate::{clock::Clock, storage::identity::WINDOW_MS};

/// Signs of life within the time after which silence counts.
const BEATS: i64 = 3;
/// Hints to other nodes are gathered for so long.
const ANNOUNCE_EVERY: Duration = Duration::from_millis(75);
/// How long to wait before listening again after the connection broke.
const LISTEN_PAUSE: Duration = Duration::from_secs(1);
/// How often identities past their window are deleted, milliseconds: one hour.
const FORGET_EVERY_MS: i64 = 60 * 60 * 1000;
/// Identities deleted in one statement.
const FORGET_MAX: i64 = 10_000;
/// Differences to the database's clock that are left alone, milliseconds: asking takes as long.
const TIME_SLACK_MS: i64 = 5;
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
        tasks.spawn(watch_over(pool.clone(), node.clone(), clock, silence_ms, hint.clone()));
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

/// Sets the clock to the database's, so that all nodes have one time.
pub async fn follow_time(pool: &PgPool, clock: &Clock) -> Result<(), sqlx::Error> {
    const NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    let asked_ms = clock.now_ms();
    let theirs_ms: i64 = sqlx::query(NOW).fetch_one(pool).await?.try_get(0)?;
    let difference_ms = theirs_ms - i64::midpoint(asked_ms, clock.now_ms());
    if difference_ms.abs() > TIME_SLACK_MS {
        clock.correct_by_ms(difference_ms);
    }
    Ok(())
}

/// The heart: a database that cannot be reached is the writer's to report, so here it is only tried again.
async fn watch_over(
    pool: PgPool,
    node: watch::Receiver<Node>,
    clock: Clock,
    silence_ms: i64,
    hint: Arc<Notify>,
) {
    let mut forget_ms = clock.now_ms();
    loop {
        let now_ms = clock.now_ms();
        let own = *node.borrow();
        let forget = now_ms >= forget_ms;
        match round(&pool, own, &clock, silence_ms, forget).await {
            Ok(freed) => {
                if forget {
                    forget_ms = now_ms + FORGET_EVERY_MS;
                }
                if freed > 0 {
                    hint.notify_one();
                }
            }
            Err(error) => tracing::debug!(%error, "a node's round was not done"),
        }
        clock.sleep_until_ms(now_ms + silence_ms / BEATS).await;
    }
}

/// How many runs came back from silent nodes.
async fn round(
    pool: &PgPool,
    own: Node,
    clock: &Clock,
    silence_ms: i64,
    forget: bool,
) -> Result<u64, sqlx::Error> {
    follow_time(pool, clock).await?;
    node::beat(pool, own, clock.now_ms()).await?;
    let taken = node::take_over(pool, own, clock.now_ms(), silence_ms).await?;
    if taken > 0 {
        tracing::warn!(runs = taken, "a node was silent for too long; what it held is due again");
    }
    if forget {
        self::forget(pool, clock.now_ms()).await?;
    }
    Ok(taken)
}

/// Deletes identities past their window, a few thousand at a time.
async fn forget(pool: &PgPool, now_ms: i64) -> Result<(), sqlx::Error> {
    const FORGET: &str =
        "DELETE FROM dedupe WHERE ctid = ANY (ARRAY(SELECT ctid FROM dedupe WHERE event < $1 LIMIT $2))";
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

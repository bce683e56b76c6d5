//! The conformance suite on PostgreSQL, and what only nodes on PostgreSQL can get wrong.

mod gates;
mod lanes;
mod migrating;
mod sights;
mod unanswered;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use server::TestDatabase;
use sheaf_bundles::{
    budget::{Bill, Sent},
    lane::{Keeps, Lane, LaneId},
};

use crate::{
    clock::Clock,
    queue::{
        Claims, Health, LEASE_MS, Queue, QueueError, Settings,
        backend::{Backend as _, Batch, BillRow, PublishedRow, SettleRow, SettleStep},
        breaker::{Answered, FAILURES_MAX, OPEN_MS_FIRST},
        conformance::{
            Place, START_MS,
            aged::{self, Aged},
            budgeted::{self, a_day, a_second, budgeted},
            bundle, conformance, crm, delivered,
            failing::failing,
            gated::{ended, gated, limits},
            laned::laned,
            observed::observed,
            parked, publish,
            shared::{shared, shared_by_bundles},
            version,
            workspaces::of_workspaces,
        },
        gate::GateKind,
        gates::{Gates, failing::PARKED_MAX},
        history::LedgerLine,
        types::{Activated, Activation, Decision, Outcome, Publish, Published, Replay, Verdict},
    },
    storage::{
        database::Database,
        postgres::{
            backend::{Membership, PostgresBackend},
            connect,
            node::SILENCE_MS,
            schema,
        },
        store::Store,
    },
};

#[path = "../../../../tests/src/postgres.rs"]
#[expect(dead_code, reason = "some of it is for whole-product tests")]
pub mod server;

/// A database of its own, and one node's directory.
struct Shared {
    database: TestDatabase,
    folder: tempfile::TempDir,
}

impl Default for Shared {
    fn default() -> Shared {
        Shared { database: TestDatabase::new(), folder: tempfile::tempdir().unwrap() }
    }
}

impl Shared {
    /// The database as the node of that name sees it.
    fn seen_by(&self, node: &str) -> Database {
        Database::Postgres {
            url: self.database.url().parse().unwrap(),
            data: self.folder.path().join(node),
            node_silence_ms: SILENCE_MS,
        }
    }

    /// A node whose files say nothing of connections.
    async fn node(&self, node: &str, slots: usize, clock: Clock) -> Result<(Queue, Claims), QueueError> {
        let (queue, claims) = self.started(node, slots, clock).await?;
        queue.limit(HashMap::new()).await?;
        Ok((queue, claims))
    }

    async fn started(&self, node: &str, slots: usize, clock: Clock) -> Result<(Queue, Claims), QueueError> {
        let database = self.seen_by(node);
        Queue::serve(Settings { database, slots, lease_ms: LEASE_MS, clock }).await
    }
}

impl Shared {
    /// The writing side alone, for what a writer does only after faults.
    async fn backend(&self, node: &str, clock: Clock) -> PostgresBackend {
        let membership = Membership {
            url: self.database.url().parse().unwrap(),
            data: self.folder.path().join(node),
            silence_ms: SILENCE_MS,
            lease_ms: LEASE_MS,
            clock,
        };
        PostgresBackend::open(membership).await.unwrap()
    }
}

/// A turn of this test's time with room for runs.
fn batch<'a>(number: u64, gates: &'a Gates, settles: &'a [SettleRow], publishes: &'a [Publish]) -> Batch<'a> {
    Batch {
        number,
        now_ms: START_MS,
        lease_end_ms: START_MS + LEASE_MS,
        extended: &[],
        settles,
        claim_max: 4,
        slots: 4,
        gates,
        breakers: &[],
        failing: &[],
        bills: &[],
        publishes,
        probe: false,
    }
}

impl Place for Shared {
    fn is_there() -> bool {
        server::is_installed()
    }

    async fn serve(&self, slots: usize, clock: Clock) -> Result<(Queue, Claims), QueueError> {
        self.started("a", slots, clock).await
    }

    async fn store(&self, clock: Clock) -> Result<Store, QueueError> {
        Store::open(&self.seen_by("a"), clock).await
    }

    async fn harm(&self, sql: &str) {
        self.database.sql(sql);
    }
}

impl Aged for Shared {
    const LANES_SINCE: i64 = 3;

    fn schema() -> i64 {
        schema::known()
    }

    async fn age(&self, schema: i64) {
        self.database.set_aside();
        let pool = connect::pool(&self.database.url().parse().unwrap(), connect::Use::Write);
        schema::migrate_to(&pool, usize::try_from(schema).unwrap()).await.unwrap();
        pool.close().await.unwrap();
        self.database.take_back();
    }
}

#[tokio::test]
async fn a_database_of_any_older_schema_goes_on_with_all_that_it_holds() {
    if Shared::is_there() {
        aged::a_database_of_any_older_schema_goes_on_with_all_that_it_holds::<Shared>().await;
    }
}

conformance!(Shared);
observed!(Shared);
gated!(Shared);
failing!(Shared);
laned!(Shared);
budgeted!(Shared);
shared_by_bundles!(Shared);
of_workspaces!(Shared);

/// Versions that both nodes make active, so that either may publish.
async fn activate(queue: &Queue, hash: u8) -> Activated {
    queue.activate(vec![version("one", hash), version("two", 2)]).await.unwrap()
}

fn event(active: &Activated, identity: u64, due_ms: i64) -> Publish {
    let take = Decision {
        version: active.versions[0],
        bundle: bundle("one"),
        through: crm(),
        lane: None,
        verdict: Verdict::Take { due_ms },
    };
    publish(active.epoch, Some([identity, identity]), vec![take])
}

fn is_accepted(published: &Published) -> bool {
    matches!(published, Published::Accepted { .. })
}

async fn line(queue: &Queue) -> LedgerLine {
    queue.flush().await.unwrap();
    assert_eq!(queue.store().verify_ledger().await.unwrap(), []);
    let [line] = queue.store().ledger().await.unwrap().try_into().expect("one connection");
    assert!(line.events_balance && line.decisions_balance, "{line:?}");
    line
}

#[tokio::test]
async fn two_nodes_that_start_at_once_on_an_empty_database_both_serve() {
    if !server::is_installed() {
        return;
    }
    let shared = Shared::default();
    let (a, b) = tokio::join!(shared.node("a", 1, Clock::system()), shared.node("b", 1, Clock::system()));
    let ((a, _), (b, _)) = (a.unwrap(), b.unwrap());
    assert_eq!(activate(&a, 1).await, activate(&b, 1).await);
}

#[tokio::test]
async fn of_an_event_that_two_nodes_bring_at_once_one_is_accepted() {
    const EVENTS: u64 = 200;
    if !server::is_installed() {
        return;
    }
    let shared = Shared::default();
    let (a, _of_a) = shared.node("a", 1, Clock::system()).await.unwrap();
    let (b, _of_b) = shared.node("b", 1, Clock::system()).await.unwrap();
    let active = activate(&a, 1).await;
    let mut publishing = tokio::task::JoinSet::new();
    for identity in 0..EVENTS {
        // In opposite orders, so that their turns meet.
        for (queue, identity) in [(&a, identity), (&b, EVENTS - 1 - identity)] {
            let (queue, event) = (queue.clone(), event(&active, identity, i64::MAX));
            publishing.spawn(async move { queue.publish(event).await });
        }
    }
    let accepted = publishing.join_all().await.into_iter().filter(|one| is_accepted(one.as_ref().unwrap()));
    assert_eq!(accepted.count() as u64, EVENTS);
    let line = line(&a).await;
    assert_eq!((line.received, line.accepted, line.duplicate, line.pending), (400, 200, 200, 200));
}

#[tokio::test]
async fn what_one_node_has_no_slots_for_another_runs_and_each_run_is_claimed_once() {
    const EVENTS: usize = 300;
    if !server::is_installed() {
        return;
    }
    let shared = Shared::default();
    let (a, mut of_a) = shared.node("a", 4, Clock::system()).await.unwrap();
    let (b, mut of_b) = shared.node("b", 64, Clock::system()).await.unwrap();
    let active = activate(&a, 1).await;
    let mut publishing = tokio::task::JoinSet::new();
    for identity in 0..EVENTS {
        let (queue, event) = (a.clone(), event(&active, identity as u64, 0));
        publishing.spawn(async move { queue.publish(event).await });
    }
    let (mut runs, mut by_b) = (std::collections::HashSet::new(), 0);
    while runs.len() < EVENTS {
        let (claim, other) = tokio::select! {
            Some(claim) = of_a.recv() => (claim, false),
            Some(claim) = of_b.recv() => (claim, true),
        };
        assert!(runs.insert(claim.run), "{} was claimed twice", claim.run);
        by_b += usize::from(other);
        claim.settle(delivered());
    }
    assert!(by_b > 0, "the other node was told");
    assert!(publishing.join_all().await.into_iter().all(|one| is_accepted(&one.unwrap())));
    b.flush().await.unwrap();
    let line = line(&a).await;
    assert_eq!((line.accepted, line.delivered, line.pending), (300, 300, 0));
}

#[tokio::test]
async fn what_a_dead_node_held_comes_back_before_its_lease_ends() {
    if !server::is_installed() {
        return;
    }
    let shared = Shared::default();
    let (clock, set) = Clock::stopped_at(START_MS);
    let (a, mut of_a) = shared.node("a", 1, clock.clone()).await.unwrap();
    let active = activate(&a, 1).await;
    assert!(is_accepted(&a.publish(event(&active, 1, 0)).await.unwrap()));
    let held = of_a.recv().await.expect("handed over");
    drop((a, of_a));
    let (b, mut of_b) = shared.node("b", 1, clock).await.unwrap();
    b.flush().await.unwrap();
    assert!(of_b.try_recv().is_err(), "it may still be alive");
    set.set_ms(START_MS + SILENCE_MS + 1);
    const { assert!(SILENCE_MS + 1 < LEASE_MS) }
    let again = of_b.recv().await.expect("it comes by itself");
    assert_eq!(again.run, held.run);
    again.settle(delivered());
    assert_eq!(line(&b).await.delivered, 1);
}

#[tokio::test]
async fn a_node_that_was_taken_for_dead_is_refused_by_the_fence_and_joins_again() {
    if !server::is_installed() {
        return;
    }
    let shared = Shared::default();
    let (asleep, _) = Clock::stopped_at(START_MS);
    let (awake, set) = Clock::stopped_at(START_MS);
    let (a, mut of_a) = shared.node("a", 2, asleep).await.unwrap();
    let (b, mut of_b) = shared.node("b", 1, awake).await.unwrap();
    let active = activate(&a, 1).await;
    for identity in [1, 2] {
        assert!(is_accepted(&a.publish(event(&active, identity, 0)).await.unwrap()));
    }
    let (first, second) = (of_a.recv().await.expect("one"), of_a.recv().await.expect("two"));
    set.set_ms(START_MS + SILENCE_MS + 1);
    let taken = of_b.recv().await.expect("it is taken over");
    let (lost, kept) = if taken.run == first.run { (first, second) } else { (second, first) };
    // Both end on the node that was thought dead: one run is another's by now, one nobody has claimed yet.
    lost.settle(parked());
    kept.settle(delivered());
    let line_before = line(&a).await;
    assert_eq!((line_before.delivered, line_before.parked, line_before.pending), (1, 0, 1));
    assert_eq!(a.stats().stale, 1);
    taken.settle(delivered());
    b.flush().await.unwrap();
    assert!(is_accepted(&a.publish(event(&active, 3, i64::MAX)).await.unwrap()), "it takes part again");
    let line = line(&a).await;
    assert_eq!((line.delivered, line.parked, line.pending), (2, 0, 1));
}

#[tokio::test]
async fn the_newest_activation_wins_and_a_node_with_old_files_does_not_undo_it() {
    if !server::is_installed() {
        return;
    }
    let shared = Shared::default();
    let (a, _of_a) = shared.node("a", 1, Clock::system()).await.unwrap();
    let (b, _of_b) = shared.node("b", 1, Clock::system()).await.unwrap();
    let old = activate(&a, 1).await;
    assert_eq!(activate(&b, 1).await, old);
    let new = activate(&b, 3).await;
    assert_eq!((new.epoch, new.in_force), (old.epoch + 1, true));

    let stale = a.publish(event(&old, 1, 0)).await.unwrap();
    assert!(matches!(stale, Published::StaleEpoch { epoch, .. } if epoch == new.epoch), "{stale:?}");
    assert_eq!(*a.epoch().borrow(), new.epoch, "it hears of it");
    let (epoch, versions) = a.store().versions_in_force().await.unwrap();
    assert_eq!((epoch, versions.len()), (new.epoch, 2));

    drop((a, _of_a));
    let (a, _of_a) = restarted(&shared, "a").await;
    let again = activate(&a, 1).await;
    assert_eq!((again.epoch, again.in_force), (new.epoch, false), "it has nothing new to say");
    let newest = activate(&a, 4).await;
    assert_eq!((newest.epoch, newest.in_force), (new.epoch + 1, true));
}

#[tokio::test]
async fn a_node_with_old_files_of_which_a_workspace_is_wrong_does_not_undo_the_newest_activation_either() {
    if !server::is_installed() {
        return;
    }
    let shared = Shared::default();
    let (a, _of_a) = shared.node("a", 1, Clock::system()).await.unwrap();
    let (b, _of_b) = shared.node("b", 1, Clock::system()).await.unwrap();
    let wrong = |hash| Activation {
        versions: vec![version("one", hash)],
        keeping: BTreeSet::from(["shop".to_owned()]),
    };
    assert!(a.activate(wrong(1)).await.unwrap().in_force);
    let newest = b.activate(vec![version("one", 2), version("shop/one", 3)]).await.unwrap();
    drop((a, _of_a));
    let (a, _of_a) = restarted(&shared, "a").await;
    let again = a.activate(wrong(1)).await.unwrap();
    assert_eq!((again.epoch, again.in_force), (newest.epoch, false), "it has nothing new to say");
    let newer = a.activate(wrong(4)).await.unwrap();
    assert_eq!((newer.epoch, newer.in_force), (newest.epoch + 1, true));
    assert_eq!(a.store().versions_in_force().await.unwrap().1.len(), 2, "the other node's shop stays");
}

#[tokio::test]
async fn what_another_node_made_active_of_a_workspace_stays_when_one_with_old_files_says_something_of_others()
{
    if !server::is_installed() {
        return;
    }
    let shared = Shared::default();
    let (a, _of_a) = shared.node("a", 1, Clock::system()).await.unwrap();
    let (b, _of_b) = shared.node("b", 1, Clock::system()).await.unwrap();
    let (shop, depot) = (version("shop/one", 1), version("depot/one", 1));
    let old = vec![shop.clone(), depot.clone()];
    assert!(a.activate(old.clone()).await.unwrap().in_force);
    let newer = vec![shop.clone(), version("depot/one", 2), version("zed/one", 1)];
    assert!(b.activate(newer).await.unwrap().in_force);

    let shop_is_wrong =
        Activation { versions: vec![depot.clone()], keeping: BTreeSet::from(["shop".to_owned()]) };
    let shop_is_changed = vec![version("shop/one", 3), depot.clone()];
    for (said, of_shop) in
        [(shop_is_wrong, &shop), (old.into(), &shop), (shop_is_changed.into(), &version("shop/one", 3))]
    {
        assert!(!a.activate(said).await.unwrap().in_force, "depot is the other node's");
        let (_, versions) = a.store().versions_in_force().await.unwrap();
        let hash = |bundle| versions.iter().find(|it| it.bundle == bundle).map(|it| it.artefact.hash);
        assert_eq!(hash("shop/one"), Some(of_shop.artefact.hash));
        assert_eq!(hash("depot/one"), Some(version("depot/one", 2).artefact.hash));
        assert_eq!(hash("zed/one"), Some(version("zed/one", 1).artefact.hash));
    }

    assert!(!a.activate(vec![version("shop/one", 3)]).await.unwrap().in_force, "zed was never its own");
    let (_, versions) = a.store().versions_in_force().await.unwrap();
    let active: BTreeSet<&str> = versions.iter().map(|version| version.bundle.as_str()).collect();
    assert_eq!(active, BTreeSet::from(["shop/one", "zed/one"]), "depot is gone from its files");
}

/// A node whose last process is still closing keeps its directory locked for a moment.
async fn restarted(shared: &Shared, node: &str) -> (Queue, Claims) {
    loop {
        match shared.node(node, 4, Clock::system()).await {
            Err(QueueError::InUse(_)) => tokio::task::yield_now().await,
            other => return other.unwrap(),
        }
    }
}

#[tokio::test]
async fn no_plan_is_compiled_however_much_the_server_believes_there_is() {
    if !server::is_installed() {
        return;
    }
    let shared = Shared::default();
    let url = shared.database.url().parse().unwrap();
    let mut writer = super::connect::writer(&url).await.unwrap();
    let pool = super::connect::pool(&url, super::connect::Use::Read);
    let of_writer: String = sqlx::query_scalar("SHOW jit").fetch_one(&mut writer).await.unwrap();
    let pool = pool.get_postgres_connection_pool();
    let of_reader: String = sqlx::query_scalar("SHOW jit").fetch_one(pool).await.unwrap();
    assert_eq!([of_writer, of_reader], ["off", "off"]);
}

#[tokio::test]
async fn commits_are_durable_whatever_the_database_says_by_default() {
    if !server::is_installed() {
        return;
    }
    let shared = Shared::default();
    shared.database.sql("ALTER ROLE sheaf SET synchronous_commit = off");
    let mut writer = super::connect::writer(&shared.database.url().parse().unwrap()).await.unwrap();
    shared.database.sql("ALTER ROLE sheaf RESET synchronous_commit");
    let setting = sqlx::query_scalar("SHOW synchronous_commit").fetch_one(&mut writer).await;
    assert_eq!(setting.ok(), Some("on".to_owned()));
}

#[tokio::test]
async fn claims_and_their_sweep_read_the_index_in_its_order() {
    if !server::is_installed() {
        return;
    }
    let shared = Shared::default();
    let (_queue, _claims) = shared.node("a", 1, Clock::system()).await.unwrap();
    let mut writer = super::connect::writer(&shared.database.url().parse().unwrap()).await.unwrap();
    for (sql, values) in [
        (super::claim::TAKE, "(1, 0, 256, 2, 1)"),
        (super::claim::SOONEST, "(0)"),
        (super::claim::READY, "(1, 0, 256)"),
        (super::claim::BEHIND, "('{1,2}', '{4,4}', 256)"),
        (super::claim::SOONEST_BEHIND, "('{1,2}')"),
    ] {
        let prepare = sqlx::AssertSqlSafe(format!("PREPARE claim AS {sql}"));
        sqlx::raw_sql(prepare).execute(&mut writer).await.unwrap();
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN EXECUTE claim {values}"));
        let plan: Vec<String> = sqlx::query_scalar(explain).fetch_all(&mut writer).await.unwrap();
        let plan = plan.join("\n");
        assert!(
            (plan.contains("queue_due") || plan.contains("queue_gate")) && !plan.contains("Sort"),
            "{plan}"
        );
        sqlx::raw_sql("DEALLOCATE claim").execute(&mut writer).await.unwrap();
    }
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_found_and_counted_once() {
    if !server::is_installed() {
        return;
    }
    let shared = Shared { database: TestDatabase::alone(), ..Shared::default() };
    let (a, mut of_a) = shared.node("a", 4, Clock::system()).await.unwrap();
    let active = activate(&a, 1).await;
    assert!(is_accepted(&a.publish(event(&active, 0, i64::MAX)).await.unwrap()));
    // Commits now wait for a standby that is not there; they are on disk already.
    shared.database.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    shared.database.sql("SELECT pg_reload_conf()");
    let publishing = tokio::spawn({
        let (a, event) = (a.clone(), event(&active, 1, 0));
        async move { a.publish(event).await }
    });
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query = 'COMMIT'";
    while shared.database.sql(waiting) == "0" {
        tokio::task::yield_now().await;
    }
    shared.database.sql("ALTER SYSTEM RESET synchronous_standby_names");
    shared.database.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query = 'COMMIT'",
    );
    shared.database.sql("SELECT pg_reload_conf()");
    assert!(is_accepted(&publishing.await.unwrap().unwrap()));
    of_a.recv().await.expect("and its run is in hand").settle(delivered());
    let line = line(&a).await;
    assert_eq!((line.received, line.accepted, line.duplicate, line.delivered), (2, 2, 0, 1));
    assert_eq!(a.stats().stale, 0);
}

#[tokio::test]
async fn the_wait_for_a_connection_does_not_move_the_clock() {
    if !server::is_installed() {
        return;
    }
    let shared = Shared::default();
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(1);
    let pool = pool.connect(&shared.database.url()).await.unwrap();
    let clock = Clock::system();
    let mut held = pool.acquire().await.unwrap();
    let holding = tokio::spawn(async move {
        sqlx::query("SELECT pg_sleep(2)").execute(&mut *held).await.unwrap();
    });
    let before_ms = clock.now_ms() - Clock::system().now_ms();
    super::keeper::take_time(&pool, &clock).await.unwrap();
    let moved_ms = clock.now_ms() - Clock::system().now_ms() - before_ms;
    assert!(
        moved_ms.abs() < 500,
        "the database is on this machine, and has its time; moved by {moved_ms} ms"
    );
    holding.await.unwrap();
}

#[tokio::test]
async fn identities_past_their_window_are_forgotten_and_no_others() {
    if !server::is_installed() {
        return;
    }
    let shared = Shared::default();
    let (a, _of_a) = shared.node("a", 1, Clock::system()).await.unwrap();
    let active = activate(&a, 1).await;
    assert!(is_accepted(&a.publish(event(&active, 7, i64::MAX)).await.unwrap()));
    a.stop().await;
    shared.database.sql("INSERT INTO dedupe VALUES (1, 1, 1)");
    let (_a, _of_a) = restarted(&shared, "a").await;
    while shared.database.sql("SELECT count(*) FROM dedupe") != "1" {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_server_that_lost_the_latest_numbers_of_connections_gets_new_ones() {
    if !server::is_installed() {
        return;
    }
    let shared = Shared::default();
    let (a, _of_a) = shared.node("a", 1, Clock::system()).await.unwrap();
    let active = activate(&a, 1).await;
    assert!(is_accepted(&a.publish(event(&active, 1, i64::MAX)).await.unwrap()));
    // As after a failover to a standby that did not have them yet.
    shared.database.sql(
        "TRUNCATE connection, event, body, dedupe, queue, ledger_of_node;
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    a.health().wait_for(|health| matches!(health, Health::Failing(_))).await.unwrap();
    a.health().wait_for(|health| *health == Health::Ready).await.unwrap();
    assert!(is_accepted(&a.publish(event(&active, 2, i64::MAX)).await.unwrap()));
    assert_eq!(line(&a).await.accepted, 1);
}

#[tokio::test]
async fn settles_of_a_batch_that_was_given_up_although_it_was_stored_may_come_again_in_another() {
    if !server::is_installed() {
        return;
    }
    let shared = Shared::default();
    let (clock, _) = Clock::stopped_at(START_MS);
    let mut backend = shared.backend("a", clock.clone()).await;
    let gates = Gates::new(4);
    let active = backend.activate(&vec![version("one", 1)].into(), START_MS).await.unwrap();
    let events = [1, 2, 3, 4].map(|identity| event(&active, identity, 0));
    let published = backend.commit(&batch(1, &gates, &[], &events)).await.unwrap().published;
    let rows = published.into_iter().map(|one| match one {
        PublishedRow::Accepted { handed, .. } => handed[0],
        other => panic!("{other:?}"),
    });
    let due_ms = START_MS + 5_000;
    let steps = [
        SettleStep::Retry { due_ms, state: b"sent".to_vec() },
        SettleStep::Crashed { due_ms },
        SettleStep::Delivered { reason: None },
        SettleStep::Parked { reason: "refused".to_owned(), state: None },
    ];
    let settles: Vec<SettleRow> = rows
        .zip(steps)
        .map(|(row, step)| SettleRow {
            row,
            step,
            through: row.through,
            started_ms: START_MS,
            deliveries: Vec::new(),
        })
        .collect();
    // Each cost one more than was paid for it.
    let mut limited = Gates::new(4);
    limited.limit(budgeted::limits(&[a_day(100)]));
    let bills: Vec<BillRow> = settles
        .iter()
        .map(|settle| BillRow {
            run: settle.row.run,
            fence: settle.row.fence,
            gate: crm(),
            bill: Bill {
                paid: 1,
                paid_ms: START_MS,
                sent: Some(Sent { cost: 2, well: true, at_ms: START_MS, readings: Vec::new() }),
            },
        })
        .collect();
    backend.commit(&Batch { bills: &bills, ..batch(2, &limited, &settles, &[]) }).await.unwrap();
    // The writer never heard of it, and brings them with what has come since; one has been replayed meanwhile.
    let store = shared.store(clock).await.unwrap();
    let spent = async || 100 - store.budgets_left().await.unwrap()[0].left;
    assert_eq!(spent().await, 4);
    store.replay(&[settles[3].row.run], Replay::Retry).await.unwrap();
    let more = [event(&active, 5, i64::MAX)];
    let again = Batch { bills: &bills, claim_max: 0, ..batch(3, &limited, &settles, &more) };
    let again = backend.commit(&again).await.unwrap();
    let ended: Vec<_> = settles[2..].iter().map(|settle| (settle.row.run, settle.row.fence)).collect();
    assert_eq!(again.stale, ended, "what is moved on is moved there again");
    assert_eq!(spent().await, 4, "no bill counts twice");
    backend.close().await;
    assert_eq!(store.verify_ledger().await.unwrap(), []);
    let [line] = store.ledger().await.unwrap().try_into().expect("one connection");
    assert_eq!((line.accepted, line.delivered, line.parked, line.pending), (5, 1, 0, 4));
    assert_eq!(store.run(settles[0].row.run).await.unwrap().expect("known").attempts.len(), 1);
}

#[tokio::test]
async fn an_event_without_an_identity_is_stored_once_though_the_node_was_taken_over_before_it_heard() {
    if !server::is_installed() {
        return;
    }
    let shared = Shared { database: TestDatabase::alone(), ..Shared::default() };
    let (a, mut of_a) = shared.node("a", 4, Clock::system()).await.unwrap();
    let active = activate(&a, 1).await;
    let nameless = publish(active.epoch, None, vec![]);
    let verdict = Verdict::Take { due_ms: 0 };
    let take =
        Decision { version: active.versions[0], bundle: bundle("one"), through: crm(), lane: None, verdict };
    let taken = publish(active.epoch, None, vec![take]);
    assert!(is_accepted(&a.publish(nameless).await.unwrap()));
    shared.database.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    shared.database.sql("SELECT pg_reload_conf()");
    let publishing = tokio::spawn({
        let a = a.clone();
        async move { a.publish(taken).await }
    });
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query = 'COMMIT'";
    while shared.database.sql(waiting) == "0" {
        tokio::task::yield_now().await;
    }
    shared.database.sql("ALTER SYSTEM RESET synchronous_standby_names");
    // In one go: the connection ends, the commit was never answered, and others fence the node off and free what it held.
    shared.database.sql(
        "SET synchronous_commit = local;
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query = 'COMMIT';
         UPDATE node SET epoch = 0;
         UPDATE queue SET due_ms = 0, owner = 0, lost = lost + 1 WHERE owner <> 0;
         SELECT pg_reload_conf()",
    );
    assert!(is_accepted(&publishing.await.unwrap().unwrap()));
    of_a.recv().await.expect("its run is due again").settle(delivered());
    let line = line(&a).await;
    assert_eq!((line.received, line.accepted, line.delivered, line.pending), (2, 2, 1, 0));
    assert_eq!(a.stats().stale, 0);
}

#[tokio::test]
async fn a_server_that_is_killed_under_load_costs_no_acknowledged_event_and_doubles_none() {
    const PUBLISHERS: u64 = 16;
    const ROUNDS: u64 = 3;
    if !server::is_installed() {
        return;
    }
    let shared = Shared { database: TestDatabase::alone(), ..Shared::default() };
    let (a, mut of_a) = shared.node("a", 8, Clock::system()).await.unwrap();
    let active = Arc::new(activate(&a, 1).await);
    let accepted = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let settling = tokio::spawn(async move {
        while let Some(claim) = of_a.recv().await {
            claim.settle(delivered());
        }
    });
    let mut publishing = tokio::task::JoinSet::new();
    for publisher in 0..PUBLISHERS {
        let (a, active, accepted, stop) = (a.clone(), active.clone(), accepted.clone(), stop.clone());
        publishing.spawn(async move {
            let mut identity = publisher;
            while !stop.load(Ordering::Relaxed) {
                // One that was refused is brought again, as the spool does: it is one event.
                match a.publish(event(&active, identity, 0)).await {
                    Ok(Published::Accepted { .. } | Published::Duplicate { .. }) => {
                        accepted.fetch_add(1, Ordering::Relaxed);
                        identity += PUBLISHERS;
                    }
                    Ok(other) => panic!("{other:?}"),
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
    }
    for _ in 0..ROUNDS {
        let before = accepted.load(Ordering::Relaxed);
        while accepted.load(Ordering::Relaxed) < before + 200 {
            tokio::task::yield_now().await;
        }
        shared.database.server().kill().unwrap();
        a.health().wait_for(|health| matches!(health, Health::Failing(_))).await.unwrap();
        shared.database.server().start().unwrap();
        a.health().wait_for(|health| *health == Health::Ready).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    publishing.join_all().await;
    let all = i64::try_from(accepted.load(Ordering::Relaxed)).unwrap();
    loop {
        let line = line(&a).await;
        assert_eq!(line.accepted, all);
        if line.pending == 0 {
            assert_eq!(line.delivered, all);
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    a.stop().await;
    settling.await.unwrap();
}

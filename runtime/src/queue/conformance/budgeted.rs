//! What every backend must do with budgets: never let more out than there is, and give back what was not spent.

use std::collections::HashMap;

use chrono::NaiveTime;
use sheaf_bundles::budget::{Budget, Charge, DAY_MS, Reading, Sent, Window};

use super::*;
use crate::queue::gate::{BudgetLeft, Limit};

const SECOND_MS: i64 = 1_000;
/// A second's budget is whole again by then.
const WHOLE_MS: i64 = 1_100;

/// So many in any second.
pub fn a_second(amount: i64) -> Budget {
    let (name, window) = ("second".to_owned(), Window::Rolling { ms: SECOND_MS });
    Budget { name, amount, window, charge: Charge::Always, reserve_percent: 0, told: false }
}

/// So many each day.
pub fn a_day(amount: i64) -> Budget {
    let window = Window::Daily { at: NaiveTime::MIN, zone: "Europe/Moscow".parse().unwrap() };
    Budget { name: "day".to_owned(), window, ..a_second(amount) }
}

/// The connection `crm` with these budgets, and another without any.
pub fn limits(budgets: &[Budget]) -> HashMap<GateId, Limit> {
    // Bundles share it: what waits for it waits apart for each, replays as well.
    let limited = Limit { budgets: budgets.to_vec(), bundles: 2, ..Limit::none("crm") };
    let other = GateId::of(GateKind::Connection, "sms");
    HashMap::from([(crm(), limited), (other, Limit::none("sms"))])
}

/// A request that cost one.
pub fn sent(well: bool, at_ms: i64, remaining: Option<i64>) -> Option<Sent> {
    let reading = |remaining| Reading { budget: "day".to_owned(), remaining, reset_ms: None };
    Some(Sent { cost: 1, well, at_ms, readings: remaining.map(reading).into_iter().collect() })
}

pub fn done(sent: Option<Sent>) -> Settle {
    Settle { sent, ..delivered() }
}

impl<P: Place> Bench<P> {
    async fn budgets(&mut self, budgets: &[Budget]) {
        self.limit(limits(budgets)).await;
    }

    /// The claims that come out now.
    async fn out(&mut self) -> Vec<Claim> {
        let mut claims = Vec::new();
        loop {
            self.queue.flush().await.unwrap();
            match self.claims.try_recv() {
                Ok(claim) => claims.push(claim),
                Err(_) => return claims,
            }
        }
    }

    /// The same, settled as sent and delivered; how many they were.
    async fn sent_now(&mut self) -> usize {
        let mut count = 0;
        loop {
            let claims = self.out().await;
            if claims.is_empty() {
                return count;
            }
            count += claims.len();
            let now_ms = self.clock.now_ms();
            claims.into_iter().for_each(|claim| claim.settle(done(sent(true, now_ms, None))));
        }
    }

    async fn left(&self) -> Vec<(String, i64)> {
        let left = self.queue.store().budgets_left().await.unwrap();
        left.into_iter().map(|BudgetLeft { budget, left, .. }| (budget, left)).collect()
    }
}

pub async fn a_budget_is_never_passed_and_comes_back_and_a_restart_forgets_nothing<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    bench.budgets(&[a_second(3), a_day(7)]).await;
    for identity in 0..9 {
        bench.accept(bench.event(identity, 0)).await;
    }
    assert_eq!(bench.sent_now().await, 3);
    assert_eq!(bench.left().await, [("second".to_owned(), 0), ("day".to_owned(), 4)]);
    let mut bench = bench.restart(8).await;
    assert_eq!(bench.sent_now().await, 0);
    bench.set.advance_ms(SECOND_MS);
    assert_eq!(bench.sent_now().await, 0);
    bench.set.advance_ms(WHOLE_MS - SECOND_MS);
    assert_eq!(bench.sent_now().await, 3);
    bench.set.advance_ms(WHOLE_MS);
    assert_eq!(bench.sent_now().await, 1, "the day's last");
    bench.set.advance_ms(3_600_000);
    assert_eq!(bench.sent_now().await, 0);
    assert_eq!(bench.line().await.pending, 2);
    let [day] = bench.queue.store().budgets_left().await.unwrap().try_into().expect("the second is whole");
    assert_eq!((day.budget.as_str(), day.left, day.spent, day.waiting), ("day", 0, true, 2));
    bench.set.advance_ms(DAY_MS);
    assert_eq!(bench.sent_now().await, 2);
    assert_eq!(bench.line().await.pending, 0);
}

pub async fn runs_of_a_spent_budget_wait_and_no_other_connection_does<P: Place>() {
    let mut bench = Bench::<P>::new(4).await;
    bench.budgets(&[a_day(1)]).await;
    for identity in 0..40 {
        bench.accept(bench.event(identity, 0)).await;
    }
    assert_eq!(bench.sent_now().await, 1);
    for identity in 100..110 {
        let take = Decision { through: GateId::of(GateKind::Connection, "sms"), ..bench.take(0) };
        bench.accept(publish(bench.epoch, Some([identity, identity]), vec![take])).await;
        assert_eq!(bench.sent_now().await, 1);
    }
    assert_eq!(bench.line().await.pending, 39);
    // Larger budgets in new files hold at once.
    bench.budgets(&[a_day(100)]).await;
    assert_eq!(bench.sent_now().await, 39);
}

pub async fn what_was_spent_of_a_budget_that_is_taken_out_of_the_files_is_forgotten<P: Place>() {
    let mut bench = Bench::<P>::new(4).await;
    bench.budgets(&[a_day(1)]).await;
    for identity in 0..2 {
        bench.accept(bench.event(identity, 0)).await;
    }
    assert_eq!(bench.sent_now().await, 1);
    assert_eq!(bench.left().await, [("day".to_owned(), 0)]);
    bench.budgets(&[]).await;
    assert_eq!(bench.left().await, []);
    assert_eq!(bench.sent_now().await, 1);
    assert_eq!(bench.left().await, []);
}

pub async fn what_was_not_sent_or_not_charged_is_given_back<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    bench.budgets(&[Budget { charge: Charge::OnSuccess, ..a_day(2) }]).await;
    for identity in 0..4 {
        bench.accept(bench.event(identity, 0)).await;
    }
    let [first, second] = bench.out().await.try_into().expect("two");
    assert!(first.pass.paid && first.pass.through == crm());
    assert!(first.pass.covers(crm(), false) && !first.pass.covers(crm(), true));
    let back = first.run;
    drop(first);
    let [again] = bench.out().await.try_into().expect("one");
    assert_eq!(again.run, back);
    // Refused, and so free of charge.
    let later = Outcome::Retry { due_ms: START_MS + 10 * DAY_MS, state: Vec::new() };
    again.settle(Settle { sent: sent(false, START_MS, None), ..settle(later) });
    let [third] = bench.out().await.try_into().expect("one");
    for claim in [second, third] {
        claim.settle(done(sent(true, START_MS, None)));
    }
    assert_eq!(bench.sent_now().await, 0);
    assert_eq!(bench.left().await, [("day".to_owned(), 0)]);
}

pub async fn a_bill_counts_only_with_its_settle<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    bench.budgets(&[a_day(2)]).await;
    bench.accept(bench.event(1, 0)).await;
    let [taken_over] = bench.out().await.try_into().expect("one");
    bench.place.harm("UPDATE queue SET fence = fence + 1").await;
    drop(taken_over);
    bench.queue.flush().await.unwrap();
    assert_eq!(bench.queue.stats().stale, 1);
    assert_eq!(bench.left().await, [("day".to_owned(), 1)]);
}

pub async fn replays_leave_a_share_to_new_events<P: Place>() {
    let mut bench = Bench::<P>::new(16).await;
    let mut runs = Vec::new();
    for identity in 0..6 {
        bench.accept(bench.event(identity, 0)).await;
        let claim = bench.claim().await;
        runs.push(claim.run);
        claim.settle(delivered());
    }
    bench.queue.flush().await.unwrap();
    bench.budgets(&[Budget { reserve_percent: 50, ..a_day(6) }]).await;
    let store = bench.queue.store().clone();
    assert_eq!(store.replay(&runs, Replay::New { version: None }).await.unwrap().runs.len(), 6);
    bench.set.advance_ms(SECOND_MS);
    assert_eq!(bench.sent_now().await, 3);
    for identity in 10..15 {
        bench.accept(bench.event(identity, 0)).await;
    }
    assert_eq!(bench.sent_now().await, 3, "new events, although the replays came first");
    assert_eq!(bench.line().await.pending, 5);
    bench.set.advance_ms(DAY_MS);
    assert_eq!(bench.sent_now().await, 3, "two new events and one replay: half of the budget is left");
    assert_eq!(bench.line().await.pending, 2);
}

pub async fn a_vendors_answer_says_what_is_left<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    bench.budgets(&[Budget { told: true, ..a_day(100) }]).await;
    for identity in 0..9 {
        bench.accept(bench.event(identity, 0)).await;
    }
    let mut claims = bench.out().await;
    assert_eq!(claims.len(), 4, "half of the slots");
    // Somebody else has spent nearly all of it; three of ours are under way.
    claims.remove(0).settle(done(sent(true, START_MS, Some(4))));
    let [_last] = bench.out().await.try_into().expect("one");
    assert_eq!(bench.left().await, [("day".to_owned(), 0)]);
    for claim in claims {
        claim.settle(done(sent(true, START_MS, Some(1))));
    }
    assert_eq!(bench.sent_now().await, 0);
}

pub async fn a_later_step_waits_at_its_own_gate_with_what_was_done_and_no_refusal_counted<P: Place>() {
    let mut bench = Bench::<P>::new(8).await;
    bench.budgets(&[a_second(1)]).await;
    for identity in 0..2 {
        let take = Decision { through: GateId::of(GateKind::Connection, "sms"), ..bench.take(0) };
        bench.accept(publish(bench.epoch, Some([identity, identity]), vec![take])).await;
    }
    for claim in bench.out().await {
        assert!(!claim.pass.covers(crm(), false));
        let state = b"half".to_vec();
        claim.settle(settle(Outcome::Onward { through: crm(), state }));
    }
    let [claim] = bench.out().await.try_into().expect("one of two");
    assert_eq!((claim.attempt, claim.state.as_deref()), (0, Some(&b"half"[..])));
    let run = claim.run;
    claim.settle(done(sent(true, START_MS, None)));
    bench.queue.flush().await.unwrap();
    let detail = bench.queue.store().run(run).await.unwrap().expect("known");
    assert_eq!(detail.attempts.len(), 2, "what the first step sent is kept");
    bench.set.advance_ms(WHOLE_MS);
    assert_eq!(bench.sent_now().await, 1);
    assert_eq!(bench.line().await.delivered, 2);
}

/// Instantiates these cases for one kind of place.
macro_rules! budgeted {
    ($place:ty: $($case:ident)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                if !<$place as $crate::queue::conformance::Place>::is_there() {
                    return;
                }
                $crate::queue::conformance::budgeted::$case::<$place>().await;
            }
        )*
    };
    ($place:ty) => {
        $crate::queue::conformance::budgeted::budgeted! { $place:
            a_budget_is_never_passed_and_comes_back_and_a_restart_forgets_nothing
            runs_of_a_spent_budget_wait_and_no_other_connection_does
            what_was_spent_of_a_budget_that_is_taken_out_of_the_files_is_forgotten
            what_was_not_sent_or_not_charged_is_given_back
            a_bill_counts_only_with_its_settle
            replays_leave_a_share_to_new_events
            a_vendors_answer_says_what_is_left
            a_later_step_waits_at_its_own_gate_with_what_was_done_and_no_refusal_counted
        }
    };
}
pub(crate) use budgeted;

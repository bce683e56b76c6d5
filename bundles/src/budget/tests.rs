use super::*;

/// 2026-03-05 07:15:30 UTC.
const NOW_MS: i64 = 1_772_694_930_000;

fn budget(name: &str, amount: i64, window: Window) -> Budget {
    let name = name.to_owned();
    Budget { name, amount, window, charge: Charge::Always, reserve_percent: 0, told: false }
}

fn second(amount: i64) -> Budget {
    budget("second", amount, Window::Rolling { ms: 1_000 })
}

fn moscow_day(amount: i64) -> Budget {
    budget("day", amount, Window::Daily { at: NaiveTime::MIN, zone: chrono_tz::Europe::Moscow })
}

fn open(budgets: &[Budget]) -> Accounts {
    Accounts::default().of(budgets, NOW_MS)
}

/// Pays for whatever may be paid for at each of these times; the times of the requests.
fn requests(budgets: &[Budget], times: impl Iterator<Item = i64>) -> Vec<i64> {
    let mut accounts = open(budgets);
    let mut sent = Vec::new();
    for now_ms in times {
        accounts = accounts.of(budgets, now_ms);
        let most = accounts.requests_max(budgets, 1, false, now_ms);
        accounts.pay(budgets, 1, most, now_ms);
        sent.extend(std::iter::repeat_n(now_ms, most));
    }
    sent
}

/// The most requests in any window of that length.
fn densest(sent: &[i64], window_ms: i64) -> usize {
    let within = |from: &i64| sent.iter().filter(|at| (*from..*from + window_ms).contains(at)).count();
    sent.iter().map(within).max().unwrap_or(0)
}

fn bill(paid_ms: i64, sent: Option<Sent>) -> Bill {
    Bill { paid: 1, paid_ms, sent }
}

fn answer(at_ms: i64, remaining: i64, reset_ms: Option<i64>) -> Option<Sent> {
    let reading = Reading { budget: "day".to_owned(), remaining, reset_ms };
    Some(Sent { cost: 1, well: true, at_ms, readings: vec![reading] })
}

fn left(accounts: &Accounts, now_ms: i64) -> Vec<i64> {
    accounts.iter().map(|account| account.left(now_ms)).collect()
}

#[test]
fn a_burst_takes_all_at_once_and_it_comes_back_after_the_window() {
    let budgets = [second(7)];
    let mut accounts = open(&budgets);
    assert_eq!(accounts.requests_max(&budgets, 1, false, NOW_MS), 7);
    accounts.pay(&budgets, 1, 7, NOW_MS);
    assert_eq!(accounts.requests_max(&budgets, 1, false, NOW_MS + 1_000), 0);
    let free_ms = accounts.free_ms(&budgets, 1, false, NOW_MS);
    assert!((NOW_MS + 1_050..=NOW_MS + 1_100).contains(&free_ms), "{}", free_ms - NOW_MS);
    assert_eq!(accounts.requests_max(&budgets, 1, false, free_ms - 1), 0);
    assert_eq!(accounts.requests_max(&budgets, 1, false, free_ms), 7);
}

#[test]
fn no_window_wherever_it_begins_sees_more_than_the_amount_and_nearly_all_of_it_is_used() {
    for step_ms in [1, 7, 50, 143, 333, 999] {
        let steps = 20_000 / step_ms;
        let sent = requests(&[second(7)], (0..steps).map(|step| NOW_MS + step * step_ms));
        assert!(densest(&sent, 1_000) <= 7, "every {step_ms} ms");
        if step_ms < 100 {
            assert!(sent.len() >= 7 * 18, "every {step_ms} ms: {} in 20 s", sent.len());
        }
    }
}

#[test]
fn several_windows_hold_at_once() {
    let budgets = [second(7), budget("minute", 20, Window::Rolling { ms: 60_000 })];
    let sent = requests(&budgets, (0..1_300).map(|step| NOW_MS + step * 100));
    assert_eq!((densest(&sent, 1_000), densest(&sent, 60_000)), (7, 20));
    assert_eq!(sent.len(), 60, "130 s are two minutes with their margins, and the beginning of the third");
}

#[test]
fn the_state_stays_small_however_often_it_is_paid_from() {
    let budgets = [second(1_000), moscow_day(1_000_000)];
    let mut accounts = open(&budgets);
    for now_ms in NOW_MS..NOW_MS + 5_000 {
        accounts = accounts.of(&budgets, now_ms);
        accounts.pay(&budgets, 1, 1, now_ms);
    }
    assert!(accounts.iter().all(|account| account.spent.len() <= 23), "{accounts:?}");
}

#[test]
fn a_day_begins_at_its_hour_in_its_zone_and_a_change_of_clocks_does_not_move_it() {
    let budgets = [moscow_day(3)];
    let mut accounts = open(&budgets);
    accounts.pay(&budgets, 1, 3, NOW_MS);
    // 07:15:30 UTC is 10:15:30 in Moscow.
    let midnight_ms = NOW_MS + (13 * 3_600 + 44 * 60 + 30) * 1_000;
    assert_eq!(accounts.free_ms(&budgets, 1, false, NOW_MS), midnight_ms + MARGIN_MS);
    assert_eq!(left(&accounts, midnight_ms + MARGIN_MS), [3]);
    let zone = chrono_tz::Europe::Berlin;
    let at = NaiveTime::from_hms_opt(2, 30, 0).unwrap();
    let moment = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis();
    // There is no 02:30 on that day.
    assert_eq!(next_at(at, zone, moment("2026-03-28T22:00:00Z")), moment("2026-03-29T03:30:00+02:00"));
    assert_eq!(next_at(at, zone, moment("2026-03-29T02:30:00Z")), moment("2026-03-30T02:30:00+02:00"));
    // At the very moment the next one is a day away.
    assert_eq!(next_at(at, zone, moment("2026-03-30T02:30:00+02:00")), moment("2026-03-31T02:30:00+02:00"));
}

#[test]
fn replays_leave_the_reserve_to_new_events() {
    let budgets = [Budget { reserve_percent: 20, ..moscow_day(10) }];
    let mut accounts = open(&budgets);
    assert_eq!(accounts.requests_max(&budgets, 1, true, NOW_MS), 8);
    accounts.pay(&budgets, 1, 8, NOW_MS);
    assert_eq!(accounts.requests_max(&budgets, 1, true, NOW_MS), 0);
    assert!(accounts.free_ms(&budgets, 1, true, NOW_MS) > NOW_MS);
    assert_eq!(accounts.requests_max(&budgets, 1, false, NOW_MS), 2);
    assert_eq!(accounts.free_ms(&budgets, 1, false, NOW_MS), NOW_MS);
    // Of very little something is left for a replay all the same.
    let one = [Budget { reserve_percent: 90, ..moscow_day(1) }];
    assert_eq!(open(&one).requests_max(&one, 1, true, NOW_MS), 1);
}

#[test]
fn what_was_not_sent_or_did_not_succeed_is_given_back() {
    let budgets = [Budget { charge: Charge::OnSuccess, ..moscow_day(10) }, second(5)];
    let mut accounts = open(&budgets);
    accounts.pay(&budgets, 1, 3, NOW_MS);
    assert_eq!(left(&accounts, NOW_MS), [7, 2]);
    accounts.settle(&budgets, &bill(NOW_MS, None), 0, NOW_MS + 5);
    assert_eq!(left(&accounts, NOW_MS + 5), [8, 3]);
    let failed = Some(Sent { cost: 1, well: false, at_ms: NOW_MS, readings: Vec::new() });
    accounts.settle(&budgets, &bill(NOW_MS, failed), 0, NOW_MS + 6);
    assert_eq!(left(&accounts, NOW_MS + 6), [9, 3]);
    let dear = Some(Sent { cost: 4, well: true, at_ms: NOW_MS, readings: Vec::new() });
    accounts.settle(&budgets, &bill(NOW_MS, dear), 0, NOW_MS + 7);
    assert_eq!(left(&accounts, NOW_MS + 7), [6, 0], "three more than was paid");
    // What has come back already is not given twice.
    let later_ms = NOW_MS + 5_000;
    let mut accounts = accounts.of(&budgets, later_ms);
    accounts.settle(&budgets, &bill(NOW_MS, None), 0, later_ms);
    assert_eq!(left(&accounts, later_ms), [7, 5]);
}

#[test]
fn a_bill_is_only_written_when_it_changes_something() {
    let plain = [second(7)];
    let sent = |cost, well| Some(Sent { cost, well, at_ms: NOW_MS, readings: Vec::new() });
    assert!(!bill(NOW_MS, sent(1, true)).counts(&plain));
    assert!(!bill(NOW_MS, sent(1, false)).counts(&plain));
    assert!(bill(NOW_MS, sent(2, true)).counts(&plain));
    assert!(bill(NOW_MS, None).counts(&plain));
    assert!(bill(NOW_MS, sent(1, false)).counts(&[Budget { charge: Charge::OnSuccess, ..second(7) }]));
    assert!(bill(NOW_MS, sent(1, true)).counts(&[Budget { told: true, ..second(7) }]));
}

#[test]
fn an_answer_lowers_what_is_left_at_once_and_raises_it_only_when_it_is_the_newest() {
    let budgets = [Budget { told: true, ..moscow_day(3_000) }];
    let mut accounts = open(&budgets);
    accounts.pay(&budgets, 1, 3, NOW_MS);
    // Somebody else spends from it too; two of ours are under way and may be counted or not.
    accounts.settle(&budgets, &bill(NOW_MS, answer(NOW_MS, 100, None)), 2, NOW_MS + 50);
    assert_eq!(left(&accounts, NOW_MS + 50), [98]);
    // Sent before the last one ended: it may not know of that.
    accounts.settle(&budgets, &bill(NOW_MS, answer(NOW_MS + 10, 2_990, None)), 1, NOW_MS + 60);
    assert_eq!(left(&accounts, NOW_MS + 60), [98]);
    accounts.settle(&budgets, &bill(NOW_MS, answer(NOW_MS + 60, 2_990, None)), 0, NOW_MS + 90);
    assert_eq!(left(&accounts, NOW_MS + 90), [2_990]);
    // The vendor's limit was raised past the declared one, until its day is over.
    accounts.settle(&budgets, &bill(NOW_MS, answer(NOW_MS + 100, 9_000, None)), 0, NOW_MS + 100);
    assert_eq!(accounts.requests_max(&budgets, 1, false, NOW_MS + 100), 9_000);
    assert_eq!(left(&accounts, NOW_MS + DAY_MS), [3_000]);
}

#[test]
fn an_answer_says_when_it_is_whole_again() {
    let budgets = [Budget { told: true, ..moscow_day(3_000) }];
    let mut accounts = open(&budgets);
    accounts.pay(&budgets, 1, 2, NOW_MS);
    accounts.settle(&budgets, &bill(NOW_MS, answer(NOW_MS, 0, Some(41_000))), 1, NOW_MS + 50);
    assert_eq!(accounts.requests_max(&budgets, 1, false, NOW_MS + 50), 0);
    let free_ms = accounts.free_ms(&budgets, 1, false, NOW_MS + 50);
    assert_eq!(free_ms, NOW_MS + 50 + 41_000 + MARGIN_MS);
    assert_eq!(left(&accounts, free_ms), [2_999], "the one under way may have reached the vendor after that");
}

#[test]
fn a_clock_that_goes_back_holds_nothing_for_longer_than_a_window() {
    let budgets = [second(2), budget("hour", 2, Window::Rolling { ms: 3_600_000 })];
    let mut accounts = open(&budgets);
    accounts.pay(&budgets, 1, 2, NOW_MS);
    let back_ms = NOW_MS - 10 * 3_600_000;
    let accounts = accounts.of(&budgets, back_ms);
    assert_eq!(accounts.requests_max(&budgets, 1, false, back_ms), 0);
    let free_ms = accounts.free_ms(&budgets, 1, false, back_ms);
    assert!(free_ms <= back_ms + 3_600_000 + 3_600_000 / SLICES + MARGIN_MS);
    // A clock that jumps ahead finds all of it back.
    assert_eq!(accounts.of(&budgets, NOW_MS + DAY_MS).requests_max(&budgets, 1, false, NOW_MS + DAY_MS), 2);
}

#[test]
fn files_that_change_keep_what_is_spent_of_the_budgets_they_keep() {
    let mut accounts = open(&[second(7), moscow_day(10)]);
    accounts.pay(&[second(7), moscow_day(10)], 1, 4, NOW_MS);
    let budgets = [moscow_day(5)];
    let accounts = accounts.of(&budgets, NOW_MS);
    assert_eq!(left(&accounts, NOW_MS), [1]);
    assert_eq!(accounts.requests_max(&budgets, 2, false, NOW_MS), 0);
    assert_eq!(accounts.requests_max(&budgets, 1, false, NOW_MS), 1);
    let stored = serde_json::to_string(&accounts).unwrap();
    assert_eq!(serde_json::from_str::<Accounts>(&stored).unwrap(), accounts);
}

#[test]
fn what_costs_more_than_there_can_be_takes_all_of_it() {
    let budgets = [second(3)];
    let mut accounts = open(&budgets);
    assert_eq!(accounts.requests_max(&budgets, 10, false, NOW_MS), 1);
    accounts.pay(&budgets, 10, 1, NOW_MS);
    assert_eq!(accounts.requests_max(&budgets, 1, false, NOW_MS), 0);
}

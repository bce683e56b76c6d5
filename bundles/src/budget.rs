//! Budgets of a connection: how much a vendor lets us send in a time, and what is left of it. Pure: it is told the time.
//!
//! What is spent comes back at a known time: a window after it was spent, or when the vendor's day begins anew. So what is
//! left is the amount less all that has not come back yet, and no window of the vendor's, wherever it begins, sees more than
//! the amount. A bucket that refills (GCRA) would let twice as much through in the first window.

use chrono::{DateTime, Days, NaiveDateTime, NaiveTime, TimeZone};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use crate::template::Template;

/// The most budgets of one connection.
pub const BUDGETS_MAX: usize = 8;
/// The most that a budget may hold and a request may cost.
pub const AMOUNT_MAX: i64 = 1_000_000_000;
/// The shortest and the longest window, milliseconds.
pub const WINDOW_MS_MIN: i64 = 1_000;
/// See there: 31 days.
pub const WINDOW_MS_MAX: i64 = 31 * DAY_MS;
/// The largest share that may be kept, percent.
pub const RESERVE_PERCENT_MAX: i64 = 90;
/// A day, milliseconds.
pub const DAY_MS: i64 = 86_400_000;

/// What is spent within this part of a window comes back together.
const SLICES: i64 = 20;
/// A request is sent a little after it was paid for and counted by a clock that is not ours: what was spent comes back later
/// by this, or by a slice where that is shorter, milliseconds.
const MARGIN_MS: i64 = 1_000;

/// One limit of a vendor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Its name, unique in the connection.
    pub name: String,
    /// How much may be spent in one window, at least 1.
    pub amount: i64,
    /// In what time.
    pub window: Window,
    /// Which requests are charged.
    pub charge: Charge,
    /// The share that replays leave to new events, percent of the amount.
    pub reserve_percent: i64,
    /// The vendor's answers say what is left.
    pub told: bool,
}

/// When what was spent comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// So many milliseconds after it was spent.
    Rolling {
        /// How many.
        ms: i64,
    },
    /// Each day at this time in this zone.
    Daily {
        /// The time of day.
        at: NaiveTime,
        /// Whose.
        zone: Tz,
    },
}

/// Which requests are charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charge {
    /// Each that was sent.
    Always,
    /// Those that did what they should.
    OnSuccess,
}

/// Where a vendor's answers say what is left of a budget.
#[derive(Debug)]
pub struct Truth {
    /// The budget's name.
    pub budget: String,
    /// What is left.
    pub remaining: Template,
    /// When it is whole again: in seconds, or a moment.
    pub reset: Option<Template>,
}

/// What a vendor's answer says of one budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The budget's name.
    pub budget: String,
    /// What is left.
    pub remaining: i64,
    /// In how many milliseconds it is whole again.
    pub reset_ms: Option<i64>,
}

/// A request that was paid for when its run was taken, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bill {
    /// What was paid.
    pub paid: i64,
    /// When, unix milliseconds.
    pub paid_ms: i64,
    /// `None` when it was not sent.
    pub sent: Option<Sent>,
}

/// A request that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// What it costs.
    pub cost: i64,
    /// It did what it should.
    pub well: bool,
    /// When it was sent, unix milliseconds.
    pub at_ms: i64,
    /// What the answer says.
    pub readings: Vec<Reading>,
}

/// What is spent of each budget of a connection. Stored as JSON, shared by all nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounts(Vec<Account>);

/// What is spent of one budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The budget's name.
    pub budget: String,
    /// What may be spent in one window.
    pub amount: i64,
    /// The window, milliseconds.
    pub window_ms: i64,
    /// When how much comes back, unix milliseconds, soonest first. Below zero: a vendor says that there is more than the amount.
    spent: Vec<(i64, i64)>,
    /// When the last request that was charged had ended, unix milliseconds.
    #[serde(default)]
    ended_ms: i64,
    /// What a request takes.
    #[serde(default)]
    price: i64,
}

impl Window {
    /// How long, milliseconds.
    pub fn ms(self) -> i64 {
        match self {
            Window::Rolling { ms } => ms,
            Window::Daily { .. } => DAY_MS,
        }
    }

    /// When that comes back which is spent now, unix milliseconds.
    fn back_ms(self, now_ms: i64) -> i64 {
        match self {
            Window::Rolling { ms } => {
                let slice_ms = (ms / SLICES).max(1);
                let back_ms = now_ms + ms + slice_ms.min(MARGIN_MS);
                // Rounded up: what is spent within a slice comes back with the last of it.
                (back_ms + slice_ms - 1).div_euclid(slice_ms) * slice_ms
            }
            Window::Daily { at, zone } => next_at(at, zone, now_ms) + MARGIN_MS,
        }
    }

    /// Nothing comes back later than this after it was spent, milliseconds, whatever a clock did meanwhile.
    fn longest_ms(self) -> i64 {
        // A day may have an hour more.
        self.ms() + self.ms() / SLICES + MARGIN_MS
    }
}

/// The next time that it is `at` in a zone, unix milliseconds. A time that a change of clocks leaves out comes an hour later.
fn next_at(at: NaiveTime, zone: Tz, now_ms: i64) -> i64 {
    let now = DateTime::from_timestamp_millis(now_ms).unwrap_or_default().with_timezone(&zone);
    let moment = |local: NaiveDateTime| {
        let found = zone.from_local_datetime(&local).earliest();
        found.or_else(|| zone.from_local_datetime(&(local + chrono::TimeDelta::hours(1))).earliest())
    };
    let today = now.date_naive();
    let days = (0..=2).filter_map(|days| today.checked_add_days(Days::new(days)));
    let moments = days.filter_map(|day| moment(day.and_time(at))).map(|moment| moment.timestamp_millis());
    moments.into_iter().find(|moment_ms| *moment_ms > now_ms).unwrap_or(now_ms + DAY_MS)
}

impl Budget {
    /// What a replay must leave. Something is always left for it when nothing is spent.
    fn kept(&self, cost: i64, replayed: bool) -> i64 {
        let kept = if replayed { self.amount * self.reserve_percent / 100 } else { 0 };
        kept.min(self.amount - cost)
    }

    /// What one request takes: never more than there can be.
    fn price(&self, cost: i64) -> i64 {
        cost.clamp(1, self.amount)
    }
}

impl Account {
    /// What is left at this time, unix milliseconds.
    pub fn left(&self, now_ms: i64) -> i64 {
        let out = self.spent.iter().filter(|(back_ms, _)| *back_ms > now_ms);
        self.amount - out.map(|(_, cost)| cost).sum::<i64>()
    }

    /// Whether too little is left for one more request.
    pub fn is_spent(&self, now_ms: i64) -> bool {
        self.left(now_ms) < self.price.max(1)
    }

    /// When all of it is back, unix milliseconds; `None` when it is.
    pub fn whole_ms(&self, now_ms: i64) -> Option<i64> {
        self.spent.last().map(|(back_ms, _)| *back_ms).filter(|back_ms| *back_ms > now_ms)
    }

    /// When so much is left, unix milliseconds.
    fn left_ms(&self, wanted: i64, now_ms: i64) -> i64 {
        let mut left = self.left(now_ms);
        let out = self.spent.iter().filter(|(back_ms, _)| *back_ms > now_ms);
        for (back_ms, cost) in out {
            if left >= wanted {
                return now_ms;
            }
            left += cost;
            if left >= wanted {
                return *back_ms;
            }
        }
        now_ms
    }

    fn spend(&mut self, cost: i64, back_ms: i64) {
        let at = self.spent.partition_point(|(other_ms, _)| *other_ms < back_ms);
        match self.spent.get_mut(at) {
            Some((other_ms, spent)) if *other_ms == back_ms => *spent += cost,
            _ => self.spent.insert(at, (back_ms, cost)),
        }
    }

    /// Takes back what was spent and would have come back at `back_ms`, or later where a vendor said so.
    fn give_back(&mut self, mut cost: i64, back_ms: i64) {
        for (_, spent) in self.spent.iter_mut().filter(|(other_ms, _)| *other_ms >= back_ms) {
            let given = cost.min(*spent).max(0);
            *spent -= given;
            cost -= given;
        }
        self.spent.retain(|(_, spent)| *spent != 0);
    }

    /// What the vendor says, while requests of `pending` cost are under way that it may have counted or not: the least that
    /// can be left holds. More than was known is believed only of an answer to a request that was sent after all others had
    /// ended, since an older answer does not know of newer requests.
    fn read(&mut self, window: Window, reading: &Reading, sent_ms: i64, pending: i64, now_ms: i64) {
        let left = self.left(now_ms);
        let sure = reading.remaining.clamp(0, AMOUNT_MAX) - pending;
        let newest = sent_ms >= self.ended_ms;
        let left = if reading.remaining < left || (newest && sure > left) { sure } else { left };
        let spent = self.amount - left;
        match reading.reset_ms {
            Some(reset_ms) => {
                // What is under way may reach the vendor after that.
                self.spent.clear();
                self.spend(pending, window.back_ms(now_ms));
                self.spend(spent - pending, now_ms + reset_ms.max(0) + MARGIN_MS);
                self.spent.retain(|(_, cost)| *cost != 0);
            }
            None if spent > self.amount - self.left(now_ms) => {
                self.spend(spent - (self.amount - self.left(now_ms)), window.back_ms(now_ms))
            }
            None => {
                let more = self.amount - self.left(now_ms) - spent;
                self.give_back(more, i64::MIN);
                let credit = self.amount - self.left(now_ms) - spent;
                if credit > 0 {
                    self.spend(-credit, window.back_ms(now_ms));
                }
            }
        }
    }
}

impl Accounts {
    /// Each account, in the order of the budgets.
    pub fn iter(&self) -> impl Iterator<Item = &Account> {
        self.0.iter()
    }

    /// One account for each budget, without what has come back. What a clock that went back left for too late comes back in time.
    pub fn of(self, budgets: &[Budget], now_ms: i64) -> Accounts {
        let mut known = self.0;
        let account = |budget: &Budget| {
            let at = known.iter().position(|account| account.budget == budget.name);
            let (mut spent, ended_ms, price) = at.map_or_else(Default::default, |at| {
                (std::mem::take(&mut known[at].spent), known[at].ended_ms, known[at].price)
            });
            let latest_ms = now_ms + budget.window.longest_ms();
            spent.retain(|(back_ms, _)| *back_ms > now_ms);
            spent.iter_mut().for_each(|(back_ms, _)| *back_ms = latest_ms.min(*back_ms));
            Account {
                budget: budget.name.clone(),
                amount: budget.amount,
                window_ms: budget.window.ms(),
                spent,
                ended_ms: ended_ms.min(now_ms),
                price,
            }
        };
        Accounts(budgets.iter().map(account).collect())
    }

    /// How many requests may be paid for now.
    pub fn requests_max(&self, budgets: &[Budget], cost: i64, replayed: bool, now_ms: i64) -> usize {
        let of = |(budget, account): (&Budget, &Account)| {
            let price = budget.price(cost);
            (account.left(now_ms) - budget.kept(price, replayed)).max(0) / price
        };
        let most = budgets.iter().zip(&self.0).map(of).min();
        most.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX))
    }

    /// When the next request may be paid for, unix milliseconds.
    pub fn free_ms(&self, budgets: &[Budget], cost: i64, replayed: bool, now_ms: i64) -> i64 {
        let of = |(budget, account): (&Budget, &Account)| {
            let price = budget.price(cost);
            account.left_ms(price + budget.kept(price, replayed), now_ms)
        };
        budgets.iter().zip(&self.0).map(of).max().unwrap_or(now_ms)
    }

    /// Pays for so many requests.
    pub fn pay(&mut self, budgets: &[Budget], cost: i64, requests: usize, now_ms: i64) {
        for (budget, account) in budgets.iter().zip(&mut self.0) {
            let requests = i64::try_from(requests).unwrap_or(i64::MAX);
            account.price = budget.price(cost);
            account.spend(account.price.saturating_mul(requests), budget.window.back_ms(now_ms));
        }
    }

    /// A request that was paid for has ended; requests of `pending` cost are still under way.
    pub fn settle(&mut self, budgets: &[Budget], bill: &Bill, pending: i64, now_ms: i64) {
        for (budget, account) in budgets.iter().zip(&mut self.0) {
            let charged = match &bill.sent {
                Some(sent) if sent.well || budget.charge == Charge::Always => budget.price(sent.cost),
                Some(_) | None => 0,
            };
            match budget.price(bill.paid) - charged {
                0 => {}
                more @ ..0 => account.spend(-more, budget.window.back_ms(now_ms)),
                less => account.give_back(less, budget.window.back_ms(bill.paid_ms)),
            }
            let Some(sent) = &bill.sent else { continue };
            for reading in sent.readings.iter().filter(|reading| reading.budget == budget.name) {
                account.read(budget.window, reading, sent.at_ms, pending, now_ms);
            }
            account.ended_ms = account.ended_ms.max(now_ms);
        }
    }
}

impl Bill {
    /// Whether it changes what was paid, or what is known of the budgets: most bills do not.
    pub fn counts(&self, budgets: &[Budget]) -> bool {
        let told = budgets.iter().any(|budget| budget.told);
        self.sent.as_ref().is_none_or(|sent| {
            told || sent.cost != self.paid
                || (!sent.well && budgets.iter().any(|budget| budget.charge == Charge::OnSuccess))
        })
    }
}

#[cfg(test)]
mod tests;

//! The circuit breaker of a connection. Pure: it is told what happened and when.
//!
//! A vendor that fails is left alone for a while; then one run tries, and only when that went well the others follow.

/// Attempts in a row that must fail before it opens.
pub const FAILURES_MAX: u32 = 5;
/// How long it stays open at first, milliseconds; doubled after every probe that failed.
pub const OPEN_MS_FIRST: i64 = 5_000;
/// The longest time between two probes, milliseconds: one run a minute does not hurt a vendor, and finds it well soon.
pub const OPEN_MS_MAX: i64 = 60_000;
/// The same while the authorisation is refused: each run that tries is set aside for a person, who has to act first.
pub const REFUSED_MS_MAX: i64 = 600_000;

/// What the last delivery of an attempt through a connection says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// The vendor answered, and be it that it does not like these data.
    Well,
    /// It did not, or with an error of its own.
    Failing,
    /// It refuses our authorisation.
    Refused,
    /// It asks for a pause, until this time in unix milliseconds.
    Busy {
        /// Until when.
        until_ms: i64,
    },
    /// It says that a quota is spent, until this time in unix milliseconds.
    Spent {
        /// Until when.
        until_ms: i64,
    },
}

/// Why a breaker is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Several attempts in a row failed.
    Failing,
    /// The authorisation is refused.
    Refused,
    /// The vendor asked for a pause.
    Busy,
    /// The vendor says that a quota is spent.
    Quota,
}

impl Why {
    /// Its stable name, as it is stored and shown.
    pub fn name(self) -> &'static str {
        match self {
            Why::Failing => "failing",
            Why::Refused => "refused",
            Why::Busy => "busy",
            Why::Quota => "quota",
        }
    }

    /// The reason of that name; what a newer sheaf stored counts as failing.
    pub fn from_name(name: &str) -> Why {
        match name {
            "refused" => Why::Refused,
            "busy" => Why::Busy,
            "quota" => Why::Quota,
            _ => Why::Failing,
        }
    }
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breaker {
    /// Runs pass.
    Closed {
        /// Failures in a row.
        failures: u32,
        /// When it closed last, unix milliseconds: attempts that began before say nothing about now.
        since_ms: i64,
    },
    /// Runs wait.
    Open(Open),
}

/// An open breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// Why.
    pub why: Why,
    /// Since when, unix milliseconds.
    pub since_ms: i64,
    /// When one run may try, unix milliseconds.
    pub until_ms: i64,
    /// Probes that failed.
    pub tries: u32,
    /// A probe is under way until then at least, unix milliseconds; 0 when none is.
    pub probe_until_ms: i64,
}

/// How many may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// All.
    All,
    /// One, to find out.
    One,
    /// None before this time, unix milliseconds.
    Nobody {
        /// When to ask again.
        until_ms: i64,
    },
}

impl Default for Breaker {
    fn default() -> Breaker {
        Breaker::Closed { failures: 0, since_ms: 0 }
    }
}

impl Breaker {
    /// How many may pass now.
    pub fn passage(self, now_ms: i64) -> Passage {
        match self {
            Breaker::Closed { .. } => Passage::All,
            Breaker::Open(open) => {
                let until_ms = open.until_ms.max(open.probe_until_ms);
                if until_ms <= now_ms { Passage::One } else { Passage::Nobody { until_ms } }
            }
        }
    }

    /// After an attempt that began at `started_ms`; `probe` when it was the one that tried.
    pub fn answered(self, answered: Answered, started_ms: i64, probe: bool, now_ms: i64) -> Breaker {
        match (self, answered) {
            (Breaker::Closed { failures: 0, .. }, Answered::Well) => self,
            (Breaker::Closed { since_ms, .. }, Answered::Well) => Breaker::Closed { failures: 0, since_ms },
            (Breaker::Closed { since_ms, .. }, _) if started_ms < since_ms => self,
            (Breaker::Closed { failures, since_ms }, Answered::Failing) if failures + 1 < FAILURES_MAX => {
                Breaker::Closed { failures: failures + 1, since_ms }
            }
            (Breaker::Closed { .. }, Answered::Failing) => open(Why::Failing, now_ms, now_ms + OPEN_MS_FIRST),
            (Breaker::Closed { .. }, Answered::Refused) => open(Why::Refused, now_ms, now_ms + OPEN_MS_FIRST),
            (Breaker::Closed { .. }, Answered::Busy { until_ms }) => open(Why::Busy, now_ms, until_ms),
            (Breaker::Closed { .. }, Answered::Spent { until_ms }) => open(Why::Quota, now_ms, until_ms),
            (Breaker::Open(_), Answered::Well) if probe => Breaker::Closed { failures: 0, since_ms: now_ms },
            (Breaker::Open(open), Answered::Busy { until_ms } | Answered::Spent { until_ms }) => {
                let probe_until_ms = if probe { 0 } else { open.probe_until_ms };
                let spent = matches!(answered, Answered::Spent { .. });
                let why = if spent { Why::Quota } else { open.why };
                Breaker::Open(Open { why, until_ms: open.until_ms.max(until_ms), probe_until_ms, ..open })
            }
            (Breaker::Open(open), Answered::Failing | Answered::Refused) if probe => {
                let tries = open.tries.saturating_add(1);
                let why = if answered == Answered::Refused { Why::Refused } else { Why::Failing };
                let until_ms = now_ms + open_ms(why, tries);
                Breaker::Open(Open { why, until_ms, tries, probe_until_ms: 0, ..open })
            }
            // Attempts that were under way when it opened, and end now.
            (Breaker::Open(_), _) => self,
        }
    }

    /// A probe went out, or its lease was extended; 0 when it came back without having asked the vendor.
    pub fn probing(self, until_ms: i64) -> Breaker {
        match self {
            Breaker::Closed { .. } => self,
            Breaker::Open(open) => Breaker::Open(Open { probe_until_ms: until_ms, ..open }),
        }
    }

    /// What there is to store: an open one. Failures in a row are counted by each process for itself.
    pub fn open(self) -> Option<Open> {
        match self {
            Breaker::Closed { .. } => None,
            Breaker::Open(open) => Some(open),
        }
    }
}

fn open(why: Why, now_ms: i64, until_ms: i64) -> Breaker {
    Breaker::Open(Open { why, since_ms: now_ms, until_ms, tries: 0, probe_until_ms: 0 })
}

/// How long it stays open after so many probes failed.
fn open_ms(why: Why, tries: u32) -> i64 {
    let most_ms = if why == Why::Refused { REFUSED_MS_MAX } else { OPEN_MS_MAX };
    OPEN_MS_FIRST.saturating_mul(1 << tries.min(16)).min(most_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_000_000;

    fn failed(times: u32) -> Breaker {
        (0..times)
            .fold(Breaker::default(), |breaker, _| breaker.answered(Answered::Failing, NOW_MS, false, NOW_MS))
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_a_success_between_them_counts() {
        assert_eq!(failed(FAILURES_MAX - 1).passage(NOW_MS), Passage::All);
        let well = failed(FAILURES_MAX - 1).answered(Answered::Well, NOW_MS, false, NOW_MS);
        assert_eq!(well.answered(Answered::Failing, NOW_MS, false, NOW_MS).passage(NOW_MS), Passage::All);
        let until_ms = NOW_MS + OPEN_MS_FIRST;
        assert_eq!(failed(FAILURES_MAX).passage(NOW_MS), Passage::Nobody { until_ms });
    }

    #[test]
    fn one_probe_at_a_time_decides_whether_it_closes() {
        let open = failed(FAILURES_MAX);
        let then_ms = NOW_MS + OPEN_MS_FIRST;
        assert_eq!(open.passage(then_ms), Passage::One);
        let probed = open.probing(then_ms + 20_000);
        assert_eq!(probed.passage(then_ms), Passage::Nobody { until_ms: then_ms + 20_000 });
        // Others that began before say nothing.
        for late in [Answered::Well, Answered::Failing] {
            assert_eq!(probed.answered(late, NOW_MS, false, then_ms), probed);
        }
        let closed = probed.answered(Answered::Well, then_ms, true, then_ms + 10);
        assert_eq!(closed.passage(then_ms + 10), Passage::All);
        assert_eq!(
            (0..9).fold(closed, |breaker, _| breaker.answered(
                Answered::Failing,
                NOW_MS,
                false,
                then_ms + 20
            )),
            closed,
            "those that were under way all the time do not open it again"
        );
        let again = probed.answered(Answered::Failing, then_ms, true, then_ms);
        assert_eq!(again.passage(then_ms), Passage::Nobody { until_ms: then_ms + 2 * OPEN_MS_FIRST });
        assert_eq!(probed.probing(0).passage(then_ms), Passage::One, "a probe that asked nobody is repeated");
    }

    #[test]
    fn the_time_between_probes_grows_to_a_minute() {
        let mut breaker = failed(FAILURES_MAX);
        let mut now_ms = NOW_MS;
        let mut waits = Vec::new();
        for _ in 0..40 {
            let Passage::Nobody { until_ms } = breaker.passage(now_ms) else { panic!("{breaker:?}") };
            waits.push(until_ms - now_ms);
            now_ms = until_ms;
            breaker = breaker.probing(now_ms + 1).answered(Answered::Failing, now_ms, true, now_ms);
        }
        assert_eq!(waits[..5], [5_000, 10_000, 20_000, 40_000, 60_000]);
        assert_eq!(waits.last(), Some(&OPEN_MS_MAX));
    }

    #[test]
    fn a_vendor_that_asks_for_a_pause_gets_it_at_once_and_one_tries_after_it() {
        let until_ms = NOW_MS + 3_600_000;
        let busy = Breaker::default().answered(Answered::Busy { until_ms }, NOW_MS, false, NOW_MS);
        assert_eq!(busy.passage(NOW_MS), Passage::Nobody { until_ms });
        assert_eq!(busy.passage(until_ms), Passage::One);
        let sooner = busy.answered(Answered::Busy { until_ms: NOW_MS + 1 }, NOW_MS, false, NOW_MS);
        assert_eq!(sooner.passage(NOW_MS), Passage::Nobody { until_ms }, "the later time holds");
        let spent = busy.answered(Answered::Spent { until_ms: NOW_MS + 1 }, NOW_MS, false, NOW_MS);
        assert!(matches!(spent, Breaker::Open(Open { why: Why::Quota, .. })));
        assert_eq!(spent.passage(NOW_MS), Passage::Nobody { until_ms });
        let refused = Breaker::default().answered(Answered::Refused, NOW_MS, false, NOW_MS);
        assert!(matches!(refused, Breaker::Open(Open { why: Why::Refused, .. })));
    }
}

//! What was seen, as a page of metrics and as lines of `/healthz`.

use std::{collections::BTreeMap, fmt::Write as _};

use super::Seen;

impl Seen {
    /// What is wrong, one line each, for `/healthz`.
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong: Vec<String> =
            self.unbalanced().iter().map(|name| format!("the ledger does not balance: {name}")).collect();
        wrong.extend(self.gates.iter().map(|gate| {
            let (kind, name, why) = (gate.kind.name(), &gate.name, gate.why);
            format!("runs are held back: {kind} {name}, {why}, {} waiting", gate.waiting)
        }));
        wrong.extend(self.failing.then(|| match self.spooled_bytes {
            Some(bytes) => format!("the queue cannot commit; requests are kept in the spool: {bytes} bytes"),
            None => "the queue cannot commit".to_owned(),
        }));
        wrong.extend(self.blind.as_ref().map(|why| format!("the queue cannot be looked at: {why}")));
        wrong.extend(
            self.late.iter().map(|(channel, count)| format!("alerts do not arrive: {channel}, {count}")),
        );
        wrong
    }

    /// The oldest of each connection and state, as age in milliseconds: see
    /// [`WaitingFor::state`](crate::queue::observe::WaitingFor::state), and parked.
    pub fn oldest_ms(&self) -> Vec<(&str, &'static str, i64)> {
        let waiting =
            self.waiting.iter().map(|it| (it.connection.as_str(), it.waiting_for.state(), it.since_ms));
        let parked = self.parked.iter().map(|(it, _)| (it.connection.as_str(), "parked", it.since_ms));
        let mut oldest: BTreeMap<(&str, &'static str), i64> = BTreeMap::new();
        for (connection, state, since_ms) in waiting.chain(parked) {
            let known = oldest.entry((connection, state)).or_insert(since_ms);
            *known = since_ms.min(*known);
        }
        let age = |since_ms: i64| (self.at_ms - since_ms).max(0);
        oldest.into_iter().map(|((connection, state), since_ms)| (connection, state, age(since_ms))).collect()
    }

    /// Adds what was seen to a page of metrics.
    pub fn write_metrics(&self, page: &mut String) {
        // Writing to a string cannot fail.
        let _ = write!(
            page,
            "# HELP sheaf_looked_timestamp_seconds When the queue was last looked at\n\
             # TYPE sheaf_looked_timestamp_seconds gauge\nsheaf_looked_timestamp_seconds {}\n",
            self.at_ms / 1_000
        );
        page.push_str(
            "# HELP sheaf_oldest_seconds Age of the oldest run by connection and state\n# TYPE sheaf_oldest_seconds gauge\n",
        );
        for (connection, state, age_ms) in self.oldest_ms() {
            let (s, ms) = (age_ms / 1_000, age_ms % 1_000);
            let _ = writeln!(
                page,
                "sheaf_oldest_seconds{{connection=\"{connection}\",state=\"{state}\"}} {s}.{ms:03}"
            );
        }
        if let Some(open) = &self.snapshot {
            let _ = write!(
                page,
                "# HELP sheaf_oldest_snapshot_seconds How long the oldest transaction or snapshot of the database is seen to be open\n\
                 # TYPE sheaf_oldest_snapshot_seconds gauge\nsheaf_oldest_snapshot_seconds {}\n",
                (self.at_ms - open.since_ms).max(0) / 1_000
            );
        }
        page.push_str(
            "# HELP sheaf_ledger_mismatch Counters that differed from their rows at the last recount\n# TYPE sheaf_ledger_mismatch gauge\n",
        );
        for it in &self.mismatches {
            let (connection, counter, by) = (&it.connection, &it.counter, it.counted - it.rows);
            let _ = writeln!(
                page,
                "sheaf_ledger_mismatch{{connection=\"{connection}\",counter=\"{counter}\"}} {by}"
            );
        }
        if let Some(recounted_ms) = self.recounted_ms {
            let _ = write!(
                page,
                "# HELP sheaf_ledger_recounted_timestamp_seconds When the last recount ended\n\
                 # TYPE sheaf_ledger_recounted_timestamp_seconds gauge\n\
                 sheaf_ledger_recounted_timestamp_seconds {}\n",
                recounted_ms / 1_000
            );
        }
        page.push_str(
            "# HELP sheaf_held_runs Runs behind a gate that is closed\n# TYPE sheaf_held_runs gauge\n",
        );
        for gate in &self.gates {
            let (kind, name, why) = (gate.kind.name(), &gate.name, gate.why);
            let _ = writeln!(page, "sheaf_held_runs{{{kind}=\"{name}\",why=\"{why}\"}} {}", gate.waiting);
        }
        page.push_str(
            "# HELP sheaf_budget_left What is left of a budget that something is spent of\n# TYPE sheaf_budget_left gauge\n",
        );
        for it in &self.budgets {
            let (connection, budget) = (&it.connection, &it.budget);
            let _ = writeln!(
                page,
                "sheaf_budget_left{{connection=\"{connection}\",budget=\"{budget}\"}} {}",
                it.left
            );
        }
        page.push_str("# HELP sheaf_alerts_open What is told of right now\n# TYPE sheaf_alerts_open gauge\n");
        for (kind, count) in &self.open {
            let _ = writeln!(page, "sheaf_alerts_open{{kind=\"{}\"}} {count}", kind.name());
        }
        page.push_str(
            "# HELP sheaf_alerts_late Messages that did not arrive at the first attempt\n# TYPE sheaf_alerts_late gauge\n",
        );
        for (channel, count) in &self.late {
            let _ = writeln!(page, "sheaf_alerts_late{{channel=\"{channel}\"}} {count}");
        }
    }
}

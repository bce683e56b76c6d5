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
        let looked_s = [(String::new(), self.at_ms / 1_000)];
        gauge(page, "sheaf_looked_timestamp_seconds", "When the queue was last looked at", looked_s);
        let oldest = self.oldest_ms().into_iter().map(|(connection, state, age_ms)| {
            let (s, ms) = (age_ms / 1_000, age_ms % 1_000);
            (format!("{{connection=\"{connection}\",state=\"{state}\"}}"), format!("{s}.{ms:03}"))
        });
        gauge(page, "sheaf_oldest_seconds", "Age of the oldest run by connection and state", oldest);
        if let Some(open) = &self.snapshot {
            let help = "How long the oldest transaction or snapshot of the database is seen to be open";
            let age_s = (self.at_ms - open.since_ms).max(0) / 1_000;
            gauge(page, "sheaf_oldest_snapshot_seconds", help, [(String::new(), age_s)]);
        }
        let mismatches = self.mismatches.iter().map(|it| {
            let labels = format!("{{connection=\"{}\",counter=\"{}\"}}", it.connection, it.counter);
            (labels, it.counted - it.rows)
        });
        let help = "Counters that differed from their rows at the last recount";
        gauge(page, "sheaf_ledger_mismatch", help, mismatches);
        if let Some(recounted_ms) = self.recounted_ms {
            let recounted_s = [(String::new(), recounted_ms / 1_000)];
            let help = "When the last recount ended";
            gauge(page, "sheaf_ledger_recounted_timestamp_seconds", help, recounted_s);
        }
        let held = self.gates.iter().map(|gate| {
            let (kind, name, why) = (gate.kind.name(), &gate.name, gate.why);
            (format!("{{{kind}=\"{name}\",why=\"{why}\"}}"), gate.waiting)
        });
        gauge(page, "sheaf_held_runs", "Runs behind a gate that is closed", held);
        let left = self
            .budgets
            .iter()
            .map(|it| (format!("{{connection=\"{}\",budget=\"{}\"}}", it.connection, it.budget), it.left));
        gauge(page, "sheaf_budget_left", "What is left of a budget that something is spent of", left);
        let open = self.open.iter().map(|(kind, count)| (format!("{{kind=\"{}\"}}", kind.name()), count));
        gauge(page, "sheaf_alerts_open", "What is told of right now", open);
        let late = self.late.iter().map(|(channel, count)| (format!("{{channel=\"{channel}\"}}"), count));
        gauge(page, "sheaf_alerts_late", "Messages that did not arrive at the first attempt", late);
    }
}

/// One metric as Prometheus reads it: labels in braces, or nothing, and a value for each.
fn gauge(
    page: &mut String,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (String, impl std::fmt::Display)>,
) {
    // Writing to a string cannot fail.
    let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} gauge");
    for (labels, value) in values {
        let _ = writeln!(page, "{name}{labels} {value}");
    }
}

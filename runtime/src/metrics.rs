//! Counts for operators, in the text format of Prometheus.

use std::fmt::Write as _;

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use sheaf_bundles::alerts::letters::Fate;

use crate::{
    oversight::Seen,
    queue::{
        Health, Queue,
        delivery::DeliveryRecord,
        history::LedgerLine,
        types::{Outcome, Settle},
    },
};

/// Upper bounds of the delivery times' buckets, seconds.
const DELIVERY_SECONDS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// One connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfHook {
    connection: String,
    answer: u16,
}

/// One parameter of one connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfParameter {
    connection: String,
    parameter: String,
}

/// One outcome.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOutcome {
    outcome: &'static str,
}

/// One bundle's deliveries by class.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDelivery {
    bundle: String,
    class: &'static str,
}

/// One channel's attempts at alerts by how they ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfAlert {
    channel: String,
    fate: &'static str,
}

/// Everything that is counted in memory. What is counted in the database is read from it.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<OfHook, Counter>,
    absent: Family<OfParameter, Counter>,
    unreadable: Family<OfParameter, Counter>,
    spooled: Counter,
    spool_bytes: Gauge,
    attempts: Family<OfOutcome, Counter>,
    deliveries: Family<OfDelivery, Counter>,
    delivery_seconds: Histogram,
    alerts: Family<OfAlert, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Metrics {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("sheaf"),
            requests: Family::default(),
            absent: Family::default(),
            unreadable: Family::default(),
            spooled: Counter::default(),
            spool_bytes: Gauge::default(),
            attempts: Family::default(),
            deliveries: Family::default(),
            delivery_seconds: Histogram::new(DELIVERY_SECONDS),
            alerts: Family::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("hook_requests", "Requests at hooks by answer", metrics.requests.clone());
        registry.register(
            "parameter_absent",
            "Events without a parameter that the vendor always sends and a filter reads",
            metrics.absent.clone(),
        );
        registry.register(
            "parameter_unreadable",
            "Values that are not of their parameter's type",
            metrics.unreadable.clone(),
        );
        registry.register(
            "spooled",
            "Requests kept in this node's own files while the database was away",
            metrics.spooled.clone(),
        );
        registry.register("spool_bytes", "Requests that wait there, bytes", metrics.spool_bytes.clone());
        registry.register("attempts", "Attempts by outcome", metrics.attempts.clone());
        registry.register("deliveries", "Deliveries by bundle and class", metrics.deliveries.clone());
        registry.register("delivery_seconds", "Time of one delivery", metrics.delivery_seconds.clone());
        registry.register(
            "alerts",
            "Attempts at alerts by channel and how they ended",
            metrics.alerts.clone(),
        );
        metrics
    }

    /// An attempt at an alert ended.
    pub fn alerted(&self, channel: &str, fate: Fate) {
        let fate = match fate {
            Fate::Arrived => "arrived",
            Fate::Again => "again",
            Fate::GivenUp => "given_up",
            Fate::Outdated => "outdated",
        };
        self.alerts.get_or_create(&OfAlert { channel: channel.to_owned(), fate }).inc();
    }

    /// A request at a hook was answered.
    pub fn answered(&self, connection: &str, answer: u16) {
        self.requests.get_or_create(&OfHook { connection: connection.to_owned(), answer }).inc();
    }

    /// A filter read a parameter that never came; true when it is the first time for this connection and parameter.
    pub fn absent(&self, connection: &str, parameter: &str) -> bool {
        let labels = OfParameter { connection: connection.to_owned(), parameter: parameter.to_owned() };
        self.absent.get_or_create(&labels).inc() == 0
    }

    /// A value was not of its parameter's type; true when it is the first time for this connection and parameter.
    pub fn unreadable(&self, connection: &str, parameter: &str) -> bool {
        let labels = OfParameter { connection: connection.to_owned(), parameter: parameter.to_owned() };
        self.unreadable.get_or_create(&labels).inc() == 0
    }

    /// A request was kept in the spool, which now holds so many bytes.
    pub fn spooled(&self, bytes: u64) {
        self.spooled.inc();
        self.drained(bytes);
    }

    /// The spool now holds so many bytes.
    pub fn drained(&self, bytes: u64) {
        self.spool_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// An attempt ended.
    pub fn settled(&self, settle: &Settle) {
        let outcome = match &settle.outcome {
            Outcome::Delivered => "delivered",
            Outcome::DeliveredInPart { .. } => "delivered_in_part",
            Outcome::Retry { .. } => "retry",
            Outcome::Parked { .. } => "parked",
            Outcome::Onward { .. } => "onward",
            Outcome::Released { .. } => "released",
        };
        self.attempts.get_or_create(&OfOutcome { outcome }).inc();
    }

    /// A delivery was made.
    pub fn delivered(&self, bundle: &str, delivery: &DeliveryRecord) {
        let labels = OfDelivery { bundle: bundle.to_owned(), class: delivery.class.name() };
        self.deliveries.get_or_create(&labels).inc();
        self.delivery_seconds.observe(f64::from(delivery.took_ms) / 1_000.0);
    }

    /// The page: what is counted here, what the writer counted, the ledger, and what the last look saw.
    pub fn page(&self, queue: &Queue, ledger: &[LedgerLine], seen: &Seen) -> String {
        let mut page = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut page, &self.registry);
        page.truncate(page.trim_end_matches("# EOF\n").len());
        writer(&mut page, queue);
        ledger_lines(&mut page, ledger);
        seen.write_metrics(&mut page);
        page.push_str("# EOF\n");
        page
    }
}

fn writer(page: &mut String, queue: &Queue) {
    let stats = queue.stats();
    let ready = u8::from(*queue.health().borrow() == Health::Ready);
    let _ = write!(
        page,
        "# TYPE sheaf_queue_ready gauge\nsheaf_queue_ready {ready}\n\
         # TYPE sheaf_queue_commits counter\nsheaf_queue_commits_total {}\n\
         # TYPE sheaf_queue_published counter\nsheaf_queue_published_total {}\n\
         # TYPE sheaf_queue_settled counter\nsheaf_queue_settled_total {}\n\
         # TYPE sheaf_queue_claimed counter\nsheaf_queue_claimed_total {}\n\
         # TYPE sheaf_queue_stale counter\nsheaf_queue_stale_total {}\n\
         # TYPE sheaf_queue_commit_microseconds counter\nsheaf_queue_commit_microseconds_total {}\n",
        stats.commits, stats.published, stats.settled, stats.claimed, stats.stale, stats.commit_us,
    );
}

fn ledger_lines(page: &mut String, ledger: &[LedgerLine]) {
    page.push_str("# HELP sheaf_ledger Events and decisions of a connection, counted in the database\n# TYPE sheaf_ledger gauge\n");
    for line in ledger {
        let counts = [
            ("received", line.received),
            ("accepted", line.accepted),
            ("duplicate", line.duplicate),
            ("quarantined", line.quarantined),
            ("unrouted", line.unrouted),
            ("decisions", line.decisions),
            ("delivered", line.delivered),
            ("filtered", line.filtered),
            ("parked", line.parked),
            ("pending", line.pending),
            ("discarded", line.discarded),
        ];
        for (count, value) in counts {
            let _ = writeln!(
                page,
                "sheaf_ledger{{connection=\"{}\",count=\"{count}\"}} {value}",
                line.connection
            );
        }
    }
    page.push_str(
        "# HELP sheaf_ledger_balanced 1 when both equations hold\n# TYPE sheaf_ledger_balanced gauge\n",
    );
    for line in ledger {
        let balanced = u8::from(line.events_balance && line.decisions_balance);
        let _ = writeln!(page, "sheaf_ledger_balanced{{connection=\"{}\"}} {balanced}", line.connection);
    }
}

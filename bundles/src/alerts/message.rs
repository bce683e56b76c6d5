//! What is told: one message about one group of findings. It holds ids, names, counts and words of ours; never a field
//! of an event, a body, a secret or a vendor's text, which may quote any of them.

use chrono::DateTime;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{words::Language, workspace};

/// The most examples in one message.
pub const EXAMPLES_MAX: usize = 3;

/// What people are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Runs of a bundle wait for a person.
    RunParked,
    /// A vendor refuses a connection's authorisation: its runs wait, or are set aside for a person.
    AuthorisationBroken,
    /// The vendor behind a connection fails, or a person paused it: runs wait.
    ConnectionClosed,
    /// A connection's budget of a day or more is spent, or the vendor says so, and runs wait for it.
    QuotaExhausted,
    /// A person paused a bundle, or it keeps failing: its runs wait.
    BundlePaused,
    /// Events of a connection could not be read. Its hook answered "ok" and they are kept.
    EventsQuarantined,
    /// Runs of a connection's events have been waiting for too long.
    WaitingLong,
    /// A transaction or snapshot of the database is open for too long.
    SnapshotOld,
    /// An equation of a connection's ledger does not hold.
    LedgerBroken,
    /// The queue cannot commit.
    QueueFailing,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 10] = [
        Kind::RunParked,
        Kind::AuthorisationBroken,
        Kind::ConnectionClosed,
        Kind::QuotaExhausted,
        Kind::BundlePaused,
        Kind::EventsQuarantined,
        Kind::WaitingLong,
        Kind::SnapshotOld,
        Kind::LedgerBroken,
        Kind::QueueFailing,
    ];

    /// Its stable name, as in messages and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Kind::RunParked => "run_parked",
            Kind::AuthorisationBroken => "authorisation_broken",
            Kind::ConnectionClosed => "connection_closed",
            Kind::QuotaExhausted => "quota_exhausted",
            Kind::BundlePaused => "bundle_paused",
            Kind::EventsQuarantined => "events_quarantined",
            Kind::WaitingLong => "waiting_long",
            Kind::SnapshotOld => "snapshot_old",
            Kind::LedgerBroken => "ledger_broken",
            Kind::QueueFailing => "queue_failing",
        }
    }

    /// Whether it does harm for as long as it lasts. What merely waits for a person is told again when it grew, else once a day.
    pub fn is_acute(self) -> bool {
        match self {
            Kind::RunParked
            | Kind::AuthorisationBroken
            | Kind::QuotaExhausted
            | Kind::BundlePaused
            | Kind::EventsQuarantined => false,
            Kind::ConnectionClosed
            | Kind::WaitingLong
            | Kind::SnapshotOld
            | Kind::LedgerBroken
            | Kind::QueueFailing => true,
        }
    }

    /// What its subject is called in a message: `bundle` or `connection`; `None` when it has none.
    pub fn subject_key(self) -> Option<&'static str> {
        match self {
            Kind::RunParked | Kind::BundlePaused => Some("bundle"),
            Kind::AuthorisationBroken
            | Kind::ConnectionClosed
            | Kind::QuotaExhausted
            | Kind::EventsQuarantined
            | Kind::WaitingLong
            | Kind::LedgerBroken => Some("connection"),
            Kind::SnapshotOld | Kind::QueueFailing => None,
        }
    }

    /// Whether it is about the whole server, and no bundle or connection.
    pub fn is_of_server(self) -> bool {
        self.subject_key().is_none()
    }
}

/// The part of [`Kind::QueueFailing`] that says how much is kept meanwhile; without it requests are refused.
pub const SPOOLED_BYTES: &str = "spooled_bytes";

/// The part of [`Kind::BundlePaused`] that says that nobody paused it: its runs were set aside one after the other.
pub const KEEPS_FAILING: &str = "failing";

/// Whether a thing begins, lasts, or is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Told for the first time.
    Opened,
    /// Told again.
    Lasting,
    /// Told once it is gone.
    Over,
    /// Told because somebody asked for a test.
    Test,
}

impl Phase {
    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Opened => "opened",
            Phase::Lasting => "lasting",
            Phase::Over => "over",
            Phase::Test => "test",
        }
    }
}

/// One thing that is wrong at the moment of looking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// The bundle or connection it is about; [`MANY`] of its workspace when several are told as one. Of the whole server:
    /// the workspace that is told.
    pub subject: String,
    /// How many runs, or equations, or snapshots.
    pub count: u64,
    /// There are more than counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_least: bool,
    /// Since when, unix milliseconds.
    pub since_ms: i64,
    /// When it last grew, unix milliseconds.
    pub newest_ms: i64,
    /// Parts of the count by a word of ours: a class, a state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<(String, u64)>,
    /// Short facts in no language: names and numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<String>,
    /// Some runs to look at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<Example>,
}

/// The subject of a finding that stands for several of its workspace; no name can be this.
pub const MANY: &str = "*";

/// A run to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// Its id.
    pub run: String,
    /// The step it stopped at; empty when none was sent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub step: String,
    /// The vendor's status, if it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Unique, and the same over every attempt to deliver it.
    pub id: String,
    /// Beginning, lasting or over.
    pub phase: Phase,
    /// When it was decided, unix milliseconds.
    pub at_ms: i64,
    /// What it is about.
    #[serde(flatten)]
    pub finding: Finding,
}

impl Finding {
    /// A finding without parts, facts and examples.
    pub fn new(kind: Kind, subject: impl Into<String>, count: u64, since_ms: i64, newest_ms: i64) -> Finding {
        Finding {
            kind,
            subject: subject.into(),
            count,
            at_least: false,
            since_ms,
            newest_ms,
            parts: Vec::new(),
            facts: Vec::new(),
            examples: Vec::new(),
        }
    }

    /// Whether it stands for several.
    pub fn is_many(&self) -> bool {
        self.subject == workspace::qualified(workspace::of(&self.subject), MANY)
    }

    /// Takes another finding of the same kind in, as one with this.
    pub fn absorb(&mut self, other: &Finding) {
        self.count += other.count;
        self.at_least |= other.at_least;
        self.since_ms = self.since_ms.min(other.since_ms);
        self.newest_ms = self.newest_ms.max(other.newest_ms);
        for (name, count) in &other.parts {
            match self.parts.iter_mut().find(|(own, _)| own == name) {
                Some((_, sum)) => *sum += count,
                None => self.parts.push((name.clone(), *count)),
            }
        }
        self.facts.extend(other.facts.iter().cloned());
        self.examples.extend(other.examples.iter().cloned());
        self.examples.truncate(EXAMPLES_MAX);
    }
}

impl Message {
    /// What `sheaf alerts test` sends.
    pub fn test(id: String, at_ms: i64) -> Message {
        let finding = Finding::new(Kind::RunParked, "", 0, at_ms, at_ms);
        Message { id, phase: Phase::Test, at_ms, finding }
    }

    /// The body of the webhook: a type, a time and data, as Standard Webhooks recommends.
    pub fn to_json(&self, workspace: &str, language: Language) -> Value {
        let finding = &self.finding;
        let kind = if self.phase == Phase::Test { "alert" } else { finding.kind.name() };
        let mut data = json!({
            "kind": kind,
            "phase": self.phase.name(),
            "workspace": workspace,
            "title": self.title(workspace).in_language(language),
            "text": self.text(workspace).in_language(language),
        });
        if self.phase != Phase::Test {
            let details = json!({
                "count": finding.count,
                "at_least": finding.at_least,
                "since": time(finding.since_ms),
                "parts": finding.parts.iter().map(|(name, count)| (name.clone(), json!(count))).collect::<serde_json::Map<_, _>>(),
                "facts": finding.facts,
                "examples": finding.examples,
            });
            if let (Value::Object(data), Value::Object(details)) = (&mut data, details) {
                data.extend(details);
                let subject = finding.kind.subject_key().filter(|_| !finding.is_many());
                data.extend(subject.map(|key| (key.to_owned(), json!(finding.subject))));
            }
        }
        json!({"type": format!("{kind}.{}", self.phase.name()), "timestamp": time(self.at_ms), "data": data})
    }
}

/// A moment as people and machines read it, in UTC to the second.
pub fn time(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms)
        .map_or_else(String::new, |time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

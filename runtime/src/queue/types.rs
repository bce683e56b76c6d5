//! What goes into the queue and what comes out of it.

use std::{collections::BTreeSet, sync::Arc};

use sheaf_bundles::{
    artefact::Artefact,
    budget::Sent,
    event::{Event, Received},
    id::{EventId, RunId, VersionId},
    lane::Lane,
    workspace,
};

use super::{breaker::Answered, delivery::DeliveryRecord, gate::GateId, gates::door::Due};

/// A request at a hook, ready to be committed.
#[derive(Debug, Clone)]
pub struct Publish {
    /// Name of the connection it came through.
    pub connection: Arc<str>,
    /// The request exactly as it came in; kept whatever the content is.
    pub received: Received,
    /// What was made of it.
    pub content: Content,
}

/// What decoding and the bundles' filters made of a request.
#[derive(Debug, Clone)]
pub enum Content {
    /// It decoded.
    Event(Accepted),
    /// It could not be decoded; the raw request is kept and can be read again.
    Quarantine {
        /// Why, for the operator.
        reason: String,
        /// As [`Accepted::dedupe`]: the same request, published again because nobody knows whether it was stored.
        dedupe: Option<[u64; 2]>,
    },
}

impl Content {
    /// What makes it the same as an earlier one; `None` when it is always new.
    pub fn dedupe(&self) -> Option<[u64; 2]> {
        match self {
            Content::Event(accepted) => accepted.dedupe,
            Content::Quarantine { dedupe, .. } => *dedupe,
        }
    }

    /// Whether a run of it waits for others of its key, or takes over from them.
    pub fn is_in_order(&self) -> bool {
        match self {
            Content::Event(accepted) => accepted.decisions.iter().any(|decision| decision.lane.is_some()),
            Content::Quarantine { .. } => false,
        }
    }

    /// See [`Content::dedupe`].
    pub fn dedupe_mut(&mut self) -> &mut Option<[u64; 2]> {
        match self {
            Content::Event(accepted) => &mut accepted.dedupe,
            Content::Quarantine { dedupe, .. } => dedupe,
        }
    }
}

/// A decoded event and what the bundles decided about it.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The catalogue epoch the decisions were made under; compared in the commit.
    pub epoch: u64,
    /// 128-bit hash of the event's identity within its connection; `None` when every request is a new event.
    pub dedupe: Option<[u64; 2]>,
    /// How long before it an event of that identity may have come and be the same one, milliseconds; 35 days at most.
    pub window_ms: i64,
    /// The decoded event. Its id is given by the queue when the event is committed; what stands there before is ignored.
    pub event: Event,
    /// One decision per subscribed bundle whose trigger fired.
    pub decisions: Vec<Decision>,
}

/// What one bundle version decided about an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The bundle version.
    pub version: VersionId,
    /// The gate of its bundle.
    pub bundle: GateId,
    /// The gate of the connection that its first step sends through.
    pub through: GateId,
    /// The lane that its run goes in; `None` when it waits for no other.
    pub lane: Option<Lane>,
    /// Its verdict.
    pub verdict: Verdict,
}

impl Decision {
    /// Its run as gates look at it.
    pub fn due(&self) -> Due {
        Due { through: self.through, bundle: self.bundle, version: self.version, replayed: false }
    }
}

/// Whether a bundle takes an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A run is made.
    Take {
        /// When it becomes due, unix milliseconds; a time that has passed means at once.
        due_ms: i64,
    },
    /// The filter said no; only that fact is kept, the reason is computed again on demand.
    Filtered,
}

/// What became of a publish. Everything but `StaleEpoch` is committed and fsynced.
#[derive(Debug)]
pub enum Published {
    /// A new event.
    Accepted {
        /// Its id.
        event: EventId,
        /// How many runs were made.
        runs: usize,
    },
    /// The same event had been accepted within the window; only the ledger counted it.
    Duplicate {
        /// The first one.
        of: EventId,
    },
    /// Kept as received, to be looked at by a person.
    Quarantined {
        /// Its id.
        event: EventId,
    },
    /// The catalogue changed since the decisions were made: nothing was stored. Decide again and publish again.
    StaleEpoch {
        /// The epoch that is current now.
        epoch: u64,
        /// The publish, handed back.
        publish: Box<Publish>,
    },
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every step is done.
    Delivered,
    /// The run went to its end although a step failed, since its bundle says so.
    DeliveredInPart {
        /// Which steps failed and why, for the operator; holds neither secrets nor bodies.
        reason: String,
    },
    /// To be tried again.
    Retry {
        /// When, unix milliseconds.
        due_ms: i64,
        /// The run's state for the next attempt, opaque to the queue.
        state: Vec<u8>,
    },
    /// Given up until a person looks at it.
    Parked {
        /// Why, for the operator; holds neither secrets nor bodies.
        reason: String,
        /// The run's state for a replay, opaque to the queue.
        state: Vec<u8>,
    },
    /// Its next step goes through another gate first; nothing was refused.
    Onward {
        /// The gate of the connection that the step sends through.
        through: GateId,
        /// The run's state for that step, opaque to the queue.
        state: Vec<u8>,
    },
    /// Not begun here: nothing is recorded.
    Released {
        /// When it is due again, unix milliseconds; a time that is past means at once.
        due_ms: i64,
    },
}

/// The end of one attempt.
#[derive(Debug, Clone)]
pub struct Settle {
    /// What became of it.
    pub outcome: Outcome,
    /// When the attempt began, unix milliseconds.
    pub started_ms: i64,
    /// The deliveries of this attempt, in order.
    pub deliveries: Vec<DeliveryRecord>,
    /// What they say about the connections that they went through.
    pub contacts: Contacts,
    /// The request that was paid for when the run was claimed; `None` when it was not sent, or there was none.
    pub sent: Option<Sent>,
}

impl Settle {
    /// Nothing was sent.
    pub fn unsent(outcome: Outcome) -> Settle {
        Settle { outcome, started_ms: 0, deliveries: Vec::new(), contacts: Contacts::default(), sent: None }
    }
}

/// A delivery as seen from its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contact {
    /// The gate of the connection; a run that is tried again waits for this one.
    pub through: GateId,
    /// How it went.
    pub answered: Answered,
}

/// What an attempt found out about the connections that it sent through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contacts {
    /// The last one.
    pub last: Option<Contact>,
    /// The last of each connection that was left for another. Apart, since nearly every attempt has one connection and
    /// is to cost no allocation.
    pub earlier: Vec<Contact>,
}

impl Contacts {
    /// One more; of each connection the last one counts.
    pub fn note(&mut self, contact: Contact) {
        self.earlier.retain(|earlier| earlier.through != contact.through);
        let before = self.last.replace(contact);
        self.earlier.extend(before.filter(|before| before.through != contact.through));
    }

    /// One of each connection, in the order in which they were left.
    pub fn iter(&self) -> impl Iterator<Item = Contact> {
        self.earlier.iter().copied().chain(self.last)
    }
}

/// The event of a claimed run.
#[derive(Debug, Clone)]
pub enum ClaimedEvent {
    /// Handed over in memory right after its commit.
    Decoded(Arc<Event>),
    /// Read from the store; decode it again.
    Stored {
        /// Its id.
        id: EventId,
        /// The connection it came through.
        connection: Arc<str>,
        /// The request as received.
        received: Received,
    },
    /// What is stored of it cannot be read.
    Unreadable {
        /// Its id.
        id: EventId,
        /// Why.
        why: String,
    },
}

impl ClaimedEvent {
    /// The event's id.
    pub fn id(&self) -> EventId {
        match self {
            ClaimedEvent::Decoded(event) => event.id,
            ClaimedEvent::Stored { id, .. } | ClaimedEvent::Unreadable { id, .. } => *id,
        }
    }
}

/// How runs are replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// The same version and the same idempotency keys, from the step it stopped at: a vendor that already acted will know
    /// it. What was stored is sent again byte for byte. A delivered run has stopped nowhere and is refused.
    Retry,
    /// A new generation and so new idempotency keys, from the first step: the vendor acts again.
    New {
        /// Run on this version instead of the one it ran on.
        version: Option<VersionId>,
    },
}

/// Why a run was not replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayRefusal {
    /// There is no such run.
    Unknown,
    /// It is still pending: it runs by itself.
    Pending,
    /// It is delivered, also in part: as a retry it would do every step again that has succeeded.
    Delivered,
    /// There is no such version.
    UnknownVersion,
}

/// What became of a replay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Runs that are due now.
    pub runs: Vec<RunId>,
    /// Runs that were left alone.
    pub refused: Vec<(RunId, ReplayRefusal)>,
}

/// What became of giving up runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Discarded {
    /// Runs given up.
    pub runs: Vec<RunId>,
    /// Runs left alone, since they were not parked.
    pub refused: Vec<RunId>,
}

/// What is to be made active.
#[derive(Debug, Clone, Default)]
pub struct Activation {
    /// The bundle versions; all others are switched off.
    pub versions: Vec<NewVersion>,
    /// Workspaces that are left as they are: what is active of them stays so.
    pub keeping: BTreeSet<String>,
}

impl Activation {
    /// Whether a bundle is left as it is.
    pub fn keeps(&self, bundle: &str) -> bool {
        self.keeping.contains(workspace::of(bundle))
    }
}

impl From<Vec<NewVersion>> for Activation {
    fn from(versions: Vec<NewVersion>) -> Activation {
        Activation { versions, ..Activation::default() }
    }
}

/// A bundle version to be made active.
#[derive(Debug, Clone)]
pub struct NewVersion {
    /// Name of the bundle.
    pub bundle: String,
    /// Name of the connection whose events it takes.
    pub connection: String,
    /// The gate of the connection that its first step sends through.
    pub through: GateId,
    /// Everything needed to compile this very version again.
    pub artefact: Artefact,
}

/// The catalogue after a switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activated {
    /// The epoch to publish under; unchanged when the active set did not change.
    pub epoch: u64,
    /// The id of each given version, in the given order.
    pub versions: Vec<VersionId>,
    /// False, with `versions` empty, when of some workspace these are what this very node activated last, and another node
    /// has activated something else since: that stays, the other workspaces are switched.
    pub in_force: bool,
}

/// A stored bundle version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its id.
    pub id: VersionId,
    /// Name of the bundle.
    pub bundle: String,
    /// Name of the connection whose events it takes.
    pub connection: String,
    /// Everything needed to compile it again.
    pub artefact: Artefact,
    /// When it was first activated, unix milliseconds.
    pub created_ms: i64,
    /// Whether it is in the active set.
    pub active: bool,
}

//! Promises broken on purpose, so that the fault harness can show that it would notice. Compiled with the feature `faulty`
//! only, and switched on by the binary `sheaf-faulty` only: `sheaf` holds none of it.

use std::sync::OnceLock;

use sheaf_bundles::{event::Event, id::EventId};

use crate::queue::{
    Queue,
    types::{Publish, Published},
};

/// Variable that names the promise to break.
pub const VARIABLE: &str = "SHEAF_FAULT";

static FAULT: OnceLock<Fault> = OnceLock::new();

/// A promise that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The vendor hears "ok" before the commit.
    AnswerBeforeCommit,
    /// Commits do not wait for the disk.
    SynchronousNormal,
    /// A settle whose lease was taken over counts all the same.
    NoFence,
    /// Decisions of a superseded catalogue are stored.
    StaleEpoch,
    /// No promise is broken, but executing an event with the mark panics.
    Poison,
    /// The database is made as a sheaf of that schema made it, and not served.
    Schema(u8),
}

/// The mark: the value of a field.
pub const POISON: &str = "poison";

impl Fault {
    fn named(name: &str) -> Option<Fault> {
        match name {
            "answer-before-commit" => Some(Fault::AnswerBeforeCommit),
            "synchronous-normal" => Some(Fault::SynchronousNormal),
            "no-fence" => Some(Fault::NoFence),
            "stale-epoch" => Some(Fault::StaleEpoch),
            "poison" => Some(Fault::Poison),
            _ => name.strip_prefix("schema-")?.parse().ok().map(Fault::Schema),
        }
    }
}

/// Breaks the promise of that name from now on. `false` when there is no such promise.
pub fn switch_on(name: &str) -> bool {
    Fault::named(name).is_some_and(|fault| FAULT.set(fault).is_ok())
}

/// Whether this promise is broken.
pub fn has(fault: Fault) -> bool {
    FAULT.get() == Some(&fault)
}

/// The schema that is to be made and no newer one.
pub fn schema() -> Option<u8> {
    match FAULT.get() {
        Some(Fault::Schema(schema)) => Some(*schema),
        _ => None,
    }
}

/// Says that the event is stored, and stores it some time later.
pub fn answer_before_commit(queue: &Queue, publish: Publish) -> Published {
    let queue = queue.clone();
    tokio::spawn(async move { queue.commit(publish).await.map(drop) });
    Published::Accepted { event: EventId(0), runs: 0 }
}

/// Panics when the event carries the mark.
pub fn panic_if_poisonous(event: &Event) {
    let marked = has(Fault::Poison) && format!("{:?}", event.fields).contains(&format!("{POISON:?}"));
    assert!(!marked, "a poisonous event");
}

/// The end of a statement without its comparison of fences.
pub fn without_fence(after: &str) -> String {
    after.replace(" AND q.fence = v.column2", "").replace(" AND queue.fence = v.column2", "")
}

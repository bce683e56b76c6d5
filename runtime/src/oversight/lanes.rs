//! The look after keys whose runs wait for one that is not there.
//!
//! Whoever takes a run out of the queue gives its key the next head in the same commit, so there are none; but a node of an
//! older sheaf beside this one does not know of keys, and what must never happen is looked for all the same.

use sheaf_bundles::lane::LaneId;
use tracing::warn;

use crate::{queue::QueueError, storage::store::Store};

/// How far the look is: some keys at a time, from the first again after the last.
#[derive(Debug)]
pub struct Lanes {
    after: LaneId,
}

impl Default for Lanes {
    fn default() -> Lanes {
        Lanes { after: LaneId::FIRST }
    }
}

impl Lanes {
    /// Looks at some more keys; how many had to be given a head.
    ///
    /// # Errors
    /// The store cannot be read; the same keys are looked at the next time.
    pub async fn step(&mut self, store: &Store) -> Result<usize, QueueError> {
        let (headless, after) = store.headless_lanes(self.after).await?;
        let mended = if headless.is_empty() { 0 } else { store.mend_lanes(&headless).await? };
        if mended > 0 {
            warn!(keys = mended, "runs waited for another of their key that is not there; they go on");
        }
        self.after = after;
        Ok(mended)
    }
}

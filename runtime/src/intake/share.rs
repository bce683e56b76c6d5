//! What the callers of one workspace may have of intake at once, where there are others: no more than they leave free.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Semaphore;

use super::{body::LARGE_BODIES_MAX, listener::CONNECTIONS_MAX};

/// Requests of one workspace that wait for their answers, from the end of their heads on.
#[derive(Debug)]
pub struct Share {
    own: AtomicUsize,
    /// Those of all workspaces.
    all: Arc<AtomicUsize>,
    /// Room for large bodies.
    pub large: Arc<Semaphore>,
}

/// A request that waits for its answer; over when it is dropped.
#[derive(Debug)]
pub struct InHand(Arc<Share>);

impl Share {
    /// One for each name. Whoever was known before keeps what waits: it is answered whatever the files say now.
    pub fn of<'n>(
        names: impl IntoIterator<Item = &'n str>,
        before: &HashMap<String, Arc<Share>>,
    ) -> HashMap<String, Arc<Share>> {
        let all = before.values().next().map_or_else(Arc::default, |share| share.all.clone());
        let share =
            |name: &str| before.get(name).cloned().unwrap_or_else(|| Arc::new(Share::new(all.clone())));
        names.into_iter().map(|name| (name.to_owned(), share(name))).collect()
    }

    fn new(all: Arc<AtomicUsize>) -> Share {
        // Who has all of these is next in line after as many of each other, not after all that they have.
        let large = Arc::new(Semaphore::new(LARGE_BODIES_MAX / 2));
        Share { own: AtomicUsize::new(0), all, large }
    }

    /// One more; `None` when as many wait as the others have left.
    pub fn take(self: &Arc<Share>) -> Option<InHand> {
        // Counted first, so that of two at once no more than one too many is refused, and none too many is let in.
        let own = self.own.fetch_add(1, Ordering::Relaxed);
        let all = self.all.fetch_add(1, Ordering::Relaxed);
        let in_hand = InHand(self.clone());
        (own < (CONNECTIONS_MAX as usize).saturating_sub(all)).then_some(in_hand)
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.own.fetch_sub(1, Ordering::Relaxed);
        self.0.all.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = CONNECTIONS_MAX as usize;

    fn shares(names: &[&str], before: &HashMap<String, Arc<Share>>) -> HashMap<String, Arc<Share>> {
        Share::of(names.iter().copied(), before)
    }

    fn take_all(share: &Arc<Share>) -> Vec<InHand> {
        std::iter::from_fn(|| share.take()).collect()
    }

    #[test]
    fn a_workspace_leaves_as_many_free_as_it_takes_and_the_next_half_of_the_rest() {
        let shares = shares(&["", "shop", "cafe"], &HashMap::new());
        let noisy = take_all(&shares["shop"]);
        assert_eq!(noisy.len(), MOST / 2);
        let second = take_all(&shares["cafe"]);
        assert_eq!(second.len(), MOST / 4);
        assert!(shares[""].take().is_some(), "whoever is quiet gets in");
        assert!(shares["shop"].take().is_none() && shares["cafe"].take().is_none());
        drop(second);
        let again = take_all(&shares["cafe"]);
        assert_eq!(again.len(), MOST / 4, "what was refused counts for nobody");
        drop((noisy, again));
        assert_eq!(shares["shop"].all.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_waits_counts_after_a_switch_too() {
        let first = shares(&["shop", "cafe"], &HashMap::new());
        let in_hand = take_all(&first["shop"]);
        let second = shares(&["shop", "new"], &first);
        assert!(second["shop"].take().is_none());
        assert_eq!(take_all(&second["new"]).len(), MOST / 4);
        drop(in_hand);
        assert_eq!(take_all(&second["shop"]).len(), MOST / 2);
    }
}

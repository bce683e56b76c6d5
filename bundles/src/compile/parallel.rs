//! The same of many files at once: an agency has ten thousand bundles, and they are compiled at every start.

use std::thread;

/// Fewer than that for each thread are done sooner than a thread is started.
const ITEMS_MIN: usize = 64;
/// Threads at most. A number of our own: this crate asks nothing of the machine it runs on.
const THREADS_MAX: usize = 4;

/// What `of` makes of each item, in their order, on a few threads.
pub fn map<I: Sync, O: Send>(items: &[I], of: impl Fn(&I) -> O + Sync) -> Vec<O> {
    let threads = THREADS_MAX.min(items.len() / ITEMS_MIN);
    if threads < 2 {
        return items.iter().map(of).collect();
    }
    let of = &of;
    thread::scope(|scope| {
        let parts = items.chunks(items.len().div_ceil(threads));
        let started: Vec<_> =
            parts.map(|part| scope.spawn(move || part.iter().map(of).collect::<Vec<O>>())).collect();
        started
            .into_iter()
            .flat_map(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_number_of_items_each_is_mapped_once_and_in_order() {
        for count in [0, 1, ITEMS_MIN, 2 * ITEMS_MIN, 1_000 + 1] {
            let items: Vec<usize> = (0..count).collect();
            assert!(map(&items, |item| item + 1).into_iter().eq(1..=count), "{count}");
        }
    }
}

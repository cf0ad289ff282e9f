//! Doing the same to many files at once: hashing and copying take as long as one processor needs, and nodes have several.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::fault::Outcome;

/// Most threads: an install must not take a node away from its pods.
const MOST: usize = 4;

/// Does `work` to every item, and gives what came of it in the order of the items; the first fault ends it.
pub(crate) fn each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> Outcome<R> + Sync) -> Outcome<Vec<R>> {
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MOST).min(items.len());
    if threads <= 1 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    let take = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return };
            let outcome = work(item);
            if outcome.is_err() {
                // Nobody takes another one.
                next.store(items.len(), Ordering::Relaxed);
            }
            done.lock().unwrap_or_else(PoisonError::into_inner).push((at, outcome));
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(take);
        }
        take();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

#[cfg(test)]
mod tests {
    use headstart_externals::fault::FaultReason;

    use super::*;
    use crate::fault::Fault;

    #[test]
    fn outcomes_come_in_the_order_of_the_items_and_the_first_fault_ends_it() {
        let items: Vec<u32> = (0..100).collect();
        let doubled = each(&items, |item| Ok(item * 2)).unwrap();
        assert_eq!(doubled, items.iter().map(|item| item * 2).collect::<Vec<_>>());
        let fault = each(&items, |item| match item {
            7 => Err(Fault::new(FaultReason::Io, "seven")),
            item => Ok(*item),
        });
        assert_eq!(fault.unwrap_err().message, "seven");
        assert_eq!(each(&[], |item: &u32| Ok(*item)).unwrap(), [0; 0]);
    }
}

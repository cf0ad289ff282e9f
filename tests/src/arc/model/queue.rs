//! A work queue: each item once, in order, never in two hands; back-off per item.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::flags::{BACKOFF, LONGEST_BACKOFF};
use super::objects::Key;

/// The queue of one controller.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    ready: VecDeque<Key>,
    dirty: BTreeSet<Key>,
    processing: BTreeSet<Key>,
    later: BTreeMap<Key, Duration>,
    failures: BTreeMap<Key, u32>,
}

impl Queue {
    /// It is to be looked at; nothing happens if it already waits.
    pub fn add(&mut self, key: Key) {
        if self.dirty.insert(key.clone()) && !self.processing.contains(&key) {
            self.ready.push_back(key);
        }
    }

    /// Not before then; the earliest time counts.
    pub fn add_at(&mut self, key: Key, at: Duration) {
        let known = self.later.entry(key).or_insert(at);
        *known = (*known).min(at);
    }

    /// After a back-off that doubles with each failure.
    pub fn fail(&mut self, key: Key, now: Duration) {
        let failures = self.failures.entry(key.clone()).or_default();
        let wait =
            BACKOFF.saturating_mul(1_u32.checked_shl(*failures).unwrap_or(u32::MAX)).min(LONGEST_BACKOFF);
        *failures = (*failures + 1).min(30);
        self.add_at(key, now + wait);
    }

    /// It went well.
    pub fn forget(&mut self, key: &Key) {
        self.failures.remove(key);
    }

    /// What is due waits in the line from now on.
    pub fn promote(&mut self, now: Duration) {
        let due = self.later.extract_if(.., |_, at| *at <= now).map(|(key, _)| key);
        for key in due.collect::<Vec<Key>>() {
            self.add(key);
        }
    }

    /// The next item.
    pub fn take(&mut self) -> Option<Key> {
        let key = self.ready.pop_front()?;
        self.dirty.remove(&key);
        self.processing.insert(key.clone());
        Some(key)
    }

    /// It was looked at; if something happened to it meanwhile it waits again.
    pub fn done(&mut self, key: &Key) {
        self.processing.remove(key);
        if self.dirty.contains(key) {
            self.ready.push_back(key.clone());
        }
    }

    /// When the next delayed item is due.
    pub fn wake(&self) -> Option<Duration> {
        self.later.values().min().copied()
    }

    /// Whether nothing waits and nothing is in hand.
    pub fn idle(&self) -> bool {
        self.ready.is_empty() && self.processing.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_in_one_hand_only_and_comes_again_if_it_was_touched() {
        let mut queue = Queue::default();
        let (a, b) = (Key::new("n", "a"), Key::new("n", "b"));
        queue.add(a.clone());
        queue.add(b.clone());
        queue.add(a.clone());
        assert_eq!(queue.take(), Some(a.clone()));
        queue.add(a.clone());
        assert_eq!(queue.take(), Some(b.clone()));
        assert_eq!(queue.take(), None);
        queue.done(&a);
        assert_eq!(queue.take(), Some(a.clone()));
        queue.done(&a);
        queue.done(&b);
        assert!(queue.idle());
    }

    #[test]
    fn back_off_doubles_until_it_goes_well() {
        let mut queue = Queue::default();
        let key = Key::new("n", "a");
        for expected in [5, 10, 20] {
            queue.fail(key.clone(), Duration::ZERO);
            let due = queue.wake().unwrap();
            assert_eq!(due, Duration::from_millis(expected));
            queue.promote(due);
            assert_eq!(queue.take(), Some(key.clone()));
            queue.done(&key);
        }
        queue.forget(&key);
        queue.fail(key, Duration::ZERO);
        assert_eq!(queue.wake(), Some(BACKOFF));
    }
}

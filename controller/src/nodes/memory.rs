//! What was last written to each node, so that a watch that lags behind makes nobody write the same again and again, and a
//! node that cannot be written is left alone for a while.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use headstart_runtime::trouble::Trouble;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;

use super::condition::Verdict;
use super::resource_version::is_at_least;

/// How long it is believed that a write will be seen.
const UNSEEN: Duration = Duration::from_secs(60);

/// How long a node is left alone after a first failure; it doubles with each further one, up to [`LONGEST`].
const RETRY: Duration = Duration::from_secs(5);

const LONGEST: Duration = Duration::from_secs(300);

/// By the UID of a node, what was tried last.
#[derive(Default)]
pub(super) struct Memory(HashMap<String, Last>);

struct Last {
    at: Instant,
    /// What was said, as far as it got.
    verdict: Verdict,
    /// The node's resource version before and, where it is known, after that.
    before: String,
    after: Option<String>,
    failures: u32,
    trouble: Trouble,
}

impl Memory {
    /// Whether there is a reason to write to `node` as it was read.
    pub(super) fn may_write(&self, node: &Node, verdict: &Verdict, now: Instant) -> bool {
        let Some(last) = self.0.get(&key(node)) else { return true };
        let waited = now.duration_since(last.at);
        if last.failures > 0 {
            let pause = RETRY * 2_u32.pow((last.failures - 1).min(6));
            return waited >= pause.min(LONGEST);
        }
        let read = node.resource_version().unwrap_or_default();
        let is_seen = match &last.after {
            Some(after) => read != last.before && is_at_least(&read, after),
            None => read != last.before,
        };
        last.verdict != *verdict || is_seen || waited >= UNSEEN
    }

    /// When something was last tried.
    pub(super) fn last(&self, node: &Node) -> Option<Instant> {
        self.0.get(&key(node)).map(|last| last.at)
    }

    /// Something was written; `after` is the resource version that came of it.
    pub(super) fn wrote(&mut self, node: &Node, verdict: &Verdict, after: Option<String>, now: Instant) {
        let before = node.resource_version().unwrap_or_default();
        let (verdict, trouble) = (verdict.clone(), Trouble::default());
        self.0.insert(key(node), Last { at: now, verdict, before, after, failures: 0, trouble });
    }

    /// The node says all that it should.
    pub(super) fn is_right(&mut self, node: &Node) {
        self.0.remove(&key(node));
    }

    /// It could not be written; whether that is news.
    pub(super) fn failed(&mut self, node: &Node, verdict: &Verdict, error: &str, now: Instant) -> bool {
        let last = self.0.entry(key(node)).or_insert_with(|| Last {
            at: now,
            verdict: verdict.clone(),
            before: String::new(),
            after: None,
            failures: 0,
            trouble: Trouble::default(),
        });
        (last.at, last.failures) = (now, last.failures.saturating_add(1));
        last.trouble.is_news(&error)
    }

    /// Forgets nodes that are no more.
    pub(super) fn retain<'n>(&mut self, nodes: impl Iterator<Item = &'n Node>) {
        let known: HashSet<String> = nodes.map(key).collect();
        self.0.retain(|node, _| known.contains(node));
    }
}

/// A node that is made anew under its name is another one.
fn key(node: &Node) -> String {
    node.uid().unwrap_or_else(|| node.name_any())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::condition::Verdict;
    use super::*;

    fn node(version: &str) -> Node {
        serde_json::from_value(json!({ "metadata": { "name": "a", "uid": "u", "resourceVersion": version } }))
            .unwrap()
    }

    #[test]
    fn what_was_written_is_not_written_again_before_it_could_be_seen() {
        let (mut memory, begun) = (Memory::default(), Instant::now());
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        let verdict = Verdict::not_selected(Duration::ZERO);
        let other = Verdict { is_unserviceable: true, ..verdict.clone() };
        memory.wrote(&node("7"), &verdict, Some("9".to_owned()), at(0));
        assert!(!memory.may_write(&node("7"), &verdict, at(59)), "the watch lags behind");
        assert!(!memory.may_write(&node("8"), &verdict, at(59)), "and shows what somebody else wrote before");
        assert!(memory.may_write(&node("9"), &verdict, at(1)), "it has come");
        assert!(memory.may_write(&node("7"), &verdict, at(60)), "it was lost");
        assert!(memory.may_write(&node("7"), &other, at(1)), "something else is to be said");
        memory.wrote(&node("7"), &verdict, None, at(0));
        assert!(
            !memory.may_write(&node("7"), &verdict, at(1)) && memory.may_write(&node("8"), &verdict, at(1))
        );
        memory.retain([].into_iter());
        assert!(memory.may_write(&node("7"), &verdict, at(1)));
    }

    #[test]
    fn a_node_that_cannot_be_written_is_left_alone_longer_and_longer_and_told_once() {
        let (mut memory, begun) = (Memory::default(), Instant::now());
        let verdict = Verdict::not_selected(Duration::ZERO);
        let mut now = begun;
        assert!(memory.failed(&node("7"), &verdict, "forbidden", now));
        for pause in [5, 10, 20, 40, 80, 160, 300, 300] {
            let due = now + Duration::from_secs(pause);
            assert!(!memory.may_write(&node("8"), &verdict, due - Duration::from_secs(1)), "{pause}");
            assert!(memory.may_write(&node("8"), &verdict, due), "{pause}");
            now = due;
            assert!(!memory.failed(&node("8"), &verdict, "forbidden", now));
        }
        assert!(memory.failed(&node("8"), &verdict, "gone mad", now));
        memory.is_right(&node("8"));
        assert!(memory.may_write(&node("8"), &verdict, now));
    }
}

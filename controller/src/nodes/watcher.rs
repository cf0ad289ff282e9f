//! Every node as it was last seen in this leader's term, so that only changes are told.

use std::collections::{BTreeMap, HashMap};

use headstart_externals::report::NodeReport;
use k8s_openapi::api::core::v1::{Node, ObjectReference};
use kube::{Resource as _, ResourceExt as _};

use super::condition::Verdict;
use super::observed::Observed;
use crate::news::News;

/// Nodes seen for the first time of which each is told the same: more become one Event.
const EACH: usize = 20;

/// Of the nodes of such an Event, how many are named.
const NAMED: usize = 5;

/// What was seen.
#[derive(Default)]
pub struct NodeWatcher(HashMap<String, Observed>);

/// What is to be told.
#[derive(Default)]
pub struct Told {
    /// About one node each.
    pub nodes: Vec<(ObjectReference, News)>,
    /// About many nodes: what a new leader finds.
    pub many: Vec<News>,
}

impl NodeWatcher {
    /// Takes note of all nodes; returns what is news.
    pub fn look<'n>(
        &mut self,
        nodes: impl Iterator<Item = (&'n Node, &'n Verdict, Option<&'n NodeReport>)>,
        is_rolling: bool,
    ) -> Told {
        let before = std::mem::take(&mut self.0);
        let (mut told, mut found) = (Told::default(), Vec::new());
        for (node, verdict, report) in nodes {
            let name = node.name_any();
            let observed = Observed::new(verdict, report);
            let known = before.get(&name);
            let news = observed.news(known, is_rolling).into_iter().map(|news| (node.object_ref(&()), news));
            if known.is_some() {
                told.nodes.extend(news)
            } else {
                found.extend(news)
            }
            self.0.insert(name, observed);
        }
        told.sum_up(found);
        for (about, News { is_warning, reason, note }) in &told.nodes {
            tracing::info!(node = about.name, is_warning, reason, "{note}");
        }
        for News { reason, note, .. } in &told.many {
            tracing::warn!(reason, "{note}");
        }
        told
    }
}

impl Told {
    /// What many nodes share is told once.
    fn sum_up(&mut self, found: Vec<(ObjectReference, News)>) {
        let mut groups: BTreeMap<(&'static str, String), Vec<(ObjectReference, News)>> = BTreeMap::new();
        for (about, news) in found {
            // A note begins with the reason where there are several.
            let cause = news.note.split(':').next().unwrap_or_default().to_owned();
            groups.entry((news.reason, cause)).or_default().push((about, news));
        }
        for ((reason, cause), group) in groups {
            if group.len() <= EACH {
                self.nodes.extend(group);
                continue;
            }
            let names: Vec<&str> =
                group.iter().filter_map(|(about, _)| about.name.as_deref()).take(NAMED).collect();
            let note = format!("{} nodes: {cause}; {} and others", group.len(), names.join(", "));
            self.many.push(News::warning(reason, note));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use headstart_externals::arch::Arch;
    use headstart_externals::config::Config;
    use headstart_externals::fault::FaultReason;
    use headstart_externals::report::VersionReport;
    use headstart_externals::state::PublishedState;
    use serde_json::json;

    use super::super::{Seen, judge};
    use super::*;
    use crate::publish::NodeView;

    #[test]
    fn a_new_leader_tells_a_fault_of_many_nodes_once_and_of_a_few_each() {
        let versions = PublishedState::immediate(&Config::embedded().unwrap()).versions;
        let full = |name: &str| {
            let version = json!({ "name": versions[0].name, "state": "failed", "wanted": true });
            let mut version: VersionReport = serde_json::from_value(version).unwrap();
            version.reason = Some(FaultReason::DiskFull);
            let report = NodeReport::new(name, Arch::Amd64, None, vec![version]);
            let view = NodeView {
                name: name.to_owned(),
                labels: BTreeMap::new(),
                ready: true,
                age: Duration::ZERO,
                report: Some(report.clone()),
                is_stale: false,
            };
            let seen = Seen { report: Some(report), is_stale: false };
            let node: Node = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
            (node, judge(&view, Some(&seen), &versions), seen.report)
        };
        let reasons = |count: usize| {
            let nodes: Vec<_> = (0..count).map(|number| full(&format!("node-{number}"))).collect();
            let mut watcher = NodeWatcher::default();
            let look = |watcher: &mut NodeWatcher| {
                let nodes = nodes.iter().map(|(node, verdict, report)| (node, verdict, report.as_ref()));
                watcher.look(nodes, false)
            };
            let told = look(&mut watcher);
            let again = look(&mut watcher);
            assert!(again.nodes.is_empty() && again.many.is_empty());
            (told.nodes.len(), told.many)
        };
        assert_eq!(reasons(20), (40, Vec::new()));
        let (each, many) = reasons(21);
        assert_eq!((each, many.len()), (0, 2));
        assert!(many[0].note.starts_with("21 nodes: DiskFull; node-0, "), "{many:?}");
    }
}

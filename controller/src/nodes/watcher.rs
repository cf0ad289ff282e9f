//! Every node as it was last seen in this leader's term, so that only changes are told.

use std::collections::HashMap;

use headstart_externals::report::NodeReport;
use k8s_openapi::api::core::v1::{Node, ObjectReference};
use kube::{Resource as _, ResourceExt as _};

use super::condition::Verdict;
use super::observed::Observed;
use crate::news::News;

/// What was seen.
#[derive(Default)]
pub struct NodeWatcher(HashMap<String, Observed>);

impl NodeWatcher {
    /// Takes note of all nodes; returns what is news, and about which node.
    pub fn look<'n>(
        &mut self,
        nodes: impl Iterator<Item = (&'n Node, &'n Verdict, Option<&'n NodeReport>)>,
    ) -> Vec<(ObjectReference, News)> {
        let before = std::mem::take(&mut self.0);
        let mut found = Vec::new();
        for (node, verdict, report) in nodes {
            let name = node.name_any();
            let observed = Observed::new(verdict, report);
            let news = observed.news(before.get(&name));
            for News { is_warning, reason, note } in &news {
                tracing::info!(node = name, is_warning, reason, "{note}");
            }
            found.extend(news.into_iter().map(|news| (node.object_ref(&()), news)));
            self.0.insert(name, observed);
        }
        found
    }
}

//! What the webhook may mount, decided from configuration, reports and what was published before; and its one writer.

mod nodes;
mod phases;
mod template;
mod writer;

use std::collections::BTreeMap;

use headstart_externals::names::API_VERSION;
use headstart_externals::state::{Allowed, PublishedState};

pub use nodes::{NodeView, eligible};
pub use phases::{Cluster, phases};
pub use template::contradictions;
pub use writer::{StateWriter, Written};

/// The state that follows from what is known now; the generation grows only with a change of content.
pub fn next_state(
    cluster: Cluster<'_>,
    allowed: Allowed,
    previous: Option<&PublishedState>,
) -> PublishedState {
    let config = cluster.config;
    let before = previous.map_or(&[][..], |state| &state.versions);
    let mut next = PublishedState {
        api_version: API_VERSION.to_owned(),
        kind: "PublishedState".to_owned(),
        generation: previous.map_or(0, |state| state.generation),
        host_root: config.host_root.clone(),
        node_selector: config.node_selector.clone(),
        allowed,
        auto: previous.map_or_else(BTreeMap::new, |state| state.auto.clone()),
        versions: phases(cluster, before),
    };
    if previous != Some(&next) {
        next.generation += 1;
    }
    next
}

#[cfg(test)]
mod tests {
    use headstart_externals::config::Config;

    use super::*;

    #[test]
    fn the_generation_grows_with_every_change_and_only_then() {
        let config = Config::embedded().unwrap();
        let cluster = Cluster { config: &config, nodes: &[], waited: &Default::default() };
        let first = next_state(cluster, Allowed::Everywhere, None);
        assert_eq!(first.generation, 1);
        assert_eq!(next_state(cluster, Allowed::Everywhere, Some(&first)), first);
        let fewer = Allowed::Namespaces(BTreeMap::new());
        assert_eq!(next_state(cluster, fewer, Some(&first)).generation, 2);
    }
}

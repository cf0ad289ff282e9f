//! What the webhook may mount, decided from configuration, reports and what was published before; and its one writer.

mod announcer;
mod changes;
mod clocks;
mod forgotten;
mod nodes;
mod phases;
mod progress;
mod template;
mod usage;
mod writer;

#[cfg(test)]
mod played;
#[cfg(test)]
mod simulated;

use std::collections::BTreeMap;

use headstart_externals::names::API_VERSION;
use headstart_externals::state::{Allowed, AutoKind, PublishedState};

use changes::keeps_root;

pub use announcer::Announcer;
pub use clocks::Clocks;
pub use forgotten::is_leftover;
pub use nodes::{NodeView, is_mountable};
pub use phases::{Ages, Cluster, Question, questions};
pub use progress::{Progress, is_rolling};
pub use template::contradictions;
pub use usage::{Answers, Usage};
pub use writer::{StateWriter, Written};

/// The state that follows from what is known now; the generation grows only with a change of content.
///
/// Another root is not published while pods may still be given what lies below the old one.
pub fn next_state(
    cluster: Cluster<'_>,
    allowed: Allowed,
    auto: BTreeMap<String, AutoKind>,
    previous: Option<&PublishedState>,
) -> PublishedState {
    let config = cluster.config;
    let before = previous.map_or(&[][..], |state| &state.versions);
    let mut next = PublishedState {
        api_version: API_VERSION.to_owned(),
        kind: "PublishedState".to_owned(),
        generation: previous.map_or(0, |state| state.generation),
        host_root: previous
            .filter(|_| keeps_root(config, previous))
            .map_or_else(|| config.host_root.clone(), |previous| previous.host_root.clone()),
        node_selector: config.node_selector.clone(),
        allowed,
        auto,
        versions: phases::phases(cluster, before),
    };
    if previous != Some(&next) {
        next.generation += 1;
    }
    next
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use headstart_externals::config::Config;
    use headstart_externals::state::Phase;

    use super::*;

    fn next(config: &Config, allowed: Allowed, previous: Option<&PublishedState>) -> PublishedState {
        let cluster = Cluster { config, nodes: &[], ages: &Ages::default(), carried: &HashMap::new() };
        next_state(cluster, allowed, BTreeMap::new(), previous)
    }

    #[test]
    fn the_generation_grows_with_every_change_and_only_then() {
        let config = Config::embedded().unwrap();
        let first = next(&config, Allowed::Everywhere, None);
        assert_eq!(first.generation, 1);
        assert_eq!(next(&config, Allowed::Everywhere, Some(&first)), first);
        let fewer = Allowed::Namespaces(BTreeMap::new());
        assert_eq!(next(&config, fewer, Some(&first)).generation, 2);
    }

    #[test]
    fn another_root_waits_until_pods_can_be_given_nothing_below_the_old_one() {
        let config = Config::embedded().unwrap();
        let moved = Config { host_root: "/elsewhere".to_owned(), ..config.clone() };
        let mut state = PublishedState::immediate(&config);
        for (phase, root) in [
            (Phase::Offered, &config.host_root),
            (Phase::Retiring, &config.host_root),
            (Phase::Retired, &moved.host_root),
        ] {
            state.versions[0].phase = phase;
            assert_eq!(next(&moved, Allowed::Everywhere, Some(&state)).host_root, *root, "{phase:?}");
        }
        assert_eq!(next(&moved, Allowed::Everywhere, None).host_root, moved.host_root);
    }
}

//! The recipes that Headstart brings along; all others are configuration.

use std::collections::{BTreeMap, BTreeSet};

use super::{Hooks, OwnTemplate};
use crate::relpath::RelPath;
use crate::selection::{Entries, NODE, Selection};

/// Runner releases 2.285 to 2.307 bring exactly node12 and node16 (runner: `src/Misc/externals.sh` of those tags).
const NODE16_MINORS: std::ops::RangeInclusive<u32> = 285..=307;

/// What a preset says in place of the profile's own fields.
pub(super) struct Preset {
    pub(super) images: Vec<String>,
    pub(super) selection: Selection,
    pub(super) hooks: Hooks,
}

/// The preset of that name.
pub(super) fn find(name: &str) -> Option<Preset> {
    (name == "node16").then(node16)
}

/// Node.js 16 alone, for the images whose hooks (up to 0.3.2) copy externals and read no templates.
fn node16() -> Preset {
    let keep: BTreeSet<RelPath> =
        [NODE, "LICENSE"].iter().filter_map(|path| RelPath::new(path).ok()).collect();
    let entries = BTreeMap::from([("node16".to_owned(), keep.clone()), ("node16_alpine".to_owned(), keep)]);
    Preset {
        images: NODE16_MINORS.map(|minor| format!("ghcr.io/actions/actions-runner:2.{minor}.*")).collect(),
        selection: Selection { entries: Entries::Named(entries), omit: vec!["node12*".to_owned()] },
        hooks: Hooks {
            legacy: vec!["/home/runner/k8s/index.js".to_owned()],
            read_templates: false,
            own_template: OwnTemplate::Unknown,
        },
    }
}

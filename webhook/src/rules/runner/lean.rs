//! Lean: the tree itself in place of externals. A hook or start script then copies a few files instead of thousands, and
//! nothing depends on the pods that the runner makes.

use crate::edit::{Edit, place};
use crate::plan::Plan;
use crate::pod::Container;
use crate::reason::{Reason, Rule};
use crate::volume::{Tree, VOLUME};

/// Mounts the tree at `externals` of the runner.
pub(crate) fn plan(rule: Rule, runner: Container<'_>, tree: &Tree<'_>, externals: &str) -> Plan {
    let edits = vec![
        Edit::Append(place(["spec", "volumes"]), tree.volume(VOLUME)),
        Edit::Append(runner.place(["volumeMounts"]), tree.mount(externals)),
    ];
    Plan::new(rule, Reason::Lean, tree, edits)
}

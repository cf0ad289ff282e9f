//! Pods that carry our volume already: containers that came later get the same mounts, with the pod's own version.

use crate::edit::Edit;
use crate::plan::Plan;
use crate::pod::Pod;
use crate::reason::{Reason, Rule};
use crate::rules::workflow::{EXTERNALS, legacy};
use crate::volume::{Carried, FARM, read_only_everywhere};
use headstart_externals::mount::mount;

/// What is missing in the pod; nothing, if it is complete.
pub(crate) fn plan(pod: Pod<'_>, rule: Rule, carried: Carried) -> Plan {
    let mut edits = read_only_everywhere(pod, &carried.volume, &carried.read_only);
    edits.extend(read_only_everywhere(pod, FARM, &carried.read_only));
    let free = legacy::copied_mounts(pod).filter(|(container, copied)| !container.collides_with(*copied));
    edits.extend(free.map(|(container, copied)| {
        let mount = mount(&carried.volume, EXTERNALS, &carried.read_only);
        Edit::Replace(container.place(["volumeMounts", &copied.index.to_string()]), mount)
    }));
    Plan { rule, reason: Reason::Completed, unpaired: None, version: carried.version, edits }
}

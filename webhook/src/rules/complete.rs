//! Pods that carry our volume already: containers that came later get the same mounts, with the pod's own version.

use headstart_externals::mount::mount;

use crate::edit::Edit;
use crate::plan::Plan;
use crate::pod::Pod;
use crate::reason::{Reason, Rule};
use crate::rules::runner::paired;
use crate::rules::workflow::{EXTERNALS, legacy};
use crate::volume::{Carried, read_only_everywhere};

/// What is missing in the pod; nothing, if it is complete.
pub(crate) fn plan(pod: Pod<'_>, rule: Rule, carried: Carried) -> Plan {
    let Carried { volume, volumes, is_paired, version, read_only } = carried;
    let mut edits: Vec<Edit> =
        volumes.iter().flat_map(|volume| read_only_everywhere(pod, volume, &read_only)).collect();
    // Elsewhere a folder of that name on a claim is none of the hooks' business.
    let copied = (rule == Rule::WorkflowLegacy).then(|| legacy::copied_mounts(pod)).into_iter().flatten();
    let free = copied.filter(|(container, copied)| !container.collides_with(*copied));
    edits.extend(free.map(|(container, copied)| {
        let mount = mount(volume, EXTERNALS, &read_only);
        Edit::Replace(container.place(["volumeMounts", &copied.index.to_string()]), mount)
    }));
    let late = is_paired.then(|| paired::late_obstacle(pod)).flatten();
    let reason = if late.is_some() { Reason::Lean } else { Reason::Completed };
    edits.extend(late.iter().flat_map(|_| paired::make_lean(pod, volume)));
    Plan { rule, reason, unpaired: late, version, edits }
}

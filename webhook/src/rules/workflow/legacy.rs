//! Workflow pods of hooks up to 0.7.0: `/__e` is a folder of the work claim, filled by the runner's copy.

use headstart_externals::names::VERSION_LABEL;

use super::EXTERNALS;
use crate::edit::{Edit, place};
use crate::plan::{Offer, Plan, Refusal};
use crate::pod::{Container, Mount, Pod};
use crate::reason::{Reason, Rule};
use crate::volume::{VOLUME, is_name_taken};

/// Whether a container mounts the copied externals, or did so before it was given the tree.
pub(crate) fn is_shape(pod: Pod<'_>) -> bool {
    copied_mounts(pod).next().is_some() || pod.volume(VOLUME).is_some()
}

/// The mounts that show the copied externals, wherever other webhooks put them.
pub(crate) fn copied_mounts(pod: Pod<'_>) -> impl Iterator<Item = (Container<'_>, Mount<'_>)> {
    let claims = move |name: &str| {
        pod.volume(name).is_some_and(|(_, volume)| volume["persistentVolumeClaim"].is_object())
    };
    pod.list("containers").flat_map(move |container| {
        container
            .mounts()
            .filter(move |mount| {
                mount.path() == EXTERNALS && mount.value["subPath"] == "externals" && claims(mount.volume())
            })
            .map(move |mount| (container, mount))
    })
}

/// Puts the tree in place of the copied externals.
pub(crate) fn mount(pod: Pod<'_>, offer: Offer<'_>) -> Result<Plan, Refusal> {
    let refuse = |reason| Refusal::new(Rule::WorkflowLegacy, reason);
    let tree = offer.tree_for_label(Rule::WorkflowLegacy, pod.label(VERSION_LABEL))?;
    if is_name_taken(pod) {
        return Err(refuse(Reason::NameTaken));
    }
    if copied_mounts(pod).any(|(container, copied)| container.collides_with(copied)) {
        return Err(refuse(Reason::PathTaken));
    }
    let mut edits = vec![Edit::Append(place(["spec", "volumes"]), tree.volume(VOLUME))];
    edits.extend(copied_mounts(pod).map(|(container, copied)| {
        Edit::Replace(container.place(["volumeMounts", &copied.index.to_string()]), tree.mount(EXTERNALS))
    }));
    Ok(Plan::new(Rule::WorkflowLegacy, Reason::Mounted, &tree, edits))
}

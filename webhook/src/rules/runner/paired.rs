//! Paired: a farm of links in place of externals, so that the hook copies links, and a hook template that mounts the tree
//! where the links lead. One admission decides both pods: what the runner's pods need travels with the runner.

use headstart_externals::config::OwnTemplate;
use headstart_externals::layout::LINK_TARGET;
use headstart_externals::mount;
use headstart_externals::names::{TEMPLATE_ANNOTATION, VERSION_LABEL};
use headstart_externals::state::MountKind;
use serde_json::{Value, json};

use super::Work;
use crate::edit::{Edit, place};
use crate::plan::Plan;
use crate::pod::{Container, Pod, overlap};
use crate::reason::{Reason, Rule, Unpaired};
use crate::volume::{FARM, TEMPLATE, Tree, VOLUME};

/// The variable that names the hook template.
const TEMPLATE_PATH: &str = "ACTIONS_RUNNER_CONTAINER_HOOK_TEMPLATE";

/// Variables by which the workflow pod may get another volume or another node than the runner's.
const CLAIM_NAME: &str = "ACTIONS_RUNNER_CLAIM_NAME";
const KUBE_SCHEDULER: &str = "ACTIONS_RUNNER_USE_KUBE_SCHEDULER";

/// Where the template is mounted, and its name there. Beside the tree, which is a mount of its own.
const TEMPLATE_FOLDER: &str = "/opt/headstart/hook";
const TEMPLATE_FILE: &str = "template.json";

/// What stands against pairing, if anything does. Where nobody can be certain, the runner is made lean.
pub(super) fn obstacle(
    pod: Pod<'_>,
    runner: Container<'_>,
    tree: &Tree<'_>,
    work: &Work<'_>,
) -> Option<Unpaired> {
    let hooks = &tree.version.hooks;
    let place_is_taken =
        runner.paths().any(|path| overlap(&path, LINK_TARGET) || overlap(&path, TEMPLATE_FOLDER));
    let obstacles = [
        (!hooks.read_templates, Unpaired::NoTemplates),
        (hooks.own_template != OwnTemplate::None, Unpaired::ImageTemplate),
        (
            runner.env(TEMPLATE_PATH).is_some() || pod.annotation(TEMPLATE_ANNOTATION).is_some(),
            Unpaired::OwnTemplate,
        ),
        (runner.has_env_from(), Unpaired::EnvFrom),
        (!starts_empty(pod, work) || runner.env(CLAIM_NAME).is_some(), Unpaired::WorkKept),
        (tree.kind() != MountKind::HostPath, Unpaired::VolumeKind),
        (runner.env(KUBE_SCHEDULER).is_some(), Unpaired::Scheduler),
        (place_is_taken, Unpaired::Place),
    ];
    obstacles.into_iter().find_map(|(stands_against, why)| stands_against.then_some(why))
}

/// What other webhooks added to a paired runner that stands against pairing.
pub(crate) fn late_obstacle(pod: Pod<'_>) -> Option<Unpaired> {
    let runner = super::container(pod)?;
    let is_foreign = |entry: &Value| entry["name"] == TEMPLATE_PATH && entry["value"] != template_path();
    let obstacles = [
        (runner.env_entries().any(|(_, entry)| is_foreign(entry)), Unpaired::OwnTemplate),
        (runner.has_env_from(), Unpaired::EnvFrom),
        (runner.env(CLAIM_NAME).is_some(), Unpaired::WorkKept),
        (runner.env(KUBE_SCHEDULER).is_some(), Unpaired::Scheduler),
    ];
    obstacles.into_iter().find_map(|(stands_against, why)| stands_against.then_some(why))
}

/// The edits that make a paired runner lean, whose tree is in `volume`: the tree takes the farm's place, and our hook
/// template is not named any more.
pub(crate) fn make_lean(pod: Pod<'_>, volume: &str) -> Vec<Edit> {
    let (Some((at, _)), Some((_, tree)), Some(runner)) =
        (pod.volume(FARM), pod.volume(volume), super::container(pod))
    else {
        return Vec::new();
    };
    let mut tree = tree.clone();
    tree["name"] = FARM.into();
    let is_ours = |entry: &Value| entry["name"] == TEMPLATE_PATH && entry["value"] == template_path();
    // From the last one on, so that the places of the others stay.
    let named: Vec<usize> =
        runner.env_entries().filter(|(_, entry)| is_ours(entry)).map(|(at, _)| at).collect();
    let removals = named.into_iter().rev().map(|at| Edit::Remove(runner.place(["env", &at.to_string()])));
    std::iter::once(Edit::Replace(place(["spec", "volumes", &at.to_string()]), tree))
        .chain(removals)
        .collect()
}

fn template_path() -> String {
    format!("{TEMPLATE_FOLDER}/{TEMPLATE_FILE}")
}

/// Whether the work volume is made for this runner and nobody fills it: links cannot take the place of folders.
fn starts_empty(pod: Pod<'_>, work: &Work<'_>) -> bool {
    let Some((_, volume)) = pod.volume(work.volume) else { return false };
    let claim = &volume["ephemeral"]["volumeClaimTemplate"]["spec"];
    let has_content =
        ["dataSource", "dataSourceRef", "volumeName", "selector"].iter().any(|key| !claim[key].is_null());
    let is_new = volume["emptyDir"].is_object() || (volume["ephemeral"].is_object() && !has_content);
    is_new && !pod.list("initContainers").any(|init| init.mounts().any(|mount| mount.volume() == work.volume))
}

/// Mounts the tree, the farm over `externals`, and the template.
pub(super) fn plan(runner: Container<'_>, tree: &Tree<'_>, externals: &str) -> Plan {
    let volume = |volume| Edit::Append(place(["spec", "volumes"]), volume);
    let mounts = |mount| Edit::Append(runner.place(["volumeMounts"]), mount);
    let path = json!({ "name": TEMPLATE_PATH, "value": template_path() });
    let edits = vec![
        volume(tree.volume(VOLUME)),
        volume(tree.farm(FARM)),
        volume(template_volume()),
        mounts(tree.mount(LINK_TARGET)),
        mounts(mount::mount(FARM, externals, &tree.read_only())),
        mounts(mount::mount(TEMPLATE, TEMPLATE_FOLDER, &[("readOnly", json!(true))])),
        Edit::Append(runner.place(["env"]), path),
        Edit::Set(place(["metadata", "annotations", TEMPLATE_ANNOTATION]), json!(template(tree).to_string())),
    ];
    Plan::new(Rule::RunnerLegacy, Reason::Paired, tree, edits)
}

/// A file with the pod's own annotation.
fn template_volume() -> Value {
    let field = json!({ "fieldPath": format!("metadata.annotations['{TEMPLATE_ANNOTATION}']") });
    json!({ "name": TEMPLATE, "downwardAPI": { "items": [{ "path": TEMPLATE_FILE, "fieldRef": field }] } })
}

/// What the hook adds to its pods: the tree where the links lead, and the version by which this webhook knows them. JSON
/// is YAML, which the hook reads.
fn template(tree: &Tree<'_>) -> Value {
    json!({
        "metadata": { "labels": { VERSION_LABEL: tree.version.name } },
        "spec": {
            "volumes": [tree.volume(VOLUME)],
            "containers": [{ "name": "$job", "volumeMounts": [tree.mount(LINK_TARGET)] }],
        },
    })
}

//! Runner pods: the tree takes the place of the image's externals, so that a legacy hook copies four files.

use serde_json::Value;

use crate::edit::{Edit, place};
use crate::plan::{Offer, Plan, Refusal};
use crate::pod::{Container, Mount, Pod, overlap};
use crate::reason::{Reason, Rule};
use crate::volume::{VOLUME, is_name_taken};

/// The variable that names the container hook.
const HOOKS: &str = "ACTIONS_RUNNER_CONTAINER_HOOKS";

/// The hook of the current generation in official images; it copies nothing in the runner.
const CURRENT_HOOK: &str = "/home/runner/k8s-novolume/index.js";

/// Variables by which a runner executes an older Node.js than the one it would take, which the tree may omit.
const CHOOSE_NODE: [&str; 3] = [
    "ACTIONS_RUNNER_FORCED_INTERNAL_NODE_VERSION",
    "ACTIONS_RUNNER_FORCE_ACTIONS_NODE_VERSION",
    "ACTIONS_ALLOW_USE_UNSECURE_NODE_VERSION",
];

/// Last part of the work folder's path in every chart and template; the externals folder lies beside it.
const WORK: &str = "/_work";

/// Which kind of runner pod this is, if it is one that copies externals.
pub(crate) fn shape(pod: Pod<'_>) -> Result<Rule, Refusal> {
    let is_dind = |container: Container<'_>| container.name() == "init-dind-externals";
    if pod.volume("dind-externals").is_some() || pod.list("initContainers").any(is_dind) {
        return Ok(Rule::RunnerDind);
    }
    let runner = runner(pod).ok_or(Refusal::new(Rule::Runner, Reason::NoRunnerContainer))?;
    let hooks = runner.env(HOOKS).ok_or(Refusal::new(Rule::Runner, Reason::NoHooks))?;
    if hooks["value"] == CURRENT_HOOK {
        return Err(Refusal::new(Rule::Runner, Reason::HooksCurrent));
    }
    Ok(Rule::RunnerLegacy)
}

/// Mounts the tree over the runner's externals.
pub(crate) fn make_lean(pod: Pod<'_>, offer: Offer<'_>) -> Result<Plan, Refusal> {
    let refuse = |reason| Refusal::new(Rule::RunnerLegacy, reason);
    let runner = runner(pod).ok_or(refuse(Reason::NoRunnerContainer))?;
    let tree = offer.tree_for_image(Rule::RunnerLegacy, runner.image())?;
    let hook = runner.env(HOOKS).and_then(|entry| entry["value"].as_str());
    if !hook.is_some_and(|hook| tree.version.hooks.legacy.iter().any(|legacy| legacy == hook)) {
        return Err(refuse(Reason::HooksUnknown));
    }
    if !tree.version.omit.is_empty() && CHOOSE_NODE.iter().any(|name| runner.env(name).is_some()) {
        return Err(refuse(Reason::NodeChosen));
    }
    if changes_owners(runner) {
        return Err(refuse(Reason::OwnersChanged));
    }
    let externals = externals_path(runner).ok_or(refuse(Reason::WorkMountUnclear))?;
    if runner.paths().any(|path| overlap(&path, &externals)) {
        return Err(refuse(Reason::PathTaken));
    }
    if is_name_taken(pod) {
        return Err(refuse(Reason::NameTaken));
    }
    let edits = vec![
        Edit::Append(place(["spec", "volumes"]), tree.volume(VOLUME)),
        Edit::Append(runner.place(["volumeMounts"]), tree.mount(&externals)),
    ];
    Ok(Plan { rule: Rule::RunnerLegacy, reason: Reason::Lean, version: tree.version.name.to_string(), edits })
}

fn runner(pod: Pod<'_>) -> Option<Container<'_>> {
    pod.list("containers").find(|container| container.name() == "runner")
}

/// Where the hook looks for externals: beside the work folder, wherever the runner is installed.
fn externals_path(runner: Container<'_>) -> Option<String> {
    let work = |mount: Mount<'_>| mount.path().strip_suffix(WORK).map(|parent| format!("{parent}/externals"));
    let mut found = runner.mounts().filter_map(work);
    match (found.next(), found.next()) {
        (Some(externals), None) => Some(externals),
        _ => None,
    }
}

/// Whether the container's command changes owners or modes, which fails on a read-only tree.
fn changes_owners(runner: Container<'_>) -> bool {
    let texts = ["command", "args"].into_iter().filter_map(|key| runner.value[key].as_array()).flatten();
    texts.filter_map(Value::as_str).any(|text| text.contains("chown") || text.contains("chmod"))
}

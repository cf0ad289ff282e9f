//! Runner pods with legacy hooks: the cache takes the place of the image's externals, so that the hook copies next to
//! nothing. Paired where that is certain to work, else lean.

pub(crate) mod lean;
pub(crate) mod paired;

use headstart_externals::state::PublishedVersion;
use serde_json::Value;

use crate::plan::{Offer, Plan, Refusal};
use crate::pod::{Container, Pod, overlap};
use crate::reason::{Reason, Rule};
use crate::volume::is_name_taken;

/// The variable that names the container hook.
const HOOKS: &str = "ACTIONS_RUNNER_CONTAINER_HOOKS";

/// End of the path of the hook of the current generation; it copies nothing in the runner.
const CURRENT_HOOK: &str = "/k8s-novolume/index.js";

/// Variables by which a runner executes another Node.js than the one it would take, which the tree may omit.
const CHOOSE_NODE: [&str; 5] = [
    "ACTIONS_RUNNER_FORCED_INTERNAL_NODE_VERSION",
    "ACTIONS_RUNNER_FORCE_ACTIONS_NODE_VERSION",
    "ACTIONS_ALLOW_USE_UNSECURE_NODE_VERSION",
    "FORCE_JAVASCRIPT_ACTIONS_TO_NODE20",
    "FORCE_JAVASCRIPT_ACTIONS_TO_NODE24",
];

/// Last part of the work folder's path in every chart and template; the externals folder lies beside it.
const WORK: &str = "/_work";

/// Which kind of scale-set runner pod this is, if it is one whose hooks copy externals.
pub(crate) fn shape(pod: Pod<'_>) -> Result<Rule, Refusal> {
    let refuse = |reason| Refusal::new(Rule::Runner, reason);
    let runner = container(pod).ok_or(refuse(Reason::NoRunnerContainer))?;
    let hooks = runner.env(HOOKS).ok_or(refuse(Reason::NoHooks))?;
    if hooks["value"].as_str().is_some_and(|hook| hook.ends_with(CURRENT_HOOK)) {
        return Err(refuse(Reason::HooksCurrent));
    }
    Ok(Rule::RunnerLegacy)
}

/// Puts the cache in place of the runner's externals.
pub(crate) fn mount(pod: Pod<'_>, offer: Offer<'_>) -> Result<Plan, Refusal> {
    let refuse = |reason| Refusal::new(Rule::RunnerLegacy, reason);
    let runner = container(pod).ok_or(refuse(Reason::NoRunnerContainer))?;
    let tree = offer.tree_for_image(Rule::RunnerLegacy, runner.image())?;
    let hook = runner.env(HOOKS).and_then(|entry| entry["value"].as_str());
    if !hook.is_some_and(|hook| tree.version.hooks.legacy.iter().any(|legacy| legacy == hook)) {
        return Err(refuse(Reason::HooksUnknown));
    }
    if chooses_omitted_node(runner, tree.version) {
        return Err(refuse(Reason::NodeChosen));
    }
    if touches_externals(runner) {
        return Err(refuse(Reason::OwnersChanged));
    }
    let work = work_mount(runner).ok_or(refuse(Reason::WorkMountUnclear))?;
    if runner.paths().any(|path| overlap(&path, &work.externals)) {
        return Err(refuse(Reason::PathTaken));
    }
    if is_name_taken(pod) {
        return Err(refuse(Reason::NameTaken));
    }
    match paired::obstacle(pod, runner, &tree, &work) {
        None => Ok(paired::plan(runner, &tree, &work.externals)),
        Some(why) => Ok(lean::plan(Rule::RunnerLegacy, runner, &tree, &work.externals).because(why)),
    }
}

/// The work folder's mount, and where the hook looks for externals: beside it, wherever the runner is installed.
pub(crate) struct Work<'a> {
    volume: &'a str,
    externals: String,
}

fn work_mount(runner: Container<'_>) -> Option<Work<'_>> {
    let mut found = runner.mounts().filter_map(|mount| {
        let externals = format!("{}/externals", mount.path().strip_suffix(WORK)?);
        Some(Work { volume: mount.volume(), externals })
    });
    let work = found.next()?;
    found.next().is_none().then_some(work)
}

/// The container that is the runner.
pub(crate) fn container(pod: Pod<'_>) -> Option<Container<'_>> {
    pod.list("containers").find(|container| container.name() == "runner")
}

/// Whether the runner asks for a Node.js that the tree may lack.
pub(crate) fn chooses_omitted_node(runner: Container<'_>, version: &PublishedVersion) -> bool {
    !version.omit.is_empty() && CHOOSE_NODE.iter().any(|name| runner.env(name).is_some())
}

/// Whether what the container runs changes owners, modes or externals, which fails on a read-only tree.
fn touches_externals(runner: Container<'_>) -> bool {
    let started = &runner.value["lifecycle"]["postStart"]["exec"]["command"];
    let lists = [&runner.value["command"], &runner.value["args"], started];
    let texts = lists.into_iter().filter_map(Value::as_array).flatten().filter_map(Value::as_str);
    texts.into_iter().any(|text| ["chown", "chmod", "externals"].iter().any(|word| text.contains(word)))
}

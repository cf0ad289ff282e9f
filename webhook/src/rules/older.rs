//! Runner pods of the older controller: their start script copies the image's folder, externals included, to a volume.

use crate::plan::{Offer, Plan, Refusal};
use crate::pod::{Container, Pod, overlap};
use crate::reason::{Reason, Rule};
use crate::rules::runner::{self, lean};
use crate::volume::is_name_taken;

/// Where the images keep externals until the start script moves them to the runner's folder.
const EXTERNALS: &str = "/runnertmp/externalstmp";

/// Where images with a Docker daemon within the runner keep them, those for rootless daemons excepted; they need no move.
const EXTERNALS_WITH_DOCKER: &str = "/runnertmp/externals";

/// Tells, in the controller's own words, that the daemon runs within the runner.
const DOCKER_WITHIN: &str = "DOCKERD_IN_RUNNER";

/// The runner's folder, filled by the start script.
const HOME: &str = "/runner";

/// The variables by which the start script can be told other folders, and their defaults.
const FOLDERS: [(&str, &str); 2] = [("RUNNER_ASSETS_DIR", "/runnertmp"), ("RUNNER_HOME", HOME)];

/// Mounts the tree where the start script copies externals from.
pub(crate) fn mount(pod: Pod<'_>, offer: Offer<'_>) -> Result<Plan, Refusal> {
    let refuse = |reason| Refusal::new(Rule::RunnerOlder, reason);
    let runner = runner::container(pod).ok_or(refuse(Reason::NoRunnerContainer))?;
    let home = runner.mounts().find(|mount| mount.path() == HOME).ok_or(refuse(Reason::HomeUnknown))?;
    if !pod.volume(home.volume()).is_some_and(|(_, volume)| volume["emptyDir"].is_object()) {
        return Err(refuse(Reason::HomeUnknown));
    }
    let shares = |container: Container<'_>| {
        container.name() != runner.name() && container.mounts().any(|mount| mount.volume() == home.volume())
    };
    if pod.containers().any(shares) {
        return Err(refuse(Reason::DockerSharesRunner));
    }
    if !starts_as_usual(runner) {
        return Err(refuse(Reason::StartUnknown));
    }
    let tree = offer.tree_for_image(Rule::RunnerOlder, runner.image())?;
    if runner::chooses_omitted_node(runner, tree.version) {
        return Err(refuse(Reason::NodeChosen));
    }
    let externals = externals_path(runner);
    if runner.paths().any(|path| overlap(&path, externals)) {
        return Err(refuse(Reason::PathTaken));
    }
    if is_name_taken(pod) {
        return Err(refuse(Reason::NameTaken));
    }
    Ok(lean::plan(Rule::RunnerOlder, runner, &tree, externals))
}

/// A wrong guess makes a copy slow again, and breaks nothing: the start script takes what is in either place.
fn externals_path(runner: Container<'_>) -> &'static str {
    let within = runner.env(DOCKER_WITHIN).is_some_and(|entry| entry["value"] == "true");
    if within && !runner.image().contains("rootless") { EXTERNALS_WITH_DOCKER } else { EXTERNALS }
}

/// Whether the image's own entry point runs, with its own folders.
fn starts_as_usual(runner: Container<'_>) -> bool {
    let has_own = |key: &str| runner.value[key].as_array().is_some_and(|words| !words.is_empty());
    let moved =
        |(name, default): &(&str, &str)| runner.env(name).is_some_and(|entry| entry["value"] != *default);
    !has_own("command") && !has_own("args") && !FOLDERS.iter().any(moved)
}

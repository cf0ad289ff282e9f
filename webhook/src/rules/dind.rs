//! Runner pods with Docker in Docker: an init container copies externals to a volume that the Docker daemon's container
//! mounts, so that job containers find them there.

use crate::edit::{Edit, place};
use crate::plan::{Offer, Plan, Refusal};
use crate::pod::{Container, Mount, Pod, overlap, plain_path};
use crate::reason::{Reason, Rule};
use crate::rules::runner;
use crate::volume::{DIND_EXTERNALS as VOLUME, read_only_everywhere};

/// Name of the init container in every chart.
const INIT: &str = "init-dind-externals";

/// Where runner images have externals; the daemon's container must show them at the same path.
const EXTERNALS: &str = "/home/runner/externals";

/// Options of `cp` that make no difference to which files there are.
const OPTIONS: &str = "rRavpf";

/// Whether the pod has the volume or the init container of this shape.
pub(crate) fn is_shape(pod: Pod<'_>) -> bool {
    pod.volume(VOLUME).is_some() || init(pod).is_some()
}

/// Turns the volume into the tree and drops the init container.
pub(crate) fn mount(pod: Pod<'_>, offer: Offer<'_>) -> Result<Plan, Refusal> {
    let refuse = |reason| Refusal::new(Rule::RunnerDind, reason);
    let init = init(pod).ok_or(refuse(Reason::InitReplaced))?;
    let (at, volume) = pod.volume(VOLUME).ok_or(refuse(Reason::VolumeUnknown))?;
    if !volume["emptyDir"].is_object() {
        return Err(refuse(Reason::VolumeUnknown));
    }
    if !copies_externals(init) {
        return Err(refuse(Reason::InitUnknown));
    }
    let others = || pod.containers().filter(|container| !is(*container, init));
    let mounts = || others().flat_map(|container| mounts_of(container).map(move |mount| (container, mount)));
    if mounts().next().is_none() {
        return Err(refuse(Reason::VolumeUnknown));
    }
    if !mounts().all(|(container, mount)| container.name() != "runner" && is_plain(mount)) {
        return Err(refuse(Reason::ExternalsShared));
    }
    if mounts().any(|(container, mount)| container.collides_with(mount)) {
        return Err(refuse(Reason::PathTaken));
    }
    let tree = offer.tree_for_image(Rule::RunnerDind, init.image())?;
    let runner = runner::container(pod).ok_or(refuse(Reason::NoRunnerContainer))?;
    if runner::chooses_omitted_node(runner, tree.version) {
        return Err(refuse(Reason::NodeChosen));
    }
    let mut edits = vec![Edit::Replace(place(["spec", "volumes", &at.to_string()]), tree.volume(VOLUME))];
    edits.extend(read_only_everywhere(pod, VOLUME, &tree.read_only()));
    edits.push(Edit::Remove(init.place([])));
    Ok(Plan::new(Rule::RunnerDind, Reason::Mounted, &tree, edits))
}

fn init(pod: Pod<'_>) -> Option<Container<'_>> {
    pod.list("initContainers").find(|container| container.name() == INIT)
}

fn is(container: Container<'_>, other: Container<'_>) -> bool {
    container.list == other.list && container.index == other.index
}

fn mounts_of(container: Container<'_>) -> impl Iterator<Item = Mount<'_>> {
    container.mounts().filter(|mount| mount.volume() == VOLUME)
}

/// Whether a mount shows the whole volume where the daemon needs it, and nothing more.
fn is_plain(mount: Mount<'_>) -> bool {
    mount.path() == EXTERNALS && !mount.is_partial() && !mount.propagates()
}

/// Whether the container copies the image's externals to the volume and does nothing else: `cp -r [-v] <externals>/. <its
/// mount>`, split between command and arguments in any way, as the charts do.
fn copies_externals(init: Container<'_>) -> bool {
    let lists = ["command", "args"].map(|key| init.value[key].as_array());
    let words: Option<Vec<&str>> = lists.into_iter().flatten().flatten().map(|word| word.as_str()).collect();
    let Some(["cp", options @ .., source, target]) = words.as_deref() else { return false };
    let letters = |option: &&str| {
        let letters = option.strip_prefix('-').filter(|letters| !letters.is_empty());
        letters.is_some_and(|letters| letters.chars().all(|letter| OPTIONS.contains(letter)))
    };
    let recurses = options.iter().any(|option| option.contains(['r', 'R', 'a']));
    let of_the_image = source.ends_with("/.")
        && plain_path(source) == EXTERNALS
        && !init.paths().any(|path| overlap(&path, EXTERNALS));
    let mut mounts = mounts_of(init);
    let into = mounts.next().is_some_and(|mount| mount.path() == plain_path(target) && !mount.is_partial());
    recurses && options.iter().all(letters) && of_the_image && into && mounts.next().is_none()
}

//! Workflow pods of hooks from 0.8.0: an init container moves the image's externals into an emptyDir.

use serde_json::{Value, json};

use super::EXTERNALS;
use crate::edit::{Edit, place};
use crate::plan::{Offer, Plan, Refusal};
use crate::pod::{Container, Mount, Pod, plain_path};
use crate::reason::{Reason, Rule};
use crate::volume::{HOOK_EXTERNALS as VOLUME, read_only_everywhere};

/// Name of the init container that fills the volume.
const FS_INIT: &str = "fs-init";

/// Another volume of the hooks, which all of their containers mount.
const GITHUB: &str = "github";

/// Where fs-init mounts the volume.
const TARGET: &str = "/mnt/externals";

/// Whether the pod has the emptyDir that these hooks make, or the init container that fills it.
pub(crate) fn is_shape(pod: Pod<'_>) -> bool {
    pod.volume(VOLUME).is_some_and(|(_, volume)| volume["emptyDir"].is_object()) || fs_init(pod).is_some()
}

/// Whether an init container uses the volume.
pub(crate) fn is_filled(pod: Pod<'_>) -> bool {
    pod.list("initContainers").any(|container| mounts_of(container).next().is_some())
}

/// The init container that these hooks make.
pub(crate) fn fs_init(pod: Pod<'_>) -> Option<Container<'_>> {
    pod.list("initContainers").find(|container| container.name() == FS_INIT)
}

/// Turns the volume into the tree and takes the move out of the script.
pub(crate) fn mount(pod: Pod<'_>, offer: Offer<'_>) -> Result<Plan, Refusal> {
    let refuse = |reason| Refusal::new(Rule::WorkflowCurrent, reason);
    let fs_init = fs_init(pod).ok_or(refuse(Reason::InitReplaced))?;
    let script = script_of(fs_init.value).and_then(without_move).ok_or(refuse(Reason::ScriptUnknown))?;
    let (at, volume) = pod.volume(VOLUME).ok_or(refuse(Reason::ShapeUnknown))?;
    if !volume["emptyDir"].is_object() {
        return Err(refuse(Reason::ShapeUnknown));
    }
    if mounts_of(fs_init).count() != 1 || !pod.containers().all(mounts_as_the_hooks_do) {
        return Err(refuse(Reason::ExternalsShared));
    }
    if pod.containers().any(|container| mounts_of(container).any(|mount| container.collides_with(mount))) {
        return Err(refuse(Reason::PathTaken));
    }
    let tree = offer.tree_for_image(Rule::WorkflowCurrent, fs_init.image())?;
    let mut edits = vec![Edit::Replace(place(["spec", "volumes", &at.to_string()]), tree.volume(VOLUME))];
    edits.extend(read_only_everywhere(pod, VOLUME, &tree.read_only()));
    edits.push(Edit::Replace(fs_init.place(["command", "2"]), json!(script)));
    Ok(Plan::new(Rule::WorkflowCurrent, Reason::Mounted, &tree, edits))
}

fn mounts_of(container: Container<'_>) -> impl Iterator<Item = Mount<'_>> {
    container.mounts().filter(|mount| mount.volume() == VOLUME)
}

/// Whether the container's mounts of the volume are those that the hooks make: whole, at `/__e`, and at the target
/// in fs-init alone. Anything else may write there, as may containers that are not the hooks' own, which mount more.
fn mounts_as_the_hooks_do(container: Container<'_>) -> bool {
    let expected = match (container.list, container.name()) {
        ("initContainers", FS_INIT) => TARGET,
        ("initContainers", _) => "",
        _ => EXTERNALS,
    };
    let is_hooks_own =
        container.name() == FS_INIT || container.mounts().any(|mount| mount.volume() == GITHUB);
    let usual = |mount: Mount<'_>| mount.path() == expected && !mount.is_partial() && !mount.propagates();
    mounts_of(container).all(|mount| usual(mount) && (is_hooks_own || mount.value["readOnly"] == true))
}

/// The script of a container that runs `sh -c <script>` and nothing else.
fn script_of(container: &Value) -> Option<&str> {
    let no_args = container["args"].as_array().is_none_or(Vec::is_empty);
    match container["command"].as_array()?.as_slice() {
        [shell, flag, script] if no_args && flag == "-c" && (shell == "sh" || shell == "bash") => {
            script.as_str()
        }
        _ => None,
    }
}

/// The script without its one move of externals; `None` if it does anything but that and make folders elsewhere.
fn without_move(script: &str) -> Option<String> {
    let segments: Vec<&str> = script.split(" && ").map(str::trim).collect();
    let (moves, others): (Vec<&str>, Vec<&str>) = segments.iter().partition(|segment| is_move(segment));
    let understood = others.iter().all(|segment| is_mkdir(segment));
    match moves.len() {
        1 if understood && others.is_empty() => Some("true".to_owned()),
        1 if understood => Some(others.join(" && ")),
        _ => None,
    }
}

fn is_move(segment: &str) -> bool {
    let words: Vec<&str> = segment.split_whitespace().collect();
    let words = words.strip_prefix(&["sudo"]).unwrap_or(&words);
    matches!(words, ["mv", "/home/runner/externals/*", target] if plain_path(target) == TARGET)
}

/// Makes one folder with a plain name, which is not inside the tree.
fn is_mkdir(segment: &str) -> bool {
    let words: Vec<&str> = segment.split_whitespace().collect();
    let plain = |path: &str| path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b));
    let outside = |path: &str| path.starts_with('/') && !plain_path(path).starts_with(&format!("{TARGET}/"));
    matches!(words.as_slice(), ["mkdir", "-p", path] if plain(path) && outside(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_move_is_taken_out() {
        let script = "mkdir -p /mnt/externals && mkdir -p /mnt/work && mv /home/runner/externals/* /mnt/externals/ && mkdir -p /mnt/work/a/b";
        let expected = "mkdir -p /mnt/externals && mkdir -p /mnt/work && mkdir -p /mnt/work/a/b";
        assert_eq!(without_move(script).as_deref(), Some(expected));
        let script =
            "mv /home/runner/externals/* /mnt/externals/ && mkdir -p /mnt/work/my-externals/my-externals";
        assert_eq!(without_move(script).as_deref(), Some("mkdir -p /mnt/work/my-externals/my-externals"));
        assert_eq!(without_move("sudo mv /home/runner/externals/* /mnt/externals").as_deref(), Some("true"));
    }

    #[test]
    fn scripts_that_are_not_understood_are_refused() {
        for script in [
            "",
            "mkdir -p /mnt/externals",
            "mv /home/runner/externals/* /mnt/externals && mv /home/runner/externals/* /mnt/externals",
            "mv /opt/externals/* /mnt/externals",
            "mv /home/runner/externals/* /elsewhere",
            "mv /home/runner/externals/* /mnt/externals; rm -rf /mnt/externals/node16",
            "mv /home/runner/externals/* /mnt/externals && chmod -R 777 /mnt/externals",
            "mv /home/runner/externals/* /mnt/externals || true",
            "cd /mnt && rm -rf external* && mv /home/runner/externals/* /mnt/externals",
            "mkdir -p /mnt/externals/more && mv /home/runner/externals/* /mnt/externals",
            "mkdir -p $(id) && mv /home/runner/externals/* /mnt/externals",
        ] {
            assert_eq!(without_move(script), None, "{script}");
        }
    }
}

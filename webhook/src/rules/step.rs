//! Pods of container steps: recognised so that they are left alone knowingly.

use serde_json::Value;

use crate::pod::Pod;

/// Whether this is the pod of a legacy step: a Job's pod without labels, with the runner's work claim.
pub(crate) fn is_legacy(pod: Pod<'_>) -> bool {
    let claims =
        |name: &str| pod.volume(name).is_some_and(|(_, volume)| !volume["persistentVolumeClaim"].is_null());
    pod.list("containers").any(|container| {
        container.mounts().any(|mount| {
            mount.path() == "/github/file_commands"
                && mount.value["subPath"] == "_temp/_runner_file_commands"
                && claims(mount.volume())
        })
    })
}

/// Whether an init container's script fills externals with tools, as hooks 0.8.0 do for steps.
pub(crate) fn copies_tools(script: &Value) -> bool {
    script.as_str().is_some_and(|script| {
        ["sh", "tail", "env"].iter().all(|tool| script.contains(&format!("/mnt/externals/{tool}")))
    })
}

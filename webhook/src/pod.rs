//! Reading a pod as JSON: accessors over `serde_json::Value`, which keeps fields that no typed struct knows.

use serde_json::Value;

use crate::edit::Place;

/// Label of runner pods of the scale-set controller; its value is `True`.
pub(crate) const EPHEMERAL_RUNNER: &str = "actions-ephemeral-runner";

/// Label that the container hooks put on workflow and step pods.
pub(crate) const RUNNER_POD: &str = "runner-pod";

/// Label of runner pods of the older controller.
pub(crate) const OLDER_RUNNER: &str = "actions-runner";

/// The lists of a pod's spec that hold containers.
pub(crate) const CONTAINER_LISTS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// A read-only look at a pod.
#[derive(Clone, Copy)]
pub(crate) struct Pod<'a>(pub(crate) &'a Value);

/// A container with its place in the pod.
#[derive(Clone, Copy)]
pub(crate) struct Container<'a> {
    pub(crate) list: &'static str,
    pub(crate) index: usize,
    pub(crate) value: &'a Value,
}

/// One mount of a container with its place there.
#[derive(Clone, Copy)]
pub(crate) struct Mount<'a> {
    pub(crate) index: usize,
    pub(crate) value: &'a Value,
}

impl<'a> Pod<'a> {
    pub(crate) fn spec(self) -> &'a Value {
        &self.0["spec"]
    }

    pub(crate) fn label(self, key: &str) -> Option<&'a str> {
        self.0["metadata"]["labels"][key].as_str()
    }

    pub(crate) fn annotation(self, key: &str) -> Option<&'a Value> {
        self.0["metadata"]["annotations"].get(key)
    }

    /// All containers of all lists.
    pub(crate) fn containers(self) -> impl Iterator<Item = Container<'a>> {
        CONTAINER_LISTS.into_iter().flat_map(move |list| self.list(list))
    }

    /// The containers of one list.
    pub(crate) fn list(self, list: &'static str) -> impl Iterator<Item = Container<'a>> {
        items(&self.spec()[list]).map(move |(index, value)| Container { list, index, value })
    }

    /// The volumes with their places.
    pub(crate) fn volumes(self) -> impl Iterator<Item = (usize, &'a Value)> {
        items(&self.spec()["volumes"])
    }

    pub(crate) fn volume(self, name: &str) -> Option<(usize, &'a Value)> {
        self.volumes().find(|(_, volume)| volume["name"] == name)
    }

    pub(crate) fn is_mirror(self) -> bool {
        self.0["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string()
    }

    pub(crate) fn is_windows(self) -> bool {
        let spec = self.spec();
        spec["os"]["name"] == "windows" || spec["nodeSelector"]["kubernetes.io/os"] == "windows"
    }

    /// Whether the pod asks for a user namespace of its own.
    pub(crate) fn has_user_namespace(self) -> bool {
        self.spec()["hostUsers"] == false
    }

    /// Whether every part that the rules look at has the type that Kubernetes gives it.
    pub(crate) fn is_well_formed(self) -> bool {
        let maps = [&self.0["metadata"], &self.0["metadata"]["labels"], &self.0["metadata"]["annotations"]];
        let lists = CONTAINER_LISTS.map(|list| &self.spec()[list]);
        self.0.is_object()
            && self.spec().is_object()
            && maps.into_iter().all(is_map)
            && lists.into_iter().chain([&self.spec()["volumes"]]).all(is_list_of_maps)
            && self.containers().all(Container::is_well_formed)
            && is_well_formed_affinity(&self.spec()["affinity"])
    }
}

/// Down to the terms that placement narrows.
fn is_well_formed_affinity(affinity: &Value) -> bool {
    let required = &affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let terms = &required["nodeSelectorTerms"];
    let lists =
        |term: &Value| ["matchExpressions", "matchFields"].iter().all(|key| is_list_of_maps(&term[*key]));
    [affinity, &affinity["nodeAffinity"], required].into_iter().all(is_map)
        && is_list_of_maps(terms)
        && items(terms).all(|(_, term)| lists(term))
}

impl<'a> Container<'a> {
    fn is_well_formed(self) -> bool {
        ["volumeMounts", "volumeDevices", "env", "envFrom"]
            .iter()
            .all(|key| is_list_of_maps(&self.value[*key]))
    }

    pub(crate) fn name(self) -> &'a str {
        self.value["name"].as_str().unwrap_or_default()
    }

    pub(crate) fn image(self) -> &'a str {
        self.value["image"].as_str().unwrap_or_default()
    }

    pub(crate) fn mounts(self) -> impl Iterator<Item = Mount<'a>> {
        items(&self.value["volumeMounts"]).map(|(index, value)| Mount { index, value })
    }

    /// Where the container has something of a volume: its mounts, and its block devices.
    pub(crate) fn paths(self) -> impl Iterator<Item = String> {
        self.mounts().map(Mount::path).chain(self.devices())
    }

    fn devices(self) -> impl Iterator<Item = String> {
        let devices = items(&self.value["volumeDevices"]).map(|(_, device)| &device["devicePath"]);
        devices.filter_map(Value::as_str).map(plain_path)
    }

    /// Whether something of the container's own lies at or below the mount: below a read-only tree nobody could make the
    /// place for it. What lies above is there already.
    pub(crate) fn collides_with(self, mount: Mount<'_>) -> bool {
        let others = self.mounts().filter(|other| other.index != mount.index).map(Mount::path);
        others.chain(self.devices()).any(|path| is_within(&path, &mount.path()))
    }

    /// The entry of an environment variable; the last one counts, as in the kubelet.
    pub(crate) fn env(self, name: &str) -> Option<&'a Value> {
        self.env_entries().map(|(_, entry)| entry).filter(|entry| entry["name"] == name).last()
    }

    /// All entries with their places.
    pub(crate) fn env_entries(self) -> impl Iterator<Item = (usize, &'a Value)> {
        items(&self.value["env"])
    }

    /// Whether variables come from elsewhere, where nobody can see their names.
    pub(crate) fn has_env_from(self) -> bool {
        items(&self.value["envFrom"]).next().is_some()
    }

    /// The place of a part of this container.
    pub(crate) fn place<const N: usize>(self, rest: [&str; N]) -> Place {
        let head = ["spec".to_owned(), self.list.to_owned(), self.index.to_string()];
        head.into_iter().chain(rest.into_iter().map(ToOwned::to_owned)).collect()
    }
}

impl<'a> Mount<'a> {
    pub(crate) fn volume(self) -> &'a str {
        self.value["name"].as_str().unwrap_or_default()
    }

    /// The path inside the container, in its plain form.
    pub(crate) fn path(self) -> String {
        plain_path(self.value["mountPath"].as_str().unwrap_or_default())
    }

    /// Whether the mount takes part in mounts that come later on the host; such a mount has rules of its own.
    pub(crate) fn propagates(self) -> bool {
        self.value["mountPropagation"].as_str().is_some_and(|propagation| propagation != "None")
    }

    /// Whether the mount shows a part of its volume only.
    pub(crate) fn is_partial(self) -> bool {
        let set = |key: &str| self.value[key].as_str().is_some_and(|text| !text.is_empty());
        set("subPath") || set("subPathExpr")
    }
}

/// Whether one of two container paths is the other or lies below it.
pub(crate) fn overlap(a: &str, b: &str) -> bool {
    is_within(a, b) || is_within(b, a)
}

/// Whether a container path is another one or lies below it.
fn is_within(path: &str, base: &str) -> bool {
    path == base || base == "/" || path.strip_prefix(base).is_some_and(|rest| rest.starts_with('/'))
}

/// A container path as the runtime will understand it: absolute, without empty, `.` and `..` parts.
pub(crate) fn plain_path(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn items(list: &Value) -> impl Iterator<Item = (usize, &Value)> {
    list.as_array().into_iter().flatten().enumerate()
}

fn is_map(value: &Value) -> bool {
    value.is_null() || value.is_object()
}

fn is_list_of_maps(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(|items| items.iter().all(Value::is_object))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_compared_as_the_runtime_understands_them() {
        for spelled in [
            "/home/runner/externals",
            "/home/runner//externals/",
            "home/./runner/externals",
            "/x/../home/runner/externals",
        ] {
            assert_eq!(plain_path(spelled), "/home/runner/externals");
        }
        assert_eq!(plain_path("/"), "/");
        assert!(overlap("/", "/__e") && overlap("/__e", "/__e/t") && !overlap("/__e", "/__e2"));
    }
}

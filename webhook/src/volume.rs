//! What Headstart's volume and its mounts look like in a pod, and how they are recognised there again.

use headstart_externals::layout::Root;
use headstart_externals::names::VERSION_LABEL;
use headstart_externals::state::{MountKind, PublishedState, PublishedVersion};
use serde_json::{Value, json};

use crate::edit::Edit;
use crate::pod::{Container, Pod, trim};

/// Name of the volume where the pod has none of its own to take over.
pub(crate) const VOLUME: &str = "headstart-externals";

/// One field of a mount.
pub(crate) type Field = (&'static str, Value);

/// A volume that shows one version's tree.
#[derive(Clone, Copy)]
pub(crate) struct Tree<'a> {
    pub(crate) version: &'a PublishedVersion,
    kind: MountKind,
    host_root: &'a str,
}

impl<'a> Tree<'a> {
    /// `None` where the version has no image and one is asked for.
    pub(crate) fn new(
        state: &'a PublishedState,
        version: &'a PublishedVersion,
        kind: MountKind,
    ) -> Option<Self> {
        let possible = kind == MountKind::HostPath || version.volume_image.is_some();
        possible.then_some(Self { version, kind, host_root: &state.host_root })
    }

    /// The volume under `name`.
    pub(crate) fn volume(self, name: &str) -> Value {
        match self.kind {
            MountKind::HostPath => {
                let path = Root::new(self.host_root).version(&self.version.name).tree();
                json!({ "name": name, "hostPath": { "path": path, "type": "Directory" } })
            }
            MountKind::Image => {
                let reference = self.version.volume_image.as_deref();
                json!({ "name": name, "image": { "reference": reference, "pullPolicy": "IfNotPresent" } })
            }
        }
    }

    /// A mount of [`VOLUME`] at `path`.
    pub(crate) fn mount(self, path: &str) -> Value {
        mount(VOLUME, path, &self.read_only())
    }

    /// The fields that every mount of the tree must have.
    pub(crate) fn read_only(self) -> Vec<Field> {
        read_only(self.kind)
    }
}

/// Image volumes are read-only through and through; below a hostPath a nested mount would stay writable.
fn read_only(kind: MountKind) -> Vec<Field> {
    let mut fields = vec![("readOnly", json!(true))];
    if kind == MountKind::HostPath {
        fields.push(("recursiveReadOnly", json!("IfPossible")));
    }
    fields
}

/// A mount of `volume` at `path`.
pub(crate) fn mount(volume: &str, path: &str, read_only: &[Field]) -> Value {
    let mut mount = json!({ "name": volume, "mountPath": path });
    for (key, value) in read_only {
        mount[key] = value.clone();
    }
    mount
}

/// The edits that give every mount of `volume`, in every container, the fields that it must have.
pub(crate) fn read_only_everywhere(pod: Pod<'_>, volume: &str, read_only: &[Field]) -> Vec<Edit> {
    let mounts =
        pod.containers().flat_map(|container| container.mounts().map(move |mount| (container, mount)));
    mounts
        .filter(|(_, mount)| mount.volume() == volume)
        .flat_map(|(container, mount)| {
            let index = mount.index.to_string();
            let set = move |(key, value): &Field| {
                Edit::Set(container.place(["volumeMounts", &index, key]), value.clone())
            };
            read_only.iter().map(set).collect::<Vec<_>>()
        })
        .collect()
}

/// Whether the pod uses [`VOLUME`] for something of its own, be it only a mount of a volume that is not there: such a
/// pod is refused without us, and must not be made to work by us.
pub(crate) fn is_name_taken(pod: Pod<'_>) -> bool {
    let mounts = |container: Container<'_>| container.mounts().any(|mount| mount.volume() == VOLUME);
    pod.volume(VOLUME).is_some() || pod.containers().any(mounts)
}

/// A volume of ours that a pod carries already.
pub(crate) struct Carried {
    pub(crate) volume: String,
    pub(crate) version: String,
    pub(crate) read_only: Vec<Field>,
}

/// The volume of ours that the pod carries, if it does.
pub(crate) fn carried(pod: Pod<'_>, state: &PublishedState) -> Option<Carried> {
    let version = pod.label(VERSION_LABEL)?;
    pod.volumes().find_map(|(_, volume)| {
        let kind = kind_of(volume, version, state)?;
        let name = volume["name"].as_str()?.to_owned();
        Some(Carried { volume: name, version: version.to_owned(), read_only: read_only(kind) })
    })
}

/// The kind of a volume that shows the tree of the version named `version`; `None` for all other volumes.
fn kind_of(volume: &Value, version: &str, state: &PublishedState) -> Option<MountKind> {
    let version = version.parse().ok()?;
    let tree = Root::new(&state.host_root).version(&version).tree();
    let host_path = volume["hostPath"]["path"].as_str().map(trim);
    if host_path.is_some_and(|path| tree.as_os_str() == path) {
        return Some(MountKind::HostPath);
    }
    let image = volume["image"]["reference"].as_str()?;
    let published = state.versions.iter().find(|published| published.name == version)?;
    (published.volume_image.as_deref() == Some(image)).then_some(MountKind::Image)
}

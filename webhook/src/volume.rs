//! What Headstart's volume and its mounts look like in a pod, and how they are recognised there again.

use std::path::{Path, PathBuf};

use headstart_externals::layout::{Root, VersionDir};
use headstart_externals::mount::{self, Field};
use headstart_externals::names::VERSION_LABEL;
use headstart_externals::state::{MountKind, Phase, PublishedState, PublishedVersion};
use headstart_externals::version::VersionName;
use serde_json::Value;

use crate::edit::Edit;
use crate::pod::{Container, Pod};
use crate::reason::Rule;

/// Name of the volume with the tree, where the pod has none of its own to take over.
pub(crate) const VOLUME: &str = "headstart-externals";

/// Name of the volume with the farm, in paired runners.
pub(crate) const FARM: &str = "headstart-farm";

/// Name of the volume with the hook template, in paired runners.
pub(crate) const TEMPLATE: &str = "headstart-hook-template";

/// Name of the hooks' own volume, which the tree takes over in workflow pods of current hooks.
pub(crate) const HOOK_EXTERNALS: &str = "externals";

/// Name of the charts' own volume, which the tree takes over in runner pods with Docker in Docker.
pub(crate) const DIND_EXTERNALS: &str = "dind-externals";

/// A volume that shows one version's tree.
pub(crate) struct Tree<'a> {
    pub(crate) version: &'a PublishedVersion,
    kind: MountKind,
    host_root: &'a str,
    volume: Value,
}

impl<'a> Tree<'a> {
    /// `None` where the version has no image and one is asked for.
    pub(crate) fn new(
        state: &'a PublishedState,
        version: &'a PublishedVersion,
        kind: MountKind,
    ) -> Option<Self> {
        let volume = mount::volume(VOLUME, kind, &state.host_root, version)?;
        Some(Self { version, kind, host_root: &state.host_root, volume })
    }

    /// How the tree gets into the pod.
    pub(crate) fn kind(&self) -> MountKind {
        self.kind
    }

    /// The volume under `name`.
    pub(crate) fn volume(&self, name: &str) -> Value {
        let mut volume = self.volume.clone();
        volume["name"] = name.into();
        volume
    }

    /// The volume with the farm under `name`.
    pub(crate) fn farm(&self, name: &str) -> Value {
        mount::farm(name, self.host_root, self.version)
    }

    /// A mount of [`VOLUME`] at `path`.
    pub(crate) fn mount(&self, path: &str) -> Value {
        mount::mount(VOLUME, path, &self.read_only())
    }

    /// The fields that every mount of the tree must have.
    pub(crate) fn read_only(&self) -> Vec<Field> {
        mount::read_only(self.kind)
    }
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
            // A mount that propagates cannot be recursively read-only; the API server would refuse the pod.
            let possible = |(key, _): &&Field| *key == "readOnly" || !mount.propagates();
            read_only.iter().filter(possible).map(set).collect::<Vec<_>>()
        })
        .collect()
}

/// Whether the pod uses one of our names for something of its own, be it only a mount of a volume that is not there: such
/// a pod is refused without us, and must not be made to work by us.
pub(crate) fn is_name_taken(pod: Pod<'_>) -> bool {
    [VOLUME, FARM, TEMPLATE].into_iter().any(|name| {
        let mounts = |container: Container<'_>| container.mounts().any(|mount| mount.volume() == name);
        pod.volume(name).is_some() || pod.containers().any(mounts)
    })
}

/// A volume of ours that a pod carries already.
pub(crate) struct Carried {
    /// The volume with the tree.
    pub(crate) volume: &'static str,
    /// All volumes of ours, whose mounts are read-only.
    pub(crate) volumes: Vec<&'static str>,
    /// Whether a farm is among them, so that the pod is a paired runner.
    pub(crate) is_paired: bool,
    pub(crate) version: String,
    pub(crate) read_only: Vec<Field>,
}

/// The volume of ours that the pod carries, if it does; told by the volume alone, whatever became of the labels.
pub(crate) fn carried(pod: Pod<'_>, shape: Rule, state: &PublishedState) -> Option<Carried> {
    let taken_over = match shape {
        Rule::WorkflowCurrent => Some(HOOK_EXTERNALS),
        Rule::RunnerDind => Some(DIND_EXTERNALS),
        _ => None,
    };
    std::iter::once(VOLUME).chain(taken_over).find_map(|name| {
        let (version, kind) = version_of(pod, pod.volume(name)?.1, state, VersionDir::tree)?;
        let farm = pod.volume(FARM).filter(|_| shape == Rule::RunnerLegacy);
        let farm_shows = |folder: fn(&VersionDir) -> PathBuf| {
            farm.is_some_and(|(_, volume)| version_of(pod, volume, state, folder).is_some())
        };
        let is_paired = farm_shows(VersionDir::farm);
        let volumes = if is_paired || farm_shows(VersionDir::tree) { vec![name, FARM] } else { vec![name] };
        Some(Carried { volume: name, volumes, is_paired, version, read_only: mount::read_only(kind) })
    })
}

/// The version of which a volume shows one folder, and how; `None` for volumes that we do not make.
///
/// Revisions may share an image: then it is the one that the pod's label names, or else what pods are given now.
fn version_of(
    pod: Pod<'_>,
    volume: &Value,
    state: &PublishedState,
    folder: fn(&VersionDir) -> PathBuf,
) -> Option<(String, MountKind)> {
    if let Some(image) = volume["image"]["reference"].as_str() {
        let shows = |published: &&PublishedVersion| published.volume_image.as_deref() == Some(image);
        let showing = || state.versions.iter().filter(shows);
        let is_named =
            |published: &&PublishedVersion| pod.label(VERSION_LABEL) == Some(published.name.as_str());
        let is_offered = |published: &&PublishedVersion| published.phase == Phase::Offered;
        let named = showing().find(is_named);
        let found = named.or_else(|| showing().find(is_offered)).or_else(|| showing().next())?;
        return Some((found.name.to_string(), MountKind::Image));
    }
    let root = Root::new(&state.host_root);
    let path = Path::new(volume["hostPath"]["path"].as_str()?);
    let version: VersionName = path.parent()?.file_name()?.to_str()?.parse().ok()?;
    let ours = volume["hostPath"]["type"] == "Directory" && path == folder(&root.version(&version));
    ours.then(|| (version.to_string(), MountKind::HostPath))
}

#[cfg(test)]
mod tests {
    use headstart_externals::config::Config;
    use serde_json::json;

    use super::*;

    #[test]
    fn of_versions_with_one_image_the_one_that_the_pod_names_counts_and_else_the_one_that_is_offered() {
        let mut state = PublishedState::immediate(&Config::embedded().unwrap());
        let shared = "example.com/externals@sha256:0";
        let mut versions: Vec<PublishedVersion> = Vec::new();
        for (name, phase) in [
            ("node16-000000000000", Phase::Retired),
            ("node16-111111111111", Phase::Retiring),
            ("node16-222222222222", Phase::Offered),
        ] {
            let volume_image = Some(shared.to_owned());
            let name = name.parse().unwrap();
            versions.push(PublishedVersion { name, phase, volume_image, ..state.versions[0].clone() });
        }
        versions.push(PublishedVersion {
            name: "node16-333333333333".parse().unwrap(),
            volume_image: None,
            ..versions[2].clone()
        });
        state.versions = versions;
        let shown = |label: &str| {
            let volume = json!({ "name": VOLUME, "image": { "reference": shared } });
            let labels = json!({ VERSION_LABEL: label });
            let pod = json!({ "metadata": { "labels": labels }, "spec": { "volumes": [volume] } });
            carried(Pod(&pod), Rule::RunnerLegacy, &state).unwrap().version
        };
        assert_eq!(shown("node16-111111111111"), "node16-111111111111");
        assert_eq!(shown("node16-222222222222"), "node16-222222222222");
        assert_eq!(shown(""), "node16-222222222222");
        assert_eq!(shown("node16-333333333333"), "node16-222222222222", "it shows another image, or none");
    }
}

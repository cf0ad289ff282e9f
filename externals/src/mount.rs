//! What a volume that shows a version's tree looks like in a pod: one definition for the webhook, which makes such
//! volumes, and for the controller, which tries where they are admitted.

use std::path::Path;

use serde_json::{Value, json};

use crate::layout::Root;
use crate::state::{MountKind, PublishedVersion};

/// One field of a mount.
pub type Field = (&'static str, Value);

/// The volume `name` that shows the tree of `version`; `None` where the version cannot be shown in this way.
pub fn volume(name: &str, kind: MountKind, host_root: &str, version: &PublishedVersion) -> Option<Value> {
    match kind {
        MountKind::HostPath => Some(host_path(name, &Root::new(host_root).version(&version.name).tree())),
        MountKind::Image => {
            let reference = version.volume_image.as_deref()?;
            Some(json!({ "name": name, "image": { "reference": reference, "pullPolicy": "IfNotPresent" } }))
        }
        MountKind::Unknown => None,
    }
}

/// The volume `name` that shows the farm of `version`: links to where the tree must be mounted.
pub fn farm(name: &str, host_root: &str, version: &PublishedVersion) -> Value {
    host_path(name, &Root::new(host_root).version(&version.name).farm())
}

/// The type makes a pod wait for its version instead of starting with an empty folder.
fn host_path(name: &str, path: &Path) -> Value {
    json!({ "name": name, "hostPath": { "path": path, "type": "Directory" } })
}

/// The fields that every mount of such a volume must have. Image volumes are read-only through and through; below a
/// hostPath a nested mount would stay writable.
pub fn read_only(kind: MountKind) -> Vec<Field> {
    let mut fields = vec![("readOnly", json!(true))];
    if kind == MountKind::HostPath {
        fields.push(("recursiveReadOnly", json!("IfPossible")));
    }
    fields
}

/// A mount of `volume` at `path`.
pub fn mount(volume: &str, path: &str, read_only: &[Field]) -> Value {
    let mut mount = json!({ "name": volume, "mountPath": path });
    for (key, value) in read_only {
        mount[key] = value.clone();
    }
    mount
}

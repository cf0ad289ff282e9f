//! The JSON documents of an image, as containerd and Docker read them.

use serde_json::{Value, json};

use super::Config;
use super::archive::Blob;

/// The file that says which layout this is.
pub(super) const LAYOUT: &str = "oci-layout";

/// The file that names the images.
pub(super) const INDEX: &str = "index.json";

/// The same for Docker before version 25, which reads no OCI layout.
pub(super) const DOCKER: &str = "manifest.json";

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The architecture of this machine in the words of images.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The name as runtimes store it: Docker's own registry and its `library` are left out in daily use only.
pub(super) fn full_name(name: &str) -> String {
    match name.split_once('/') {
        None => format!("docker.io/library/{name}"),
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
    }
}

pub(super) fn config(config: &Config, layers: &[Blob]) -> Vec<u8> {
    let layers: Vec<&str> = layers.iter().map(|layer| layer.digest.as_str()).collect();
    let env: Vec<&str> = std::iter::once(PATH).chain(config.env.iter().map(String::as_str)).collect();
    bytes(&json!({
        "created": "1970-01-01T00:00:00Z",
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Env": env,
            "Entrypoint": config.entrypoint,
            "User": config.user,
            "WorkingDir": config.working_dir,
        },
        // Layers are not compressed, so the digest of what is stored is that of the content too.
        "rootfs": {"type": "layers", "diff_ids": layers},
    }))
}

pub(super) fn manifest(config: &Blob, layers: &[Blob]) -> Vec<u8> {
    let media = "application/vnd.oci.image.layer.v1.tar";
    let layers: Vec<Value> = layers.iter().map(|layer| descriptor(media, layer)).collect();
    bytes(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": layers,
    }))
}

pub(super) fn index(name: &str, manifest: &Blob) -> Vec<u8> {
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", manifest);
    let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    entry["platform"] = json!({"architecture": architecture(), "os": "linux"});
    entry["annotations"] =
        json!({"io.containerd.image.name": full_name(name), "org.opencontainers.image.ref.name": tag});
    bytes(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry],
    }))
}

pub(super) fn docker(name: &str, config: &Blob, layers: &[Blob]) -> Vec<u8> {
    let layers: Vec<String> = layers.iter().map(Blob::path).collect();
    bytes(&json!([{"Config": config.path(), "RepoTags": [name], "Layers": layers}]))
}

pub(super) fn layout() -> Vec<u8> {
    bytes(&json!({"imageLayoutVersion": "1.0.0"}))
}

fn descriptor(media: &str, blob: &Blob) -> Value {
    json!({"mediaType": media, "digest": blob.digest, "size": blob.size})
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

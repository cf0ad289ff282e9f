//! Archives are the same each time, hold what was put in, and say what containerd and Docker ask for.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use super::document::{architecture, full_name};
use super::{Config, Image, Layer, Owner, ROOT, digest};
use crate::archive::sha256;

const RUNNER: Owner = Owner { uid: 1001, gid: 123 };

/// A path too long for a plain header, which has a slash where it is cut there.
fn long() -> String {
    let place = "home/runner/externals/node16/";
    format!("{}/{}", "d".repeat(99 - place.len()), "f".repeat(90))
}

/// A folder of this machine with a program, a link, an empty folder and a long name.
fn host_tree(folder: &Path) {
    for (path, mode) in [("bin/node", 0o700), ("LICENSE", 0o600), (long().as_str(), 0o664)] {
        crate::tree::write_file(&folder.join(path), path.as_bytes(), mode);
    }
    fs::create_dir(folder.join("empty")).unwrap();
    symlink("node", folder.join("bin/link")).unwrap();
}

fn image(folder: &Path) -> Image {
    let layer = Layer::default().folder("/home/runner", 0o750, RUNNER);
    let layer = layer.tree("/home/runner/externals/node16", folder, RUNNER).unwrap();
    let tools = Layer::default().file("/bin/sudo", "program", 0o4755, ROOT).link("bin/sh", "busybox", ROOT);
    Image {
        name: "bed.test/runner:1".to_owned(),
        layers: vec![tools.folder("tmp", 0o1777, ROOT), layer],
        config: Config {
            entrypoint: vec!["/bin/sh".to_owned()],
            env: vec!["A=b".to_owned()],
            user: "1001".to_owned(),
            working_dir: "/home/runner".to_owned(),
        },
    }
}

/// The members of a tar file by name: mode, owner and content, or the target of a link.
fn members(archive: &[u8]) -> BTreeMap<String, (u32, u64, u64, Vec<u8>)> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let header = entry.header();
        assert_eq!(header.mtime().unwrap(), 0);
        // The field for the type is at 156; where it is empty, a cut name that ends in a slash is a folder's.
        assert_ne!(header.as_bytes()[156], 0, "{:?} does not say what it is", entry.path());
        let (mode, uid, gid) = (header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap());
        let mut content = entry.link_name_bytes().map(|target| target.into_owned()).unwrap_or_default();
        entry.read_to_end(&mut content).unwrap();
        (entry.path().unwrap().to_str().unwrap().to_owned(), (mode, uid, gid, content))
    });
    entries.collect()
}

fn blob<'a>(layout: &'a BTreeMap<String, (u32, u64, u64, Vec<u8>)>, descriptor: &Value) -> &'a [u8] {
    let digest = descriptor["digest"].as_str().unwrap();
    let content = &layout[&format!("blobs/{}", digest.replace(':', "/"))].3;
    assert_eq!(digest, format!("sha256:{}", sha256(content)));
    assert_eq!(descriptor["size"], content.len());
    content
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn the_same_content_gives_the_same_archive() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let archives = [&one, &two].map(|dir| {
        host_tree(&dir.path().join("tree"));
        let path = dir.path().join("out/image.tar");
        let digest = image(&dir.path().join("tree")).write(&path).unwrap();
        assert_eq!(super::digest(&path).unwrap(), digest);
        (digest, sha256(&fs::read(path).unwrap()))
    });
    assert_eq!(archives[0], archives[1]);

    fs::write(two.path().join("tree/LICENSE"), "another").unwrap();
    let path = two.path().join("other.tar");
    assert_ne!(image(&two.path().join("tree")).write(&path).unwrap(), archives[0].0);
}

#[test]
fn layers_hold_what_was_put_in_with_modes_and_owners() {
    let dir = tempfile::tempdir().unwrap();
    host_tree(&dir.path().join("tree"));
    let path = dir.path().join("image.tar");
    image(&dir.path().join("tree")).write(&path).unwrap();

    let layout = members(&fs::read(path).unwrap());
    let manifest = json(blob(&layout, &json(&layout["index.json"].3)["manifests"][0]));
    let tools = members(blob(&layout, &manifest["layers"][0]));
    assert_eq!(tools["bin/sudo"], (0o4755, 0, 0, b"program".to_vec()));
    assert_eq!(tools["bin/sh"].3, b"busybox");
    assert_eq!(tools["tmp"].0, 0o1777);
    assert_eq!(tools["bin"], (0o755, 0, 0, vec![]), "missing parents are made");

    let home = members(blob(&layout, &manifest["layers"][1]));
    assert_eq!(home["home/runner"], (0o750, 1001, 123, vec![]));
    let node16 = |below: &str| &home[&format!("home/runner/externals/node16/{below}")];
    assert_eq!(*node16("bin/node"), (0o755, 1001, 123, b"bin/node".to_vec()));
    assert_eq!((node16("LICENSE").0, node16("empty").0), (0o644, 0o755));
    assert_eq!(node16("bin/link").3, b"node");
    assert_eq!(node16(&long()).3, long().as_bytes());
}

#[test]
fn documents_say_what_runtimes_ask_for() {
    let dir = tempfile::tempdir().unwrap();
    host_tree(&dir.path().join("tree"));
    let path = dir.path().join("image.tar");
    image(&dir.path().join("tree")).write(&path).unwrap();

    let layout = members(&fs::read(path).unwrap());
    assert_eq!(json(&layout["oci-layout"].3), json!({"imageLayoutVersion": "1.0.0"}));
    let entry = &json(&layout["index.json"].3)["manifests"][0];
    assert_eq!(entry["platform"], json!({"architecture": architecture(), "os": "linux"}));
    assert_eq!(entry["annotations"]["io.containerd.image.name"], "bed.test/runner:1");
    let manifest = json(blob(&layout, entry));
    assert_eq!(manifest["mediaType"], entry["mediaType"]);
    let config = json(blob(&layout, &manifest["config"]));
    assert_eq!((&config["architecture"], &config["os"]), (&json!(architecture()), &json!("linux")));
    assert_eq!(config["rootfs"]["diff_ids"][1], manifest["layers"][1]["digest"]);
    let start = &config["config"];
    assert_eq!((&start["User"], &start["WorkingDir"]), (&json!("1001"), &json!("/home/runner")));
    assert!(start["Env"][0].as_str().unwrap().starts_with("PATH="));
    assert_eq!((&start["Env"][1], &start["Entrypoint"][0]), (&json!("A=b"), &json!("/bin/sh")));
    let docker = &json(&layout["manifest.json"].3)[0];
    assert_eq!(docker["RepoTags"][0], "bed.test/runner:1");
    assert!(layout.contains_key(docker["Layers"][1].as_str().unwrap()));
    assert!(layout.contains_key(docker["Config"].as_str().unwrap()));
}

#[test]
fn short_names_are_stored_in_full() {
    assert_eq!(full_name("headstart:0.1.0"), "docker.io/library/headstart:0.1.0");
    assert_eq!(full_name("acme/headstart:1"), "docker.io/acme/headstart:1");
    for full in ["bed.test/pause:1", "localhost/pause:1", "localhost:5000/pause:1"] {
        assert_eq!(full_name(full), full);
    }
}

#[test]
fn what_runtimes_would_resolve_differently_is_refused_and_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = [
        (Layer::default().file("/bin/../etc/passwd", "", 0o644, ROOT), "plain form"),
        (
            Layer::default().link("/lib", "usr/lib", ROOT).file("/lib/libc.so", "", 0o644, ROOT),
            "/lib/libc.so",
        ),
        (Layer::default().file("/absent", dir.path().join("absent").as_path(), 0o644, ROOT), "absent"),
    ];
    for (layer, cause) in wrong {
        let image = Image { name: "a:1".to_owned(), layers: vec![layer], config: Config::default() };
        let path = dir.path().join("out/image.tar");
        let error = format!("{:#}", image.write(&path).unwrap_err());
        assert!(error.contains(cause) && error.contains("a:1"), "{error}");
        assert_eq!(fs::read_dir(dir.path().join("out")).unwrap().count(), 0);
    }
    let error = digest(&dir.path().join("none.tar")).unwrap_err();
    assert!(format!("{error:#}").contains("none.tar is not an image archive"), "{error:#}");
}

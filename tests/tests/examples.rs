//! The examples of `deploy/examples`: complete, accepted by a real API server, true to what is shipped, and agents make of
//! them what they promise.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use headstart_externals::arch::Arch;
use headstart_externals::config::{Auth, Config, Source};
use headstart_externals::relpath::RelPath;
use headstart_externals::selection::NODE;
use headstart_tests::agent::Node;
use headstart_tests::archive::{Tar, sha256};
use headstart_tests::bed::{ControlPlane, Minor};
use headstart_tests::deploy::{objects, rendered};
use headstart_tests::origin::{Answer, Origin};
use headstart_tests::programs::{program, repository};
use headstart_tests::tree::{self, NODE16, STAND_IN};
use serde_json::{Value, json};

/// The namespace of runners in the example that creates them.
const RUNNERS: &str = "arc-runners";

/// An example, rendered.
struct Example {
    folder: PathBuf,
    objects: Vec<Value>,
    config: Config,
}

impl Example {
    fn all(control_plane: &ControlPlane) -> Vec<Self> {
        let folders = std::fs::read_dir(repository().join("deploy/examples")).unwrap();
        let mut folders: Vec<PathBuf> = folders.map(|folder| folder.unwrap().path()).collect();
        folders.sort();
        folders.into_iter().map(|folder| Self::new(control_plane, folder)).collect()
    }

    fn new(control_plane: &ControlPlane, folder: PathBuf) -> Self {
        let objects = rendered(control_plane, &folder);
        let config = named(&objects, "ConfigMap/headstart-config").unwrap();
        let config = Config::parse(config["data"]["config.yaml"].as_str().unwrap()).unwrap();
        Self { folder, objects, config }
    }

    /// The agent's container, and the volumes of its pod.
    fn agent(&self) -> (&Value, &Value) {
        let pod = &named(&self.objects, "DaemonSet/headstart-cachesync").unwrap()["spec"]["template"]["spec"];
        (&pod["containers"][0], &pod["volumes"])
    }
}

fn name(object: &Value) -> String {
    format!("{}/{}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap())
}

fn named<'o>(objects: &'o [Value], wanted: &str) -> Option<&'o Value> {
    objects.iter().find(|object| name(object) == wanted)
}

fn is_stage(object: &Value) -> bool {
    name(object).starts_with("DaemonSet/headstart-stage-")
}

/// The element of a list that has this name.
fn element<'v>(list: &'v Value, name: &str) -> Option<&'v Value> {
    list.as_array()?.iter().find(|element| element["name"] == name)
}

/// An example holds everything that is shipped, unchanged but for its configuration, its stages and the agent's mounts.
fn check_completeness(example: &Example, shipped: &[Value]) {
    let own = |object: &Value| {
        is_stage(object)
            || ["ConfigMap/headstart-config", "DaemonSet/headstart-cachesync"]
                .contains(&name(object).as_str())
    };
    for object in shipped.iter().filter(|object| !own(object)) {
        assert_eq!(named(&example.objects, &name(object)), Some(object), "{}", example.folder.display());
    }
    let shipped: BTreeSet<String> = shipped.iter().map(name).collect();
    for object in &example.objects {
        let is_known = is_stage(object) || shipped.contains(&name(object)) || is_of_creation(object);
        assert!(is_known, "{} is new", name(object));
    }
}

/// Whether the component that creates runners brings it.
fn is_of_creation(object: &Value) -> bool {
    object["metadata"]["name"].as_str().unwrap().starts_with("headstart-runner-")
}

/// Rights in runner namespaces come with the component alone, and with one binding for each namespace.
fn check_creation(example: &Example) {
    let brought: Vec<String> =
        example.objects.iter().filter(|object| is_of_creation(object)).map(name).collect();
    if !example.folder.ends_with("runner-creation") {
        assert!(brought.is_empty(), "{}: {brought:?}", example.folder.display());
        return;
    }
    let bound =
        example.objects.iter().filter(|object| object["roleRef"]["name"] == "headstart-runner-creation");
    let places: Vec<_> = bound.map(|object| (&object["kind"], &object["metadata"]["namespace"])).collect();
    assert_eq!(places, [(&json!("RoleBinding"), &json!(RUNNERS))]);
    assert!(named(&example.objects, "ClusterRoleBinding/headstart-runner-listeners").is_some());
}

/// There is one stage for each runner image, and it is the shipped one but for names and image.
fn check_stages(example: &Example, shipped: &[Value]) {
    let shipped = shipped.iter().find(|object| is_stage(object)).unwrap();
    let mut stages: Vec<&Value> = example.objects.iter().filter(|object| is_stage(object)).collect();
    for (profile, revision) in example.config.revisions() {
        let Source::RunnerImage { image, .. } = &revision.source else { continue };
        let stage = &shipped["spec"]["template"]["spec"]["initContainers"][1];
        let name = revision.revision.as_ref().unwrap();
        let expected = shipped
            .to_string()
            .replace(stage["image"].as_str().unwrap(), "IMAGE")
            .replace("node16", &profile.name)
            .replace("2.304.0", name)
            .replace("2-304-0", &name.replace('.', "-"))
            .replace("IMAGE", image);
        let expected: Value = serde_json::from_str(&expected).unwrap();
        let at = stages.iter().position(|stage| **stage == expected);
        stages.remove(at.unwrap_or_else(|| panic!("no such stage: {expected:#}")));
    }
    assert_eq!(stages, [&Value::Null; 0], "stages of images that no profile names");
}

/// Agents and stages write where the configuration sends pods, and agents nowhere else: one that does not find that folder
/// mounted says so.
fn check_root(example: &Example) {
    let (container, volumes) = example.agent();
    let root = example.config.host_root.as_str();
    assert_eq!(element(volumes, "cache").unwrap()["hostPath"]["path"], root);
    assert_eq!(element(&container["volumeMounts"], "cache").unwrap()["mountPath"], root);
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    let args = container["args"].as_array().unwrap();
    assert!(args.iter().all(|arg| !arg.as_str().unwrap().starts_with("--root")), "{args:?}");
    assert!(element(&container["env"], "HEADSTART_ROOT").is_none());
    for stage in example.objects.iter().filter(|object| is_stage(object)) {
        let volumes = &stage["spec"]["template"]["spec"]["volumes"];
        assert_eq!(element(volumes, "staged").unwrap()["hostPath"]["path"], format!("{root}/staged"));
    }
}

/// A node that is short of processor time for a moment makes nobody start anew.
fn check_probes(objects: &[Value]) {
    let containers = objects.iter().filter_map(|object| {
        object["spec"]["template"]["spec"]["containers"].as_array().map(|containers| (object, containers))
    });
    let mut probed = 0;
    for (object, containers) in containers {
        for probe in containers.iter().filter_map(|container| container.get("livenessProbe")) {
            assert_eq!(probe["timeoutSeconds"], 5, "{}", name(object));
            probed += 1;
        }
    }
    assert_eq!(probed, 3, "agent, webhook and controller");
}

/// Everything that the configuration names as `auth` is mounted where the agent looks.
fn check_credentials(example: &Example) {
    let (container, volumes) = example.agent();
    let folder = element(&container["env"], "HEADSTART_CREDENTIALS_DIR").map(|variable| &variable["value"]);
    let downloads = example.config.revisions().filter_map(|(_, revision)| match &revision.source {
        Source::Archive { downloads, .. } => Some(downloads.values()),
        _ => None,
    });
    for download in downloads.flatten() {
        let auths = download.mirrors.iter().map(|mirror| &mirror.auth).chain([&download.auth]);
        for auth in auths.flatten() {
            let (Auth::Bearer { secret } | Auth::Basic { secret }) = auth;
            let mount = element(&container["volumeMounts"], secret).unwrap();
            assert_eq!(mount["mountPath"], format!("{}/{secret}", folder.unwrap().as_str().unwrap()));
            assert_eq!(element(volumes, secret).unwrap()["secret"]["secretName"], secret.as_str());
        }
        assert_eq!(download.sha256, "0".repeat(64), "an obvious placeholder, to be filled in");
    }
}

/// Current runners get both majors, each with its alpine twin, and the same from either kind of source.
fn check_profiles(examples: &[Example]) {
    let mut profiles = Vec::new();
    for example in examples {
        let [others @ .., current] = example.config.profiles.as_slice() else { panic!("no profile") };
        let required = current.selection.required(Arch::Amd64);
        let programs: Vec<&str> =
            required.iter().filter(|path| path.inside_entry() == Some(NODE)).map(RelPath::as_str).collect();
        let nodes = ["node20", "node20_alpine", "node24", "node24_alpine"];
        assert_eq!(programs, nodes.map(|entry| format!("{entry}/bin/node")), "{}", example.folder.display());
        profiles.push((others.len(), &current.hooks, &current.revisions[0].images));
    }
    assert_eq!(profiles[0].1, profiles[1].1);
    assert_eq!(profiles[0].2, profiles[1].2);
    assert!(profiles.iter().any(|(others, ..)| *others > 0), "one shows profiles side by side");
}

#[tokio::test]
async fn examples_are_complete_and_an_api_server_takes_them() {
    let control_plane = ControlPlane::start(Minor::Newest).await.unwrap();
    let shipped = objects(&control_plane);
    control_plane.kubectl(&["create", "namespace", RUNNERS]).unwrap();
    let examples = Example::all(&control_plane);
    assert!(examples.len() >= 3);
    for example in &examples {
        check_completeness(example, &shipped);
        check_stages(example, &shipped);
        check_credentials(example);
        check_root(example);
        check_probes(&example.objects);
        check_creation(example);
        // One after the other, as somebody who changes over would.
        control_plane.kubectl(&["apply", "-k", example.folder.to_str().unwrap()]).unwrap();
    }
    check_profiles(&examples);
    let shipped = Example::new(&control_plane, repository().join("deploy"));
    check_root(&shipped);
    check_probes(&shipped.objects);
    let purge = rendered(&control_plane, &repository().join("deploy/purge"));
    let purge = &named(&purge, "DaemonSet/headstart-purge").unwrap()["spec"]["template"]["spec"];
    let root = &element(&purge["volumes"], "cache").unwrap()["hostPath"];
    assert_eq!(*root, json!({ "path": shipped.config.host_root, "type": "DirectoryOrCreate" }));
}

/// The configuration in an example's file.
fn configuration(example: &str) -> String {
    let path = repository().join("deploy/examples").join(example).join("config.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, config) = text.split_once("  config.yaml: |\n").unwrap();
    config.lines().map(|line| line.strip_prefix("    ").unwrap_or(line).to_owned() + "\n").collect()
}

/// A release with these entries, and things that no profile keeps.
fn release(entries: &[&str]) -> Vec<u8> {
    let tar = entries.iter().fold(Tar::default().file("run.sh", b"#!/bin/sh\n", 0o755), |tar, entry| {
        tar.file(&format!("externals/{entry}/bin/node"), STAND_IN, 0o755)
            .file(&format!("externals/{entry}/LICENSE"), b"licence\n", 0o644)
            .file(&format!("externals/{entry}/include/node.h"), b"// not kept\n", 0o644)
    });
    tar.packed("gz")
}

const CURRENT: [&str; 4] = ["node20", "node20_alpine", "node24", "node24_alpine"];

/// What is installed, by profile.
fn installed(node: &Node) -> Vec<(String, Vec<String>)> {
    let versions = node.list("versions").into_iter().map(|version| {
        let entries = node.list(&format!("versions/{version}/tree"));
        (version.rsplit_once('-').unwrap().0.to_owned(), entries)
    });
    versions.collect()
}

fn expected(profile: &str, entries: &[&str]) -> (String, Vec<String>) {
    (profile.to_owned(), entries.iter().map(|entry| (*entry).to_owned()).collect())
}

#[tokio::test]
async fn releases_of_several_profiles_are_installed_side_by_side() {
    let (old, current) = (release(&NODE16), release(&CURRENT));
    let placeholder = "0".repeat(64);
    let config = configuration("release-archive");
    let (first, second) = config.split_at(config.find("  - name: node20-node24").unwrap());
    let [first, second] = [(first, &old), (second, &current)]
        .map(|(part, archive)| part.replace(&placeholder, &sha256(archive)));
    let origin = Origin::serve(None, move |_, asked| {
        Answer::whole(if asked.line.contains("-2.304.0.") { &old } else { &current })
    })
    .await;
    let node = Node::new(&(first + &second).replace("https://github.com", &origin.url));
    node.start().ready().await;
    let profiles = [expected("node16", &NODE16[2..]), expected("node20-node24", &CURRENT)];
    assert_eq!(installed(&node), profiles);
}

#[tokio::test]
async fn a_current_runner_image_is_staged_and_installed() {
    let node = Node::new(&configuration("current-runners"));
    tree::write(&node.path("externals"), &CURRENT);
    let mut stage = Command::new(program("headstart-cachesync"));
    stage.args(["stage", "--profile=node20-node24", "--revision=2.336.0"]);
    stage.arg("--image=ghcr.io/actions/actions-runner:2.336.0").arg("--config").arg(node.path("config.yaml"));
    stage.arg("--externals").arg(node.path("externals")).arg("--root").arg(node.root());
    assert!(stage.status().unwrap().success());
    let status = node.start().ready().await;
    assert_eq!(installed(&node), [expected("node20-node24", &CURRENT)]);
    assert_eq!(status["versions"][0]["nodes"].as_object().unwrap().len(), CURRENT.len());
}

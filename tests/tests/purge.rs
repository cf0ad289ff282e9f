//! The explicit uninstall: it refuses while anybody uses the cache, takes away everything of ours and nothing else, and can
//! be killed at any step.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output};

use headstart_cachesync::progress::Step;
use headstart_tests::agent::Node;
use headstart_tests::bed::{ControlPlane, Minor};
use headstart_tests::identity::kubeconfig_in;
use headstart_tests::programs::{program, repository};
use headstart_tests::required::is_passed_over;
use serde_json::json;

/// A node with a version, a damaged tree, a staged copy and a file of somebody else.
async fn filled() -> Node {
    let node = Node::with_folder();
    node.start().ready().await;
    for folder in ["replaced/node16-0123456789ab-1", "staged/node16-0123456789ab/tree"] {
        fs::create_dir_all(node.root().join(folder)).unwrap();
        fs::write(node.root().join(folder).join("file"), "x").unwrap();
    }
    node
}

fn purge(program: &Path, node: &Node, more: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(["--log-format", "json", "purge", "--root"]).arg(node.root()).args(more);
    command
}

fn shipped(node: &Node, more: &[&str]) -> Output {
    purge(&program("headstart-cachesync"), node, more).output().unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn everything_of_ours_goes_and_nothing_else() {
    let node = filled().await;
    fs::write(node.root().join("precious"), "mine").unwrap();
    let done = shipped(&node, &["--standalone"]);
    assert!(done.status.success(), "{}", words(&done));
    let left: Vec<_> = fs::read_dir(node.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["precious"]);
    fs::remove_file(node.root().join("precious")).unwrap();
    assert!(shipped(&node, &["--standalone"]).status.success(), "a second run is no error");
    assert!(!node.root().exists());
    assert!(shipped(&node, &["--standalone"]).status.success(), "nor is one without a cache");
}

#[tokio::test]
async fn it_refuses_while_an_agent_runs() {
    let node = filled().await;
    let agent = node.start();
    agent.ready().await;
    let refused = shipped(&node, &["--standalone", "--force"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(words(&refused).contains("held by another agent"), "{}", words(&refused));
    agent.ready().await;
}

#[tokio::test]
async fn it_refuses_while_something_of_the_cache_is_mounted_unless_told_otherwise() {
    if is_passed_over("to mount") {
        return;
    }
    let node = filled().await;
    let tree = node.installed().join("tree");
    let place = node.path("pod");
    fs::create_dir(&place).unwrap();
    let script = format!("mount --bind {} {} && echo ready && read -r line", tree.display(), place.display());
    let mut pod = Command::new("unshare");
    pod.args(["-m", "sh", "-c", &script]);
    let mut pod =
        pod.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let mut lines = std::io::BufReader::new(pod.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut lines, &mut said).unwrap();

    let link = node.path("link");
    std::os::unix::fs::symlink(node.root(), &link).unwrap();
    for root in [&node.root(), &link] {
        let purge = [OsStr::new("purge"), OsStr::new("--standalone"), OsStr::new("--root"), root.as_os_str()];
        let refused = Command::new(program("headstart-cachesync")).args(purge).output().unwrap();
        assert_eq!(refused.status.code(), Some(1));
        assert!(words(&refused).contains(&format!("process {}", pod.id())), "{}", words(&refused));
    }
    assert!(tree.join("node16/bin/node").exists());
    assert!(shipped(&node, &["--standalone", "--force"]).status.success());
    assert!(!node.root().exists());
    drop(pod.stdin.take());
    pod.wait().unwrap();
}

#[tokio::test]
async fn it_refuses_while_a_pod_of_the_node_uses_the_cache() {
    let control_plane = ControlPlane::start(Minor::Newest).await.unwrap();
    let manifests = repository().join("deploy/purge").display().to_string();
    control_plane.kubectl(&["apply", "-k", &manifests]).unwrap();
    let node = filled().await;
    let identity =
        kubeconfig_in(&control_plane, "headstart-purge", ("headstart-purge", None), &node.path(""));
    let run = |more: &[&str]| {
        let mut command = purge(&program("headstart-cachesync"), &node, more);
        command.env("KUBECONFIG", &identity).output().unwrap()
    };
    let file = identity.display().to_string();
    for forbidden in [&["get", "secrets"][..], &["delete", "pod", "x"], &["get", "nodes"]] {
        let refused = control_plane.kubectl(&[forbidden, &["--kubeconfig", &file]].concat()).unwrap_err();
        assert!(refused.to_string().contains("orbidden"), "{forbidden:?}: {refused}");
    }
    let pod = |name: &str, node: &str| {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "namespace": "default",
                "labels": { "headstart.dev/version": "node16-0123456789ab" },
            },
            "spec": { "nodeName": node, "containers": [{ "name": "runner", "image": "x" }] },
        });
        control_plane.apply(&pod.to_string()).unwrap();
    };
    pod("job", "one");
    let refused = run(&["--node-name", "one"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(words(&refused).contains("pod default/job"), "{}", words(&refused));
    let ended = r#"{"status": {"phase": "Succeeded"}}"#;
    control_plane.kubectl(&["patch", "pod", "job", "--subresource=status", "--patch", ended]).unwrap();
    pod("elsewhere", "two");
    let pending = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "pending", "namespace": "default",
            "labels": { "headstart.dev/version": "node16-0123456789ab" },
        },
        "spec": { "containers": [{ "name": "runner", "image": "x" }] },
    });
    control_plane.apply(&pending.to_string()).unwrap();
    let refused = run(&["--node-name", "one"]);
    assert!(words(&refused).contains("pod default/pending (not scheduled yet)"), "{}", words(&refused));
    control_plane.kubectl(&["delete", "pod", "pending", "--grace-period=0", "--force"]).unwrap();
    let done = run(&["--node-name", "one"]);
    assert!(done.status.success(), "{}", words(&done));
    assert!(!node.root().exists());
}

#[tokio::test]
async fn without_an_answer_from_the_cluster_nothing_goes() {
    let node = filled().await;
    let mut command = purge(&program("headstart-cachesync"), &node, &["--node-name", "one"]);
    let refused = command.env("KUBECONFIG", node.path("nowhere")).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(node.list("versions").len(), 1);
}

#[tokio::test]
async fn a_killed_run_is_simply_repeated() {
    for step in Step::REMOVAL {
        let node = filled().await;
        let mut command = purge(Path::new(env!("CARGO_BIN_EXE_killed-agent")), &node, &["--standalone"]);
        let killed = command.env("KILL_AT", format!("{step:?}")).output().unwrap();
        assert_eq!(killed.status.signal(), Some(9), "{step:?}: {}", words(&killed));
        let done = shipped(&node, &["--standalone"]);
        assert!(done.status.success(), "{step:?}: {}", words(&done));
        assert!(!node.root().exists(), "{step:?}");
    }
}

#[test]
fn bad_flags_give_one_clear_message() {
    for (flags, expected) in [
        (&["purge"][..], "required"),
        (&["purge", "--root", "/nowhere"], "--standalone"),
        (&["purge", "--root", "/nowhere", "--node-name", "one"], "/nowhere is not there"),
        (&["purge", "--config", "/nowhere/config.yaml", "--standalone"], "/nowhere/config.yaml"),
    ] {
        let output = Command::new(program("headstart-cachesync")).args(flags).output().unwrap();
        assert!(!output.status.success());
        assert!(words(&output).contains(expected), "{flags:?}: {}", words(&output));
    }
}

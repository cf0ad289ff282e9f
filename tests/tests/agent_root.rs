//! The agent and its root: shared with nobody, read-only, full, noexec, replaced; adopted, damaged, repaired.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use headstart_tests::agent::{Agent, Node};
use headstart_tests::archive::config;
use headstart_tests::programs::{program, repository};
use headstart_tests::required::is_passed_over;
use headstart_tests::tree::{self, NODE16, directory_config};
use headstart_tests::wait::until;
use serde_json::{Value, json};

#[tokio::test]
async fn a_restart_adopts_what_is_there_and_repairs_what_is_damaged() {
    let node = Node::with_folder();
    let first = node.start().ready().await;
    let version = node.installed();
    let before = fs::metadata(version.join("tree")).unwrap();

    let agent = node.start();
    let adopted = agent.ready().await;
    assert_eq!(adopted["versions"][0]["treeSha256"], first["versions"][0]["treeSha256"]);
    assert!(agent.log().iter().any(|line| line["message"] == "found ready"), "{:#?}", agent.log());
    assert_eq!(fs::metadata(version.join("tree")).unwrap().modified().unwrap(), before.modified().unwrap());
    drop(agent);

    fs::write(version.join("tree/node16/bin/node"), "#!/bin/sh\necho v6.6.6\n").unwrap();
    let agent = node.start();
    let repaired = agent.ready().await;
    assert!(agent.log().iter().any(|line| line["message"] == "repaired"), "{:#?}", agent.log());
    assert_eq!(repaired["versions"][0]["treeSha256"], first["versions"][0]["treeSha256"]);
    assert_eq!(node.list("replaced").len(), 1, "running pods may use the damaged tree, so it is kept");
}

#[tokio::test]
async fn what_does_not_belong_into_a_version_is_damage_too() {
    let spoilers: [fn(&std::path::Path); 5] = [
        |version| fs::rename(version.join("tree/node16"), version.join("tree/node99")).unwrap(),
        |version| fs::create_dir(version.join("tree/node20")).unwrap(),
        |version| fs::write(version.join("foreign"), "x").unwrap(),
        |version| fs::remove_file(version.join("farm/node16")).unwrap(),
        |version| fs::set_permissions(version.join("farm"), fs::Permissions::from_mode(0o777)).unwrap(),
    ];
    for spoil in spoilers {
        let node = Node::with_folder();
        node.start().ready().await;
        spoil(&node.installed());
        let agent = node.start();
        agent.ready().await;
        assert!(agent.log().iter().any(|line| line["message"] == "repaired"), "{:#?}", agent.log());
    }
}

#[tokio::test]
async fn damage_that_cannot_be_repaired_stays_the_reason_until_it_passes() {
    let node = Node::with_folder();
    node.start().ready().await;
    let program = node.installed().join("tree/node16/bin/node");
    let sound = fs::read(&program).unwrap();
    fs::write(&program, "damaged").unwrap();
    fs::remove_dir_all(node.path("externals")).unwrap();
    let agent = node.start();
    assert_eq!(agent.failed().await, "CheckFailed", "pods may be using the damaged tree");
    let said = |status: &Value| status["versions"][0]["fault"]["message"].as_str().map(str::to_owned);
    let why = "cannot be repaired: SourceUnavailable";
    agent.status(why, |status| said(status).is_some_and(|message| message.contains(why))).await;
    fs::write(&program, sound).unwrap();
    let status = agent.ready().await;
    assert_eq!(status["versions"][0]["repairs"], 0, "nothing could be built");
}

#[tokio::test]
async fn a_mark_that_an_exchange_left_is_taken_away_and_nothing_is_built_anew() {
    let node = Node::with_folder();
    let agent = node.start();
    agent.ready().await;
    let (mark, license) =
        (node.installed().join("unpublished"), node.installed().join("tree/node16/LICENSE"));
    fs::write(&mark, "").unwrap();
    // So that it is looked at.
    fs::set_permissions(&license, fs::Permissions::from_mode(0o644)).unwrap();
    until("the mark is gone", || async { (!mark.exists()).then_some(()) }).await;
    let status = agent.ready().await;
    assert_eq!(status["versions"][0]["repairs"], 0);
    assert_eq!(node.list("replaced"), [""; 0]);
}

#[tokio::test]
async fn a_sound_version_is_not_built_anew_because_the_canary_is_blind() {
    let node = Node::with_folder();
    node.start().ready().await;
    let mut command = node.command();
    command.arg("--canary-root").arg(node.path("nowhere"));
    let agent = Agent::spawn(command);
    assert_eq!(agent.failed().await, "CanaryNotVisible");
    assert_eq!(node.list("replaced"), [""; 0]);
}

#[tokio::test]
async fn a_program_that_leaves_children_behind_holds_up_nobody() {
    let node = Node::with_folder();
    let program = b"#!/bin/sh\nsleep 300 &\necho v16\n";
    tree::write_file(&node.path("externals/node16/bin/node"), program, 0o755);
    let status = node.start().ready().await;
    assert_eq!(status["versions"][0]["nodes"]["node16"], json!({"ran": "v16"}));
}

#[tokio::test]
async fn a_hostile_program_is_tried_as_somebody_else() {
    if is_passed_over("to be somebody else") {
        return;
    }
    let node = Node::with_folder();
    // As on a node: everybody may pass.
    fs::set_permissions(node.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let program = format!("#!/bin/sh\nrm -rf {}/* 2>/dev/null\nid -u\n", node.root().display());
    tree::write_file(&node.path("externals/node16/bin/node"), program.as_bytes(), 0o755);
    let status = node.start().ready().await;
    assert_eq!(status["versions"][0]["nodes"]["node16"], json!({"ran": "65534"}));
    assert_eq!(node.list("versions").len(), 1, "it could not touch the cache");
}

#[tokio::test]
async fn a_version_that_is_gone_is_made_again() {
    let node = Node::with_folder();
    let agent = node.start();
    agent.ready().await;
    fs::remove_dir_all(node.installed()).unwrap();
    let manifest = || !node.list("versions").is_empty();
    until("the version is there again", || async { manifest().then_some(()) }).await;
    agent.ready().await;
}

/// An agent that is not told where its root is.
fn run_without_root() -> Command {
    let mut command = Command::new(program("headstart-cachesync"));
    command.args(["--log-format", "json", "run", "--standalone", "--admin-listen", "127.0.0.1:0"]);
    command
}

#[tokio::test]
async fn relative_roots_work() {
    let node = Node::with_folder();
    tree::write_file(&node.path("externals/node16/bin/node"), b"#!/bin/sh\nexit 3\n", 0o755);
    let mut command = run_without_root();
    command.args(["--root", "root", "--config", "config.yaml"]).current_dir(node.path(""));
    assert_eq!(
        Agent::spawn(command).failed().await,
        "CanaryFailed",
        "the canary is not misled by a relative path"
    );
}

#[tokio::test]
async fn a_root_that_others_may_write_is_refused() {
    let node = Node::with_folder();
    fs::create_dir_all(node.root().join("versions")).unwrap();
    fs::set_permissions(node.root().join("versions"), fs::Permissions::from_mode(0o777)).unwrap();
    let agent = node.start();
    let refused = |status: &Value| status["fault"]["reason"] == "RootUnsafe";
    let status = agent.status("refused", refused).await;
    assert_eq!(status["versions"].as_array().unwrap().len(), 1, "what is wanted is shown all the same");
    fs::set_permissions(node.root().join("versions"), fs::Permissions::from_mode(0o755)).unwrap();
    agent.ready().await;
    let lock = fs::metadata(node.root().join("lock")).unwrap().permissions().mode() & 0o777;
    assert_eq!(lock, 0o600, "nobody else may hold the lock");
}

#[tokio::test]
async fn a_root_that_was_replaced_is_opened_anew() {
    let node = Node::with_folder();
    let agent = node.start();
    agent.ready().await;
    fs::rename(node.root(), node.path("elsewhere")).unwrap();
    node.configure(&directory_config(&node.path("externals")).replace("revision: test", "revision: other"));
    let other = |status: &Value| status["ready"] == true && node.list("versions").len() == 1;
    agent.status("the other revision is installed", other).await;
}

#[tokio::test]
async fn a_second_agent_waits_for_the_root() {
    let node = Node::with_folder();
    let first = node.start();
    first.ready().await;
    let second = node.start();
    let locked = |status: &Value| status["fault"]["reason"] == "RootLocked";
    let status = second.status("the root is locked", locked).await;
    assert_eq!(status["ready"], false);
    assert!(status["fault"]["message"].as_str().unwrap().contains("held by another agent"));
    drop(first);
    second.ready().await;
}

/// Runs the agent in a mount namespace of its own, after `prepare` in a shell. `None` without the right to do so.
fn in_own_mounts(node: &Node, prepare: &str) -> Option<Agent> {
    if is_passed_over("to mount") {
        return None;
    }
    fs::create_dir_all(node.root()).unwrap();
    let agent = node.command();
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &format!("{prepare} && exec \"$0\" \"$@\"")]);
    command.arg(agent.get_program()).args(agent.get_args()).current_dir(node.path(""));
    Some(Agent::spawn(command))
}

#[tokio::test]
async fn a_root_that_cannot_be_written_is_a_fault_of_its_own() {
    let node = Node::with_folder();
    let Some(agent) = in_own_mounts(&node, "mount -t tmpfs -o ro,mode=755 none root") else { return };
    let faulty = |status: &Value| status["fault"]["reason"] == "RootNotWritable";
    let status = agent.status("the root is not writable", faulty).await;
    assert!(status["fault"]["message"].as_str().unwrap().contains("Read-only file system"), "{status}");
}

/// As in a pod whose manifest mounts another folder than the configuration names: the container's own is read-only.
#[tokio::test]
async fn a_root_of_the_configuration_that_is_not_there_and_cannot_be_made_is_never_ready() {
    let node = Node::with_folder();
    let config = directory_config(&node.path("externals"));
    // Nobody can make a folder there.
    node.configure(&format!("hostRoot: /proc/headstart/cache\n{config}"));
    let mut command = run_without_root();
    command.arg("--config").arg(node.path("config.yaml"));
    let agent = Agent::spawn(command);
    let faulty = |status: &Value| status["fault"]["reason"] == "RootNotWritable";
    let status = agent.status("it cannot make its root", faulty).await;
    assert!(status["fault"]["message"].as_str().unwrap().contains("/proc/headstart/cache"), "{status}");
    assert_eq!(status["ready"], false);
    assert_eq!(agent.get("/readyz").await.unwrap().0, 503);
}

#[tokio::test]
async fn a_full_disk_is_a_fault_of_its_own_and_passes() {
    let node = Node::new("");
    tree::write(&node.path("externals"), &NODE16);
    tree::write_file(&node.path("externals/node16/LICENSE"), &vec![b'x'; 3 << 20], 0o644);
    let config = directory_config(&node.path("externals")).replace("limits: {", "limits: {reserveBytes: 0, ");
    node.configure(&config);
    let Some(agent) = in_own_mounts(&node, "mount -t tmpfs -o size=2m,mode=755 none root") else { return };
    assert_eq!(agent.failed().await, "DiskFull");
    fs::write(node.path("externals/node16/LICENSE"), "short").unwrap();
    agent.ready().await;
}

#[tokio::test]
async fn a_file_system_without_execution_is_found_by_the_canary() {
    let node = Node::with_folder();
    let Some(agent) = in_own_mounts(&node, "mount -t tmpfs -o noexec,mode=755 none root") else { return };
    assert_eq!(agent.failed().await, "NoExec");
}

#[tokio::test]
async fn the_canary_looks_where_pods_look() {
    let node = Node::with_folder();
    fs::create_dir_all(node.path("canary")).unwrap();
    let mounts = "mount --bind root canary && mount -o remount,bind,ro,noexec canary";
    let Some(agent) =
        in_own_mounts(&node, &format!("{mounts} && set -- \"$@\" --canary-root \"$PWD/canary\""))
    else {
        return;
    };
    assert_eq!(agent.failed().await, "NoExec");
}

#[tokio::test]
async fn a_root_that_is_replaced_below_its_mount_is_reported_and_ends_the_agent() {
    let node = Node::with_folder();
    let host = node.path("host");
    // The agent may make its folders anew while they are removed.
    let remove = "until rm -rf host 2> /dev/null; do :; done; mkdir host";
    for (replace, word) in [(remove, "removed"), ("mv host other && mkdir host", "moved away")] {
        fs::create_dir_all(&host).unwrap();
        let Some(mut agent) = in_own_mounts(&node, "mount --bind host root") else { return };
        agent.ready().await;
        let done = Command::new("sh").args(["-c", replace]).current_dir(node.path("")).status().unwrap();
        assert!(done.success());
        let is_told =
            |line: &Value| line["reason"] == "RootReplaced" && line["cause"].as_str().unwrap().contains(word);
        let told = || async { agent.log().iter().any(is_told).then_some(()) };
        until(&format!("it says that the root was {word}"), told).await;
        assert_eq!(agent.ended().await.code(), Some(1), "so that it is started anew with the new root");
    }
}

/// The capabilities that the DaemonSet gives to the agent, as `setpriv` spells them.
fn deployed_capabilities() -> String {
    let manifest = fs::read_to_string(repository().join("deploy/cachesync/daemonset.yaml")).unwrap();
    let added = manifest.lines().find_map(|line| line.trim().strip_prefix("add: [")).unwrap();
    let names = added.trim_end_matches(']').split(", ").map(|name| format!(",+{}", name.to_lowercase()));
    format!("-all{}", names.collect::<String>())
}

#[tokio::test]
async fn what_somebody_else_took_over_is_repaired_with_the_rights_that_are_deployed() {
    if is_passed_over("to give up capabilities") {
        return;
    }
    let node = Node::with_folder();
    node.start().ready().await;
    let version = node.installed();
    for path in [version.clone(), version.join("tree"), version.join("tree/node16")] {
        std::os::unix::fs::chown(&path, Some(1000), Some(1000)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o555)).unwrap();
    }
    let shipped = node.command();
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", &deployed_capabilities()]);
    command.arg(shipped.get_program()).args(shipped.get_args());
    let agent = Agent::spawn(command);
    agent.status("it is repaired", |status| status["versions"][0]["repairs"] == 1).await;
    assert_eq!(fs::metadata(node.installed().join("tree")).unwrap().permissions().mode() & 0o777, 0o755);
}

#[tokio::test]
async fn a_root_that_is_replaced_is_noticed_while_something_is_installed() {
    let node = Node::with_folder();
    // Accepts and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/source.tar.gz", silent.local_addr().unwrap());
    node.configure(&config(&url, &"0".repeat(64)));
    fs::create_dir_all(node.path("host")).unwrap();
    let Some(mut agent) = in_own_mounts(&node, "mount --bind host root") else { return };
    agent.status("it installs", |status| status["versions"][0]["state"] == "installing").await;
    fs::rename(node.path("host"), node.path("other")).unwrap();
    fs::create_dir(node.path("host")).unwrap();
    assert_eq!(agent.ended().await.code(), Some(1));
    assert!(agent.log().iter().any(|line| line["reason"] == "RootReplaced"));
}

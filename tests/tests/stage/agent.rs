//! What the agent makes of what stages leave behind.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use headstart_externals::staged::StageOutcome;
use headstart_tests::agent::Agent;
use headstart_tests::tree;
use serde_json::Value;

use super::{IMAGE, Site, Spoiler, count, logged};

/// Lets the agent look at everything again a few times.
async fn some_rounds(site: &Site, agent: &Agent) {
    let config = fs::read_to_string(site.node.path("config.yaml")).unwrap();
    for _ in 0..2 {
        site.node.configure("nonsense");
        agent.status("a round", |status| status["configProblem"].is_string()).await;
        site.node.configure(&config);
        agent.status("a round", |status| status["configProblem"].is_null()).await;
    }
}

fn reason_is(reason: &'static str) -> impl Fn(&Value) -> bool {
    move |status| status["versions"][0]["fault"]["reason"] == reason
}

#[tokio::test]
async fn what_is_staged_first_is_installed_by_the_agent() {
    let site = Site::new();
    site.staged();
    assert!(site.holds_copy());
    assert_eq!(site.node.list(""), ["staged"], "nothing outside `staged` is touched");
    let status = site.node.start().ready().await;
    let StageOutcome::Staged { tree_sha256, .. } = site.record().outcome else { panic!() };
    assert_eq!(status["versions"][0]["treeSha256"], tree_sha256);
    assert_eq!(status["versions"][0]["ownTemplate"], "none");
    assert_eq!(fs::read(site.node.installed().join("tree/node16/bin/node")).unwrap(), tree::STAND_IN);
    assert!(site.holds_copy(), "the copy stays for repair");
}

#[tokio::test]
async fn the_agent_waits_for_the_stage_says_so_once_and_notices_it() {
    let site = Site::new();
    let agent = site.node.start();
    let status = agent.status("waiting", reason_is("WaitingForStage")).await;
    assert_eq!(status["versions"][0]["state"], "pending");
    assert!(status["versions"][0]["fault"]["message"].as_str().unwrap().contains(IMAGE), "{status}");
    some_rounds(&site, &agent).await;
    assert!(reason_is("WaitingForStage")(&agent.status("still waiting", |_| true).await));
    assert_eq!(count(&agent, "waiting for a stage run on this node"), 1, "{:#?}", agent.log());
    site.staged();
    agent.ready().await;
}

#[tokio::test]
async fn another_image_is_refused_and_reported_until_the_right_one_comes() {
    let site = Site::new();
    let agent = site.node.start();
    let error = site.not_staged("example.com/runner:2.305.0");
    assert!(
        error.contains("StageImageMismatch") && error.contains("2.305.0") && error.contains(IMAGE),
        "{error}"
    );
    let status = agent.status("mismatch", reason_is("StageImageMismatch")).await;
    let message = status["versions"][0]["fault"]["message"].as_str().unwrap();
    assert!(message.contains("2.305.0") && message.contains(IMAGE), "{message}");
    assert_eq!(site.node.list("versions"), [""; 0]);
    site.staged();
    agent.ready().await;
    site.not_staged("example.com/runner:2.305.0");
    assert!(site.holds_copy(), "the stage of another image spoils no sound copy");
}

#[tokio::test]
async fn an_unnamed_entry_is_refused_and_reported_with_its_reason() {
    let site = Site::new();
    let agent = site.node.start();
    tree::write(&site.node.path("home/externals"), &["node20"]);
    let error = site.not_staged(IMAGE);
    assert!(
        error.contains("UnnamedEntry") && error.contains("node20") && error.contains("`omit`"),
        "{error}"
    );
    assert!(!site.dir().tree().exists());
    let status = agent.status("refused", reason_is("UnnamedEntry")).await;
    assert!(status["versions"][0]["fault"]["message"].as_str().unwrap().contains("node20"), "{status}");
    let before = fs::metadata(site.dir().record()).unwrap().ino();
    site.not_staged(IMAGE);
    assert_eq!(
        fs::metadata(site.dir().record()).unwrap().ino(),
        before,
        "an equal refusal is not written anew"
    );
    fs::remove_dir_all(site.node.path("home/externals/node20")).unwrap();
    site.staged();
    agent.ready().await;
}

#[tokio::test]
async fn what_a_stage_refused_is_tried_again_after_another_stage_run_and_not_by_the_clock() {
    let site = Site::new();
    tree::write(&site.node.path("home/externals"), &["node20"]);
    site.not_staged(IMAGE);
    let agent = site.node.start();
    agent.status("refused", reason_is("UnnamedEntry")).await;
    some_rounds(&site, &agent).await;
    let status = agent.status("still refused", reason_is("UnnamedEntry")).await;
    assert_eq!(status["versions"][0]["state"], "failed");
    assert!(status["versions"][0]["retryInSeconds"].is_null(), "{status}");
    assert_eq!(count(&agent, "waiting for a stage run on this node"), 1, "{:#?}", agent.log());
    // The next run is refused for another reason.
    fs::remove_dir_all(site.node.path("home/externals/node20")).unwrap();
    fs::remove_file(site.node.path("home/externals/node16/bin/node")).unwrap();
    site.not_staged(IMAGE);
    agent.status("refused anew", reason_is("MissingFile")).await;
}

#[tokio::test]
async fn several_revisions_are_staged_and_installed_side_by_side() {
    let site = Site::new();
    let newer = "example.com/runner:2.305.0";
    let config = fs::read_to_string(site.node.path("config.yaml")).unwrap();
    site.node.configure(&format!(
        "{config}      - {{revision: newer, source: {{runnerImage: {{image: '{newer}'}}}}}}\n"
    ));
    let agent = site.node.start();
    let waiting = |status: &Value| {
        let versions = status["versions"].as_array().unwrap();
        versions.len() == 2 && versions.iter().all(|one| one["fault"]["reason"] == "WaitingForStage")
    };
    agent.status("both wait", waiting).await;
    site.staged();
    let one = |status: &Value| {
        let mut states: Vec<&str> =
            status["versions"].as_array().unwrap().iter().map(|one| one["state"].as_str().unwrap()).collect();
        states.sort_unstable();
        states == ["pending", "ready"]
    };
    agent.status("one waits for its own stage", one).await;
    let licence = site.node.path("home/externals/node16/LICENSE");
    fs::write(licence, "another licence\n").unwrap();
    let output = site.stage(newer).args(["--revision", "newer"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    agent.ready().await;
    assert_eq!(site.node.list("versions").len(), 2);
    let mut licences: Vec<String> = site
        .node
        .list("versions")
        .iter()
        .map(|name| site.node.root().join("versions").join(name).join("tree/node16/LICENSE"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    licences.sort();
    assert_eq!(licences, ["another licence\n", "licence\n"]);
    drop(agent);
    // Each is repaired from the copy of its own stage.
    fs::remove_dir_all(site.node.path("home")).unwrap();
    for name in site.node.list("versions") {
        let tree = site.node.root().join("versions").join(name).join("tree/node16");
        fs::write(tree.join("bin/node"), "damaged").unwrap();
    }
    let agent = site.node.start();
    agent.ready().await;
    assert_eq!(count(&agent, "repaired"), 2);
}

#[tokio::test]
async fn a_template_of_the_images_own_is_found_and_reported() {
    let variable = "ACTIONS_RUNNER_CONTAINER_HOOK_TEMPLATE";
    let line = format!("LANG=C.UTF-8\n{variable}=/home/runner/template.yaml\n");
    for (environment, file, expected) in [
        ("/home/runner/template.yaml", "LANG=C.UTF-8\n", "present"),
        ("", line.as_str(), "present"),
        ("", "LANG=C.UTF-8\n", "none"),
    ] {
        let site = Site::new();
        fs::write(site.node.path("home/.env"), file).unwrap();
        assert!(site.stage(IMAGE).env(variable, environment).status().unwrap().success());
        let agent = site.node.start();
        assert_eq!(agent.ready().await["versions"][0]["ownTemplate"], expected);
        drop(agent);
        let adopted = site.node.start().ready().await;
        assert_eq!(adopted["versions"][0]["ownTemplate"], expected, "also after a restart");
    }
}

#[tokio::test]
async fn a_damaged_version_is_repaired_from_the_copy() {
    let site = Site::new();
    site.staged();
    site.node.start().ready().await;
    fs::remove_dir_all(site.node.path("home")).unwrap();
    let damaged = site.node.installed().join("tree/node16/bin/node");
    fs::write(&damaged, "damaged").unwrap();
    let agent = site.node.start();
    agent.ready().await;
    logged(&agent, "repaired").await;
    assert_eq!(fs::read(damaged).unwrap(), tree::STAND_IN);
    drop(agent);
    fs::remove_dir_all(site.node.root().join("staged")).unwrap();
    let agent = site.node.start();
    agent.ready().await;
    // A sound version needs no copy.
    logged(&agent, "found ready").await;
}

#[tokio::test]
async fn a_damaged_version_without_a_copy_is_repaired_once_there_is_one() {
    let site = Site::new();
    site.staged();
    site.node.start().ready().await;
    fs::write(site.node.installed().join("tree/node16/bin/node"), "damaged").unwrap();
    fs::remove_dir_all(site.dir().path()).unwrap();
    let agent = site.node.start();
    // The damage is known a moment before the repair is tried.
    let is_waiting = |status: &Value| {
        let message = status["versions"][0]["fault"]["message"].as_str().unwrap_or_default();
        reason_is("CheckFailed")(status) && message.contains("WaitingForStage")
    };
    agent.status("damaged, and waiting for a copy", is_waiting).await;
    site.staged();
    agent.ready().await;
}

#[tokio::test]
async fn a_damaged_copy_is_refused_and_staged_anew() {
    let spoilers: [Spoiler; 4] = [
        |tree| fs::write(tree.join("node16/bin/node"), "#!/bin/sh\necho v6.6.6\n").unwrap(),
        |tree| fs::remove_file(tree.join("node16/LICENSE")).unwrap(),
        |tree| fs::set_permissions(tree.join("node16/bin/node"), fs::Permissions::from_mode(0o644)).unwrap(),
        |tree| fs::write(tree.with_file_name("source.json"), "{").unwrap(),
    ];
    for spoil in spoilers {
        let site = Site::new();
        site.staged();
        spoil(&site.dir().tree());
        let agent = site.node.start();
        assert_eq!(agent.failed().await, "SourceUnavailable");
        assert_eq!(site.node.list("versions"), [""; 0]);
        site.staged();
        agent.ready().await;
        assert!(site.holds_copy());
    }
}

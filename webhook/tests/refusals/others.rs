//! Runners with Docker in Docker, and runners of the older controller.

use serde_json::{Value, json};

use crate::pods::*;

pub(crate) fn cases_of_dind() -> Vec<(&'static str, Value)> {
    let init = |command: Value, args: Value| {
        let pod = with(DIND, "/spec/initContainers/0/command", command);
        changed(pod, "/spec/initContainers/0/args", args)
    };
    let copy = ["cp", "-r", "-v", "/home/runner/externals/.", "/home/runner/tmpDir/"];
    let externals = |path: &str| json!({"name": "dind-externals", "mountPath": path});
    let mut without_init = fixture(DIND);
    without_init["spec"]["initContainers"].as_array_mut().unwrap().remove(0);
    let mut unused = fixture(DIND);
    unused["spec"]["initContainers"][1]["volumeMounts"] = json!([]);
    let chosen = json!({"name": "ACTIONS_ALLOW_USE_UNSECURE_NODE_VERSION", "value": "true"});
    vec![
        ("mounted", fixture(DIND)),
        ("mounted", init(json!(copy), json!([]))),
        ("mounted", init(json!(copy[..3]), json!(copy[3..]))),
        ("mounted", init(json!(["cp", "-a", copy[3], "/home/runner/tmpDir"]), json!(null))),
        ("init-replaced", without_init),
        (
            "init-unknown",
            init(json!(["sh", "-c", "cp -r /home/runner/externals/. /home/runner/tmpDir/"]), json!([])),
        ),
        ("init-unknown", init(json!(["cp", copy[3], copy[4]]), json!([]))),
        ("init-unknown", init(json!(["cp", "-rn", copy[3], copy[4]]), json!([]))),
        ("init-unknown", init(json!(["cp", "-r", "/home/runner/externals", copy[4]]), json!([]))),
        ("init-unknown", init(json!(["cp", "-r", "/opt/externals/.", copy[4]]), json!([]))),
        ("init-unknown", init(json!(["cp", "-r", copy[3], "/elsewhere"]), json!([]))),
        ("init-unknown", init(json!(["cp", "-r", "/own/.", copy[3], copy[4]]), json!([]))),
        (
            "init-unknown",
            with(DIND, "/spec/initContainers/0/volumeMounts/-", own("/home/runner/externals/node16")),
        ),
        ("image-unknown", with(DIND, "/spec/initContainers/0/image", json!("example.com/runner:1"))),
        (
            "volume-unknown",
            with_volume(
                DIND,
                "dind-externals",
                json!({"name": "dind-externals", "hostPath": {"path": "/own"}}),
            ),
        ),
        ("volume-unknown", with_volume(DIND, "dind-externals", json!({"name": "other", "emptyDir": {}}))),
        ("volume-unknown", unused),
        ("externals-shared", with(DIND, "/spec/initContainers/1/volumeMounts/-", externals("/tools"))),
        ("externals-shared", with(DIND, FIRST_MOUNTS, externals("/home/runner/externals"))),
        ("externals-shared", with(DIND, "/spec/initContainers/1/volumeMounts/2/subPath", json!("node20"))),
        (
            "path-taken",
            with(DIND, "/spec/initContainers/1/volumeMounts/-", own("/home/runner/externals/node16")),
        ),
        ("node-chosen", with(DIND, "/spec/containers/0/env/-", chosen)),
        ("no-runner-container", with(DIND, "/spec/containers/0/name", json!("main"))),
    ]
}

pub(crate) fn cases_of_older_runners() -> Vec<(&'static str, Value)> {
    let older = |name: &str| fixture(&format!("older/{name}.json"));
    let own_mount = |path: &str| with(OLDER, FIRST_MOUNTS, own(path));
    let env = |name: &str, value: &str| {
        with(OLDER, "/spec/containers/0/env/-", json!({"name": name, "value": value}))
    };
    vec![
        ("lean", older("kubernetes")),
        ("lean", older("docker-in-runner")),
        ("lean", older("no-docker")),
        ("docker-shares-runner", older("docker-sidecar")),
        ("lean", env("RUNNER_HOME", "/runner")),
        ("start-unknown", env("RUNNER_HOME", "/home/runner")),
        ("start-unknown", env("RUNNER_ASSETS_DIR", "/assets")),
        ("start-unknown", with(OLDER, "/spec/containers/0/command", json!(["/own/start.sh"]))),
        ("start-unknown", with(OLDER, "/spec/containers/0/args", json!(["startup.sh"]))),
        ("node-chosen", env("ACTIONS_RUNNER_FORCED_INTERNAL_NODE_VERSION", "node12")),
        ("path-taken", own_mount("/runnertmp")),
        ("path-taken", own_mount("/runnertmp/externalstmp/node16")),
        (
            "name-taken",
            with(OLDER, "/spec/volumes/-", json!({"name": "headstart-externals", "emptyDir": {}})),
        ),
        ("image-unknown", with(OLDER, "/spec/containers/0/image", json!("example.com/runner:1"))),
        (
            "home-unknown",
            with_volume(OLDER, "runner", json!({"name": "runner", "hostPath": {"path": "/own"}})),
        ),
        ("home-unknown", with_volume(OLDER, "runner", json!({"name": "other", "emptyDir": {}}))),
        ("no-runner-container", json!({"metadata": {"labels": {"actions-runner": ""}}, "spec": {}})),
    ]
}

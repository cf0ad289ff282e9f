//! Pods put together from the words that the rules look for, in every combination.

use headstart_externals::config::Config;
use headstart_externals::state::PublishedState;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

/// A pod of some shape, or of none, with up to a few parts of any shape added.
pub(crate) fn generated() -> impl Strategy<Value = Value> {
    let extra = prop_oneof![
        volume().prop_map(|part| ("/spec/volumes/-", part)),
        container().prop_map(|part| ("/spec/containers/-", part)),
        container().prop_map(|part| ("/spec/initContainers/-", part)),
        mount().prop_map(|part| ("/spec/containers/0/volumeMounts/-", part)),
        mount().prop_map(|part| ("/spec/initContainers/0/volumeMounts/-", part)),
        env().prop_map(|part| ("/spec/containers/0/env/-", part)),
        affinity().prop_map(|part| ("/spec/affinity", part)),
    ];
    (select(skeletons()), prop::collection::vec(extra, 0..4)).prop_map(|(mut pod, extras)| {
        for (pointer, part) in extras {
            add(&mut pod, pointer, part);
        }
        pod
    })
}

/// Adds a part where its place is there, unless the API server would refuse it for its name or path alone.
fn add(pod: &mut Value, pointer: &str, part: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match pod.pointer_mut(parent) {
        Some(Value::Array(list)) => {
            let unique = if parent.ends_with("volumeMounts") { "mountPath" } else { "name" };
            if parent.ends_with("env") || list.iter().all(|other| other[unique] != part[unique]) {
                list.push(part);
            }
        }
        Some(Value::Object(map)) => drop(map.insert(key.to_owned(), part)),
        _ => {}
    }
}

/// The least that each shape needs.
fn skeletons() -> Vec<Value> {
    let pod = |labels: Value, volumes: Value, inits: Value, containers: Value| {
        let spec = json!({ "volumes": volumes, "initContainers": inits, "containers": containers });
        json!({ "metadata": { "labels": labels }, "spec": spec })
    };
    let container =
        |name: &str, mounts: Value| json!({ "name": name, "image": "i", "env": [], "volumeMounts": mounts });
    let with = |mut container: Value, key: &str, value: Value| {
        container[key] = value;
        container
    };
    let mount = |name: &str, path: &str| json!({ "name": name, "mountPath": path });
    let empty = |name: &str| json!({ "name": name, "emptyDir": {} });
    let ephemeral = json!({ "name": "work", "ephemeral": { "volumeClaimTemplate": {} } });
    let claim = json!({ "name": "work", "persistentVolumeClaim": { "claimName": "c" } });
    let hooks = json!([{ "name": "ACTIONS_RUNNER_CONTAINER_HOOKS", "value": "/home/runner/k8s/index.js" }]);
    let work = json!([mount("work", "/home/runner/_work")]);
    let copied = json!([{ "name": "work", "mountPath": "/__e", "subPath": "externals" }]);
    let copy = json!(["cp", "-r", "/home/runner/externals/.", "/home/runner/tmpDir/"]);
    let script = json!(["sh", "-c", "mkdir -p /mnt/work && mv /home/runner/externals/* /mnt/externals"]);
    let scale_set = json!({ "actions-ephemeral-runner": "True" });
    let legacy = with(container("runner", work), "env", hooks);
    let init = |name: &str, path: &str, volume: &str, command: Value| {
        json!([with(container(name, json!([mount(volume, path)])), "command", command)])
    };
    vec![
        pod(scale_set.clone(), json!([ephemeral]), json!([]), json!([legacy])),
        pod(scale_set.clone(), json!([claim]), json!([]), json!([legacy])),
        pod(
            scale_set,
            json!([empty("dind-externals")]),
            init("init-dind-externals", "/home/runner/tmpDir", "dind-externals", copy),
            json!([
                container("runner", json!([])),
                container("dind", json!([mount("dind-externals", "/home/runner/externals")])),
            ]),
        ),
        pod(
            json!({ "actions-runner": "" }),
            json!([empty("runner")]),
            json!([]),
            json!([container("runner", json!([mount("runner", "/runner")]))]),
        ),
        pod(
            json!({ "runner-pod": "r", "headstart.dev/version": version() }),
            json!([claim]),
            json!([]),
            json!([container("job", copied)]),
        ),
        pod(
            json!({ "runner-pod": "r" }),
            json!([empty("externals"), empty("github")]),
            init("fs-init", "/mnt/externals", "externals", script),
            json!([container("job", json!([mount("externals", "/__e"), mount("github", "/github")]))]),
        ),
        pod(json!({ "runner-pod": "r" }), json!([]), json!([]), json!([container("job", json!([]))])),
    ]
}

fn version() -> String {
    PublishedState::immediate(&Config::embedded().unwrap()).versions[0].name.to_string()
}

const VOLUMES: [&str; 8] = [
    "work",
    "externals",
    "dind-externals",
    "runner",
    "headstart-externals",
    "headstart-farm",
    "headstart-hook-template",
    "own",
];

fn volume() -> impl Strategy<Value = Value> {
    let ours = format!("/var/lib/headstart/versions/{}/tree", version());
    let source = select(vec![
        json!({ "emptyDir": {} }),
        json!({ "ephemeral": { "volumeClaimTemplate": {} } }),
        json!({ "persistentVolumeClaim": { "claimName": "c" } }),
        json!({ "hostPath": { "path": "/own", "type": "Directory" } }),
        json!({ "hostPath": { "path": ours, "type": "Directory" } }),
        json!({ "image": { "reference": "example.com/own:1" } }),
    ]);
    (select(VOLUMES.to_vec()), source).prop_map(|(name, mut volume)| {
        volume["name"] = json!(name);
        volume
    })
}

fn container() -> impl Strategy<Value = Value> {
    let name = select(vec!["runner", "job", "dind", "docker", "fs-init", "init-dind-externals", "side"]);
    let command = select(vec![
        Value::Null,
        json!(["/home/runner/run.sh"]),
        json!(["cp", "-r", "/home/runner/externals/.", "/home/runner/tmpDir/"]),
        json!(["sh", "-c", "mv /home/runner/externals/* /mnt/externals"]),
        json!(["sh", "-c", "mkdir -p /mnt/work && mv /home/runner/externals/* /mnt/externals"]),
        json!(["sh", "-c", "chown -R 1001 /home/runner"]),
    ]);
    let mounts = prop::collection::vec(mount(), 0..3);
    (name, command, mounts).prop_map(|(name, command, mut mounts)| {
        mounts.dedup_by_key(|mount| mount["mountPath"].clone());
        let mut container = json!({ "name": name, "image": "i", "volumeMounts": mounts, "env": [] });
        if !command.is_null() {
            container["command"] = command;
        }
        container
    })
}

fn mount() -> impl Strategy<Value = Value> {
    let path = select(vec![
        "/__e",
        "/__w",
        "/home/runner/_work",
        "/home/runner/externals",
        "/home/runner/tmpDir",
        "/mnt/externals",
        "/runner",
        "/runnertmp",
        "/runner/_work",
        "/opt/headstart/externals",
        "/opt/headstart",
        "/x",
    ]);
    let part = select(vec![
        None,
        Some(("subPath", json!("externals"))),
        Some(("mountPropagation", json!("HostToContainer"))),
        Some(("readOnly", json!(true))),
    ]);
    (select(VOLUMES.to_vec()), path, part).prop_map(|(name, path, part)| {
        let mut mount = json!({ "name": name, "mountPath": path });
        if let Some((key, value)) = part {
            mount[key] = value;
        }
        mount
    })
}

fn env() -> impl Strategy<Value = Value> {
    let entry = select(vec![
        ("ACTIONS_RUNNER_CONTAINER_HOOKS", "/home/runner/k8s/index.js"),
        ("ACTIONS_RUNNER_CONTAINER_HOOKS", "/home/runner/k8s-novolume/index.js"),
        ("ACTIONS_RUNNER_CONTAINER_HOOK_TEMPLATE", "/own.yaml"),
        ("ACTIONS_RUNNER_CLAIM_NAME", "c"),
        ("RUNNER_HOME", "/elsewhere"),
        ("X", "y"),
    ]);
    entry.prop_map(|(name, value)| json!({ "name": name, "value": value }))
}

fn affinity() -> impl Strategy<Value = Value> {
    let host = json!({ "key": "kubernetes.io/hostname", "operator": "In", "values": ["n"] });
    let zone = json!({ "key": "zone", "operator": "In", "values": ["z"] });
    let terms = |terms: Value| json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } } });
    select(vec![
        Value::Null,
        json!({}),
        json!({ "podAntiAffinity": {} }),
        terms(json!([])),
        terms(json!([{}])),
        terms(json!([{ "matchExpressions": [{ "key": "zone", "operator": "NotIn", "values": ["z"] }] }])),
        terms(json!([{ "matchExpressions": [host] }, { "matchExpressions": [zone] }])),
    ])
}

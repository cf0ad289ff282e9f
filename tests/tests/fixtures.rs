//! `headstart explain` over every recorded body, held against the shape that the fixtures' own README names.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::process::Command;

use headstart_tests::fixtures;
use headstart_tests::programs::program;
use serde_json::{Value, json};

/// Every line of `headstart explain --any-image -o json` over `inputs`, by input.
fn explain(inputs: &[&str], flags: &[&str]) -> BTreeMap<String, Value> {
    let output = Command::new(program("headstart"))
        .args(["explain", "--any-image", "-o", "json"])
        .args(flags)
        .args(inputs)
        .current_dir(fixtures::folder())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| (line["input"].as_str().unwrap().to_owned(), line)).collect()
}

/// By `<tag>/<case>`, the shape that the README's tables name.
fn shapes() -> BTreeMap<String, String> {
    let readme = std::fs::read_to_string(fixtures::folder().join("hooks/README.md")).unwrap();
    let mut tag = String::new();
    let mut shapes = BTreeMap::new();
    for line in readme.lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            tag = heading.to_owned();
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let [_, case, shape, ..] = cells.as_slice()
            && case.starts_with('`')
            && !tag.is_empty()
        {
            shapes.insert(format!("{tag}/{}", case.trim_matches('`')), (*shape).to_owned());
        }
    }
    shapes
}

/// The object that a decision is made over: the pod itself, or a Job's pod template.
fn pod_of(fixture: &Value) -> Value {
    if fixture["kind"] != "Job" {
        return fixture.clone();
    }
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod"});
    for (key, value) in fixture["spec"]["template"].as_object().unwrap() {
        pod[key] = value.clone();
    }
    pod
}

/// Takes out what every rewritten pod gets, so that what is left can be compared with what a rule says.
fn without_common_edits(mut pod: Value, before: &Value, version: &Value) -> Value {
    let metadata = pod["metadata"].as_object_mut().unwrap();
    assert_eq!(
        metadata["labels"].as_object_mut().unwrap().remove("headstart.dev/version").as_ref(),
        Some(version)
    );
    let annotations = metadata["annotations"].as_object_mut().unwrap();
    annotations.remove("headstart.dev/decision").expect("a decision annotation");
    if before["metadata"]["annotations"].is_null() {
        metadata.remove("annotations");
    }
    let spec = pod["spec"].as_object_mut().unwrap();
    let healthy = json!({"key": "headstart.dev/cache", "operator": "NotIn", "values": ["unserviceable"]});
    if before["spec"]["nodeName"].is_null() {
        let terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            ["nodeSelectorTerms"]
            .as_array_mut()
            .unwrap();
        for term in terms.iter_mut().filter(|term| !term.to_string().contains("kubernetes.io/hostname")) {
            let expressions = term["matchExpressions"].as_array_mut().unwrap();
            assert_eq!(expressions.pop(), Some(healthy.clone()));
        }
        if before["spec"]["affinity"].is_null() {
            spec.remove("affinity");
        }
    }
    pod
}

fn host_path(name: &str, version: &Value) -> Value {
    let path = format!("/var/lib/headstart/versions/{}/tree", version.as_str().unwrap());
    json!({"name": name, "hostPath": {"path": path, "type": "Directory"}})
}

/// Legacy job pods: the one mount at `/__e` shows the tree, everything else stays.
fn expect_legacy(before: &Value, version: &Value) -> Value {
    let mut pod = before.clone();
    let mount = json!({"name": "headstart-externals", "mountPath": "/__e", "readOnly": true, "recursiveReadOnly": "IfPossible"});
    let mounts = pod["spec"]["containers"][0]["volumeMounts"].as_array_mut().unwrap();
    *mounts.iter_mut().find(|mount| mount["mountPath"] == "/__e").unwrap() = mount;
    pod["spec"]["volumes"].as_array_mut().unwrap().push(host_path("headstart-externals", version));
    pod
}

/// fs-init job pods: the volume becomes the tree under its old name, read-only everywhere, without the move.
fn expect_current(before: &Value, version: &Value) -> Value {
    let mut pod = before.clone();
    let spec = pod["spec"].as_object_mut().unwrap();
    for volume in spec["volumes"].as_array_mut().unwrap() {
        if volume["name"] == "externals" {
            *volume = host_path("externals", version);
        }
    }
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().unwrap() {
            let mounts =
                container.get_mut("volumeMounts").and_then(Value::as_array_mut).into_iter().flatten();
            for mount in mounts.filter(|mount| mount["name"] == "externals") {
                mount["readOnly"] = json!(true);
                mount["recursiveReadOnly"] = json!("IfPossible");
            }
        }
    }
    let script = &mut spec["initContainers"][0]["command"][2];
    let kept: Vec<&str> = script
        .as_str()
        .unwrap()
        .split(" && ")
        .filter(|segment| !segment.contains(" /home/runner/externals/* "))
        .collect();
    *script = json!(if kept.is_empty() { "true".to_owned() } else { kept.join(" && ") });
    pod
}

/// Runners with legacy hooks: the tree over their externals.
fn expect_lean(before: &Value, version: &Value) -> Value {
    let mut pod = before.clone();
    let mount = json!({"name": "headstart-externals", "mountPath": "/home/runner/externals", "readOnly": true, "recursiveReadOnly": "IfPossible"});
    pod["spec"]["containers"][0]["volumeMounts"].as_array_mut().unwrap().push(mount);
    pod["spec"]["volumes"].as_array_mut().unwrap().push(host_path("headstart-externals", version));
    pod
}

/// Runners of the older controller: the tree where their start script copies externals from.
fn expect_older(before: &Value, version: &Value, path: &str) -> Value {
    let mut pod = before.clone();
    let mount = json!({"name": "headstart-externals", "mountPath": path, "readOnly": true, "recursiveReadOnly": "IfPossible"});
    pod["spec"]["containers"][0]["volumeMounts"].as_array_mut().unwrap().push(mount);
    pod["spec"]["volumes"].as_array_mut().unwrap().push(host_path("headstart-externals", version));
    pod
}

/// Runners with Docker in Docker: the volume is the tree, read-only, and nothing copies.
fn expect_dind(before: &Value, version: &Value) -> Value {
    let mut pod = before.clone();
    let spec = pod["spec"].as_object_mut().unwrap();
    for volume in spec["volumes"].as_array_mut().unwrap() {
        if volume["name"] == "dind-externals" {
            *volume = host_path("dind-externals", version);
        }
    }
    spec["initContainers"].as_array_mut().unwrap().retain(|init| init["name"] != "init-dind-externals");
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().unwrap() {
            let mounts = container.get_mut("volumeMounts").and_then(Value::as_array_mut);
            for mount in mounts.into_iter().flatten().filter(|mount| mount["name"] == "dind-externals") {
                mount["readOnly"] = json!(true);
                mount["recursiveReadOnly"] = json!("IfPossible");
            }
        }
    }
    pod
}

#[test]
fn every_recorded_hook_body_becomes_what_its_shape_says() {
    let explained = explain(&["hooks"], &[]);
    let shapes = shapes();
    let files = fixtures::list("hooks");
    assert_eq!(explained.len(), files.len());
    assert_eq!(shapes.len(), files.len(), "the README names every file");
    for file in files {
        let line = &explained[&file];
        let shape = &shapes[file.trim_start_matches("hooks/").trim_end_matches(".json")];
        let before = pod_of(&fixtures::read(&file));
        let outcome = (
            line["decision"].as_str().unwrap(),
            line["rule"].as_str().unwrap(),
            line["reason"].as_str().unwrap(),
        );
        let version = &line["version"];
        let expected = match shape.as_str() {
            "legacy job pod" => {
                assert_eq!(outcome, ("rewritten", "workflow-legacy", "mounted"), "{file}");
                expect_legacy(&before, version)
            }
            "fs-init job pod" => {
                assert_eq!(outcome, ("rewritten", "workflow-current", "mounted"), "{file}");
                expect_current(&before, version)
            }
            other => {
                let reason = match other {
                    "legacy step (Job)" => "step-legacy",
                    "tool-copy step pod" => "step-tool-copy",
                    "plain step pod" => "step-plain",
                    other => panic!("{file}: unknown shape {other}"),
                };
                assert_eq!(outcome, ("unchanged", "container-step", reason), "{file}");
                assert_eq!(line["pod"], before, "{file}");
                assert_eq!(line["patch"], json!([]), "{file}");
                continue;
            }
        };
        assert_eq!(without_common_edits(line["pod"].clone(), &before, version), expected, "{file}");
    }
}

#[test]
fn runner_pods_become_what_their_shape_says() {
    let explained = explain(&["arc"], &[]);
    for (file, reason) in [
        ("default", "no-hooks"),
        ("dind", "mounted"),
        ("dind-before-k8s-1.29", "mounted"),
        ("dind-chart-0.10.1", "mounted"),
        ("dind-chart-0.6.0", "mounted"),
        ("dind-experimental-chart", "mounted"),
        ("dind-hand-written", "mounted"),
        ("dind-rootless", "mounted"),
        ("kubernetes", "lean"),
        ("kubernetes-controller-master", "lean"),
        ("kubernetes-novolume", "hooks-current"),
    ] {
        let file = format!("arc/{file}.json");
        let (line, before) = (&explained[&file], fixtures::read(&file));
        assert_eq!(line["reason"], reason, "{file}");
        let expected = match reason {
            "lean" => expect_lean(&before, &line["version"]),
            "mounted" => expect_dind(&before, &line["version"]),
            _ => {
                assert_eq!((&line["decision"], &line["pod"]), (&json!("unchanged"), &before), "{file}");
                continue;
            }
        };
        assert_eq!(line["decision"], "rewritten", "{file}");
        assert_eq!(without_common_edits(line["pod"].clone(), &before, &line["version"]), expected, "{file}");
    }
    assert_eq!(explained.len(), fixtures::list("arc").len());
}

#[test]
fn runners_of_the_older_controller_copy_a_few_files_unless_docker_shares_them() {
    let explained = explain(&["older"], &[]);
    let moved = "/runnertmp/externalstmp";
    for (file, reason, path) in [
        // These images keep externals where they are.
        ("docker-in-runner", "lean", "/runnertmp/externals"),
        ("docker-sidecar", "docker-shares-runner", moved),
        ("kubernetes", "lean", moved),
        ("no-docker", "lean", moved),
    ] {
        let file = format!("older/{file}.json");
        let (line, before) = (&explained[&file], fixtures::read(&file));
        assert_eq!((&line["rule"], &line["reason"]), (&json!("runner-older"), &json!(reason)), "{file}");
        if reason == "lean" {
            let pod = without_common_edits(line["pod"].clone(), &before, &line["version"]);
            assert_eq!(pod, expect_older(&before, &line["version"], path), "{file}");
        } else {
            assert_eq!((&line["decision"], &line["pod"]), (&json!("unchanged"), &before), "{file}");
        }
    }
    assert_eq!(explained.len(), fixtures::list("older").len());
}

#[test]
fn the_patch_gives_the_pod_and_a_second_pass_changes_nothing() {
    let rewritten = tempfile::tempdir().unwrap();
    let mut counts = Vec::new();
    for kind in ["hostpath", "image"] {
        let mut count = 0;
        for (file, line) in explain(&["hooks", "arc", "older"], &["--mount", kind]) {
            let mut pod = pod_of(&fixtures::read(&file));
            let patch: json_patch::Patch = serde_json::from_value(line["patch"].clone()).unwrap();
            json_patch::patch(&mut pod, &patch).unwrap();
            assert_eq!(pod, line["pod"], "{file}");
            if line["decision"] == "rewritten" {
                let name = format!("{}.json", file.replace('/', "_"));
                std::fs::write(rewritten.path().join(name), pod.to_string()).unwrap();
                count += 1;
            }
        }
        let again = explain(&[rewritten.path().to_str().unwrap()], &["--mount", kind]);
        assert_eq!(again.len(), count);
        counts.push(count);
        for (file, line) in again {
            assert_eq!(
                (&line["decision"], &line["reason"]),
                (&json!("unchanged"), &json!("already-done")),
                "{file}"
            );
        }
    }
    assert!(counts[0] > 60 && counts[0] == counts[1], "both kinds rewrite the same pods: {counts:?}");
}

#[test]
fn image_volumes_are_pinned_and_never_a_host_path() {
    for (file, line) in explain(&["hooks", "arc", "older"], &["--mount", "image"]) {
        if line["decision"] == "rewritten" {
            let before = pod_of(&fixtures::read(&file)).to_string().matches("hostPath").count();
            assert_eq!(line["pod"].to_string().matches("hostPath").count(), before, "{file}");
            let volumes = line["pod"]["spec"]["volumes"].as_array().unwrap();
            let ours = volumes.iter().find(|volume| !volume["image"].is_null()).expect("an image volume");
            let digest = "0".repeat(64);
            let reference = format!("registry.example.com/headstart/externals-node16@sha256:{digest}");
            assert_eq!(
                ours["image"],
                json!({"reference": reference, "pullPolicy": "IfNotPresent"}),
                "{file}"
            );
            assert!(!line["pod"].to_string().contains("recursiveReadOnly"), "{file}");
        }
    }
}

#[test]
fn reviews_are_explained_like_their_pods() {
    let explained = explain(&["admission"], &[]);
    for (file, reason) in [
        ("workflow-legacy-v0.7.0", "mounted"),
        ("workflow-current-v0.8.1", "mounted"),
        ("step-current-HEAD", "step-plain"),
        ("step-legacy-v0.7.0", "step-legacy"),
        ("runner-kubernetes", "lean"),
        ("runner-dind", "mounted"),
        ("runner-novolume", "hooks-current"),
        ("bystander", "not-arc"),
    ] {
        assert_eq!(explained[&format!("admission/{file}.json")]["reason"], reason, "{file}");
    }
    assert_eq!(explained.len(), fixtures::list("admission").len());
}

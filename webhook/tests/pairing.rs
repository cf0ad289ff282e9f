//! Which runners are paired, which lean, which left alone; and what a paired one looks like.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;

use headstart_externals::config::{Config, OwnTemplate};
use headstart_externals::image::ImagePattern;
use headstart_externals::names::PAIRED_RUNNER;
use headstart_externals::state::{MountKind, PublishedState};
use headstart_webhook::decide::{Context, Decision, decide};
use serde_json::{Value, json};

const TEMPLATE_PATH: &str = "ACTIONS_RUNNER_CONTAINER_HOOK_TEMPLATE";

fn runner() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/arc/kubernetes.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A state whose one profile allows pairing.
fn pairing() -> PublishedState {
    let mut state = PublishedState::immediate(&Config::embedded().unwrap());
    let version = &mut state.versions[0];
    version.images = vec![ImagePattern::new("ghcr.io/actions/actions-runner:latest")];
    version.hooks.read_templates = true;
    version.hooks.own_template = OwnTemplate::None;
    state
}

fn decided(pod: &mut Value, state: &PublishedState, kind: MountKind) -> Decision {
    decide(pod, Context { namespace: "n", kinds: &[kind], state: Ok(state), assumed: None })
}

/// What a runner is like, and what is known of its image.
#[derive(Clone, Copy, Debug)]
struct Case {
    hooks_read_templates: bool,
    pod_has_template: bool,
    env_from: bool,
    work_is_ephemeral: bool,
    host_path: bool,
    profile_is_known: bool,
    image_template: OwnTemplate,
}

impl Case {
    /// Every combination.
    fn all() -> impl Iterator<Item = Self> {
        let images = [OwnTemplate::None, OwnTemplate::Present, OwnTemplate::Unknown];
        (0..64_u8).flat_map(move |bits| {
            let is = move |bit: u8| bits & (1 << bit) != 0;
            images.into_iter().map(move |image_template| Self {
                hooks_read_templates: is(0),
                pod_has_template: is(1),
                env_from: is(2),
                work_is_ephemeral: is(3),
                host_path: is(4),
                profile_is_known: is(5),
                image_template,
            })
        })
    }

    fn expected(self) -> (&'static str, Option<&'static str>) {
        let unpaired = match self {
            Self { profile_is_known: false, .. } => return ("image-unknown", None),
            Self { hooks_read_templates: false, .. } => "no-templates",
            Self { image_template: OwnTemplate::Present | OwnTemplate::Unknown, .. } => "image-template",
            Self { pod_has_template: true, .. } => "own-template",
            Self { env_from: true, .. } => "env-from",
            Self { work_is_ephemeral: false, .. } => "work-kept",
            Self { host_path: false, .. } => "volume-kind",
            _ => return ("paired", None),
        };
        ("lean", Some(unpaired))
    }

    fn found(self) -> (&'static str, Option<&'static str>) {
        let mut state = pairing();
        let version = &mut state.versions[0];
        version.hooks.read_templates = self.hooks_read_templates;
        version.hooks.own_template = self.image_template;
        if !self.profile_is_known {
            version.images = vec![ImagePattern::new("example.com/runner:1")];
        }
        let mut pod = runner();
        let container = &mut pod["spec"]["containers"][0];
        if self.pod_has_template {
            let own = json!({ "name": TEMPLATE_PATH, "value": "/own/template.yaml" });
            container["env"].as_array_mut().unwrap().push(own);
        }
        if self.env_from {
            container["envFrom"] = json!([{ "configMapRef": { "name": "settings" } }]);
        }
        if !self.work_is_ephemeral {
            pod["spec"]["volumes"][0] =
                json!({ "name": "work", "persistentVolumeClaim": { "claimName": "kept" } });
        }
        let kind = if self.host_path { MountKind::HostPath } else { MountKind::Image };
        let decision = decided(&mut pod, &state, kind);
        (decision.reason.code(), decision.unpaired.map(|why| why.code()))
    }
}

#[test]
fn a_runner_is_paired_only_where_everything_speaks_for_it() {
    let mut paired = 0;
    for case in Case::all() {
        assert_eq!(case.found(), case.expected(), "{case:?}");
        paired += usize::from(case.found().0 == "paired");
    }
    assert_eq!(paired, 1, "of 192 combinations");
}

/// What is done to a pod.
type Change = Box<dyn Fn(&mut Value)>;

#[test]
fn what_else_makes_pairing_uncertain_makes_a_runner_lean() {
    let env = |name: &'static str| {
        move |pod: &mut Value| {
            let entry = json!({ "name": name, "value": "x" });
            pod["spec"]["containers"][0]["env"].as_array_mut().unwrap().push(entry);
        }
    };
    let mount = |path: &'static str| {
        move |pod: &mut Value| {
            let entry = json!({ "name": "own", "mountPath": path });
            pod["spec"]["containers"][0]["volumeMounts"].as_array_mut().unwrap().push(entry);
        }
    };
    let foreign = |pod: &mut Value| {
        pod["metadata"]["annotations"]["headstart.dev/hook-template"] = json!("{}");
    };
    let claim = |key: &'static str, value: Value| {
        move |pod: &mut Value| {
            pod["spec"]["volumes"][0]["ephemeral"]["volumeClaimTemplate"]["spec"][key] = value.clone();
        }
    };
    let filled = |pod: &mut Value| {
        let mounts = json!([{ "name": "work", "mountPath": "/work" }]);
        pod["spec"]["initContainers"] =
            json!([{ "name": "warm", "image": "warm:1", "volumeMounts": mounts }]);
    };
    let snapshot = json!({ "kind": "VolumeSnapshot", "name": "warm", "apiGroup": "snapshot.storage.k8s.io" });
    let cases: [(&str, Change); 10] = [
        ("work-kept", Box::new(claim("dataSource", snapshot.clone()))),
        ("work-kept", Box::new(claim("dataSourceRef", snapshot))),
        ("work-kept", Box::new(claim("volumeName", json!("one")))),
        ("work-kept", Box::new(filled)),
        ("place", Box::new(mount("/opt/headstart/hook"))),
        ("work-kept", Box::new(env("ACTIONS_RUNNER_CLAIM_NAME"))),
        ("scheduler", Box::new(env("ACTIONS_RUNNER_USE_KUBE_SCHEDULER"))),
        ("own-template", Box::new(foreign)),
        ("place", Box::new(mount("/opt/headstart/externals/node16"))),
        ("place", Box::new(mount("/opt"))),
    ];
    for (expected, change) in cases {
        let mut pod = runner();
        change(&mut pod);
        let decision = decided(&mut pod, &pairing(), MountKind::HostPath);
        let found = (decision.reason.code(), decision.unpaired.map(|why| why.code()));
        assert_eq!(found, ("lean", Some(expected)));
        assert_eq!(pod["spec"]["volumes"].as_array().unwrap().len(), 2, "the tree alone: {pod}");
    }
}

#[test]
fn a_paired_runner_carries_all_that_its_workflow_pods_need() {
    let state = pairing();
    let version = state.versions[0].name.as_str();
    let mut pod = runner();
    let decision = decided(&mut pod, &state, MountKind::HostPath);
    assert_eq!(decision.reason.code(), "paired");

    let folder = |name: &str, what: &str| {
        let path = format!("/var/lib/headstart/versions/{version}/{what}");
        json!({ "name": name, "hostPath": { "path": path, "type": "Directory" } })
    };
    let mount = |name: &str, path: &str| json!({ "name": name, "mountPath": path, "readOnly": true, "recursiveReadOnly": "IfPossible" });
    let field = json!({ "fieldPath": "metadata.annotations['headstart.dev/hook-template']" });
    let template_volume = json!({
        "name": "headstart-hook-template",
        "downwardAPI": { "items": [{ "path": "template.json", "fieldRef": field }] },
    });
    let mut expected = runner();
    let spec = &mut expected["spec"];
    spec["volumes"].as_array_mut().unwrap().extend([
        folder("headstart-externals", "tree"),
        folder("headstart-farm", "farm"),
        template_volume,
    ]);
    let container = &mut spec["containers"][0];
    container["volumeMounts"].as_array_mut().unwrap().extend([
        mount("headstart-externals", "/opt/headstart/externals"),
        mount("headstart-farm", "/home/runner/externals"),
        json!({ "name": "headstart-hook-template", "mountPath": "/opt/headstart/hook", "readOnly": true }),
    ]);
    let named = json!({ "name": TEMPLATE_PATH, "value": "/opt/headstart/hook/template.json" });
    container["env"].as_array_mut().unwrap().push(named);
    for part in ["volumes", "containers"] {
        assert_eq!(pod["spec"][part], expected["spec"][part], "{part}");
    }

    let template = pod["metadata"]["annotations"]["headstart.dev/hook-template"].as_str().unwrap();
    let template: Value = serde_json::from_str(template).unwrap();
    let job = json!([mount("headstart-externals", "/opt/headstart/externals")]);
    assert_eq!(
        template,
        json!({
            "metadata": { "labels": { "headstart.dev/version": version } },
            "spec": {
                "volumes": [folder("headstart-externals", "tree")],
                "containers": [{ "name": "$job", "volumeMounts": job }],
            },
        })
    );
    assert_eq!(pod["metadata"]["labels"]["headstart.dev/version"], version);
    // The controller finds paired runners by it.
    assert_eq!(pod["metadata"]["annotations"]["headstart.dev/decision"], PAIRED_RUNNER);

    let done = pod.clone();
    assert_eq!(decided(&mut pod, &state, MountKind::HostPath).reason.code(), "already-done");
    assert_eq!(pod, done);
}

/// Another webhook adds something after us, and ours is called again.
#[test]
fn a_paired_runner_is_made_lean_if_what_comes_later_stands_against_pairing() {
    let named = |name: &str, value: &str| json!({ "name": name, "value": value });
    for (entry, first, why) in [
        (named(TEMPLATE_PATH, "/own/template.yaml"), false, "own-template"),
        (named(TEMPLATE_PATH, "/own/template.yaml"), true, "own-template"),
        (named("ACTIONS_RUNNER_CLAIM_NAME", "kept"), false, "work-kept"),
        (named("ACTIONS_RUNNER_USE_KUBE_SCHEDULER", "true"), false, "scheduler"),
    ] {
        let state = pairing();
        let mut pod = runner();
        decided(&mut pod, &state, MountKind::HostPath);
        let env = pod["spec"]["containers"][0]["env"].as_array_mut().unwrap();
        env.insert(if first { 0 } else { env.len() }, entry.clone());

        let decision = decided(&mut pod, &state, MountKind::HostPath);
        let found = (decision.reason.code(), decision.unpaired.map(|why| why.code()));
        assert_eq!(found, ("lean", Some(why)));
        assert_eq!(pod["metadata"]["annotations"]["headstart.dev/decision"], "runner-legacy/lean");
        let volumes = pod["spec"]["volumes"].as_array().unwrap();
        let farm = volumes.iter().find(|volume| volume["name"] == "headstart-farm").unwrap();
        assert!(farm["hostPath"]["path"].as_str().unwrap().ends_with("/tree"), "{farm}");
        let env = pod["spec"]["containers"][0]["env"].as_array().unwrap();
        let templates: Vec<&Value> = env.iter().filter(|entry| entry["name"] == TEMPLATE_PATH).collect();
        assert!(templates.iter().all(|entry| entry["value"] == "/own/template.yaml"), "{templates:?}");
        assert!(env.contains(&entry));

        let done = pod.clone();
        assert_eq!(decided(&mut pod, &state, MountKind::HostPath).reason.code(), "already-done");
        assert_eq!(pod, done);
    }
}

/// The pod that a hook makes from its own body and the runner's template: volumes, mounts of `$job` and labels are
/// appended.
fn merged(mut body: Value, template: &Value) -> Value {
    let append = |to: &mut Value, more: &Value| {
        to.as_array_mut().unwrap().extend(more.as_array().unwrap().iter().cloned());
    };
    append(&mut body["spec"]["volumes"], &template["spec"]["volumes"]);
    append(
        &mut body["spec"]["containers"][0]["volumeMounts"],
        &template["spec"]["containers"][0]["volumeMounts"],
    );
    for (key, value) in template["metadata"]["labels"].as_object().unwrap() {
        body["metadata"]["labels"][key] = value.clone();
    }
    body
}

#[test]
fn the_workflow_pod_of_a_paired_runner_is_completed_with_its_own_version() {
    let mut state = pairing();
    let mut pod = runner();
    decided(&mut pod, &state, MountKind::HostPath);
    let template = pod["metadata"]["annotations"]["headstart.dev/hook-template"].as_str().unwrap();
    let template: Value = serde_json::from_str(template).unwrap();
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/hooks/v0.7.0/prepare-plain.json");
    let body: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let posted = merged(body, &template);

    // A newer version is offered meanwhile.
    let old = state.versions[0].name.clone();
    state.versions[0].phase = headstart_externals::state::Phase::Retiring;
    let mut workflow = posted.clone();
    let decision = decided(&mut workflow, &state, MountKind::HostPath);
    assert_eq!((decision.reason.code(), decision.version.as_deref()), ("completed", Some(old.as_str())));
    assert_eq!(workflow["metadata"]["annotations"]["headstart.dev/decision"], "workflow-legacy/completed");
    let mounts = workflow["spec"]["containers"][0]["volumeMounts"].as_array().unwrap();
    let at = |path: &str| mounts.iter().find(|mount| mount["mountPath"] == path).unwrap();
    assert_eq!(at("/__e")["name"], "headstart-externals", "the links on the work volume are not needed");
    assert_eq!(at("/opt/headstart/externals")["readOnly"], true);
    assert_eq!(workflow["spec"]["volumes"], posted["spec"]["volumes"]);
}

//! What stages find in images: one that brings a hook template of its own is never paired, whatever the configuration says.

use headstart_externals::staged::TemplateFinding;
use headstart_tests::bed::headstart::{self, NAMESPACE};
use headstart_tests::bed::images::TestImage;
use headstart_tests::bed::{Cluster, TestNamespace, Turn};
use headstart_tests::jobs::{self, Storage, runners};
use headstart_tests::node_cache::NodeCache;
use headstart_tests::wait::until;
use headstart_tests::{deploy, pods};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use super::turn;

/// The runner's image under another name, for a profile of its own.
const IMAGE: &str = "bed.test/runner:1";
const PROFILE: &str = "own-image";

/// Revisions of it: before the image brings a template, and from then on.
const PLAIN: &str = "plain";
const TEMPLATED: &str = "templated";

#[tokio::test]
async fn a_hook_template_that_a_stage_finds_ends_pairing() {
    let Some(turn) = turn().await else { return };
    let cache = NodeCache::of(&turn);
    turn.cluster.ctr(&["images", "tag", "--force", TestImage::Runner.name(), IMAGE]).unwrap();
    let namespace = turn.opted_in("templates", "hostpath", &[]).await;
    jobs::prepare(turn.cluster, &runner(&namespace), Storage::Local);
    let configured = cache.get(&["configmap", "headstart-config", "--namespace", NAMESPACE]).unwrap();

    bring_in(turn.cluster, &configured, &[PLAIN]);
    becomes(&turn, &namespace, "runner-legacy/paired").await;
    let plain = cache.offered(PROFILE).await;
    assert_eq!(cache.reported(&plain).unwrap().own_template, Some(TemplateFinding::None));
    bring_in(turn.cluster, &configured, &[PLAIN, TEMPLATED]);
    becomes(&turn, &namespace, "runner-legacy/lean").await;
    let templated = cache.offered(PROFILE).await;
    assert_eq!(cache.reported(&templated).unwrap().own_template, Some(TemplateFinding::Present));

    bring_in(turn.cluster, &configured, &[]);
    for revision in [PLAIN, TEMPLATED] {
        turn.cluster.kubectl(&["delete", "daemonset", &stage(revision), "--namespace", NAMESPACE]).unwrap();
    }
    // Nobody carries a version of the profile any more.
    let is_ours = |name: &str| name.starts_with(PROFILE);
    let none = |folder: &str| !cache.list(folder).iter().any(|name| is_ours(name));
    until("the profile is gone", || async { (none("versions") && none("staged")).then_some(()) }).await;
    let forgets = |version: &headstart_externals::state::PublishedVersion| !is_ours(version.name.as_str());
    cache.published("the profile is forgotten", |state| state.versions.iter().all(forgets)).await;
}

fn stage(revision: &str) -> String {
    format!("headstart-stage-{PROFILE}-{revision}")
}

/// Adds the profile to what was configured, with these revisions and their stages; without any, nothing is added.
fn bring_in(cluster: &Cluster, configured: &Value, revisions: &[&str]) {
    let mut config: Value =
        serde_json::from_str(configured["data"]["config.yaml"].as_str().unwrap()).unwrap();
    if !revisions.is_empty() {
        config["profiles"].as_array_mut().unwrap().push(profile(revisions));
    }
    let mut objects = deploy::configured(cluster, &config);
    objects.retain(|object| {
        let name = object["metadata"]["name"].as_str().unwrap();
        name == "headstart-config" || revisions.iter().any(|revision| name == stage(revision))
    });
    for object in objects.iter_mut().filter(|object| object["metadata"]["name"] == stage(TEMPLATED)) {
        // As the image itself would.
        object["spec"]["template"]["spec"]["initContainers"][1]["env"] =
            json!([{ "name": "ACTIONS_RUNNER_CONTAINER_HOOK_TEMPLATE", "value": "/home/runner/own.yaml" }]);
    }
    headstart::apply_all(cluster, objects).unwrap();
}

fn profile(revisions: &[&str]) -> Value {
    let source = json!({ "runnerImage": { "image": IMAGE } });
    let revision = |name: &&str| json!({ "revision": name, "source": source });
    json!({
        "name": PROFILE, "images": [IMAGE], "omit": ["node12*"],
        "entries": { "node16": ["bin/node", "LICENSE"], "node16_alpine": ["bin/node", "LICENSE"] },
        "hooks": { "legacy": ["/home/runner/k8s/index.js"], "readTemplates": true, "ownTemplate": "none" },
        "revisions": revisions.iter().map(revision).collect::<Vec<_>>(),
    })
}

fn runner(namespace: &TestNamespace<'_>) -> Value {
    let mut runner = runners::kubernetes(namespace.name(), TestImage::Runner, Storage::Local);
    runner["spec"]["containers"][0]["image"] = IMAGE.into();
    runner
}

/// Waits until that is decided over new runners.
async fn becomes(turn: &Turn<'_>, namespace: &TestNamespace<'_>, decision: &str) {
    let api: Api<Pod> = Api::namespaced(turn.client.clone(), namespace.name());
    let runner: Pod = serde_json::from_value(runner(namespace)).unwrap();
    let dry_run = PostParams { dry_run: true, field_manager: None };
    until(&format!("runners are {decision}"), || async {
        let made = serde_json::to_value(api.create(&dry_run, &runner).await.ok()?).unwrap();
        (pods::decision_on(&made) == decision).then_some(())
    })
    .await;
}

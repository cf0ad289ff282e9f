//! Scale-ups through a real API server: what a listener writes is stored pinned while the controller's leader lives, and as
//! it was written in every other case. The leader is played.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::{Duration, Instant};

use headstart_externals::names::{CREATION_DISABLED, CREATION_LABEL, RUNNER_SETS_KEY};
use headstart_externals::pin::{Generation, Stored};
use headstart_externals::runner_sets::{PublishedRunnerSet, PublishedRunnerSets};
use headstart_tests::bed::control_plane::client_of;
use headstart_tests::bed::{ControlPlane, Minor};
use headstart_tests::deploy;
use headstart_tests::host_webhook::HostWebhook;
use headstart_tests::identity::{kubeconfig, kubeconfig_in};
use headstart_tests::programs::repository;
use headstart_tests::wait::until;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

const OURS: &str = "headstart-system";
const JOBS: &str = "jobs";
/// Where ARC and its listeners run.
const ARC: &str = "arc-systems";
const LEADER: &str = "played-leader";
/// A listener writes at least so often.
const HEARTBEAT: Duration = Duration::from_secs(50);

/// A cluster with one runner set, its listener, and a webhook that follows what is published.
struct Setup {
    control_plane: ControlPlane,
    folder: TempDir,
    webhook: HostWebhook,
    admin: Api<DynamicObject>,
    listener: Api<DynamicObject>,
    leader: Option<JoinHandle<()>>,
}

fn sets_in(client: Client, namespace: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("actions.github.com", "v1alpha1", "EphemeralRunnerSet");
    Api::namespaced_with(client, namespace, &ApiResource::from_gvk(&kind))
}

impl Setup {
    async fn start() -> Self {
        let control_plane = ControlPlane::start(Minor::Newest).await.unwrap();
        control_plane
            .apply(&std::fs::read_to_string(repository().join("tests/bed/arc/crds.yaml")).unwrap())
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        install_identities(&control_plane);
        let webhook =
            HostWebhook::follow(&kubeconfig(&control_plane, "headstart-webhook", None, folder.path())).await;
        webhook.register(&control_plane, &webhook.url());
        let client = control_plane.client().await.unwrap();
        let listener = client_as(&control_plane, "set-listener", folder.path()).await;
        let leader = Some(tokio::spawn(lead(client.clone())));
        let setup = Self {
            control_plane,
            folder,
            webhook,
            admin: sets_in(client, JOBS),
            listener: sets_in(listener, JOBS),
            leader,
        };
        until("the kind is served", || async { setup.make_set(JOBS, "set").ok() }).await;
        setup.publish(&["set"]).await;
        setup
    }

    /// As ARC makes a set.
    fn make_set(&self, namespace: &str, name: &str) -> anyhow::Result<()> {
        let template = json!({ "spec": { "containers": [{ "name": "runner", "image": "runner:1" }] } });
        let set = json!({
            "apiVersion": "actions.github.com/v1alpha1", "kind": "EphemeralRunnerSet",
            "metadata": { "name": name, "namespace": namespace },
            "spec": { "replicas": 0, "patchID": 0, "ephemeralRunnerSpec": template },
        });
        self.control_plane.apply(&set.to_string())
    }

    /// Publishes these sets, as the leader does.
    async fn publish(&self, names: &[&str]) {
        let mut sets = Vec::new();
        for name in names {
            let uid = self.admin.get(name).await.unwrap().uid().unwrap();
            let listener = format!("system:serviceaccount:{ARC}:set-listener");
            sets.push(PublishedRunnerSet { uid, listener });
        }
        let text = serde_json::to_string(&PublishedRunnerSets::new(LEADER, sets)).unwrap();
        let state = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "headstart-state", "namespace": OURS }, "data": { RUNNER_SETS_KEY: text },
        });
        self.control_plane.apply(&state.to_string()).unwrap();
    }

    /// What a listener asks for; the answer is what would be, or is, stored.
    async fn scale(&self, by: &Api<DynamicObject>, generation: Generation, dry_run: bool) -> Stored {
        let Generation { replicas, patch_id } = generation;
        // The client of listeners leaves zeroes out, and a merge patch says so by null.
        let replicas = if replicas == 0 { Value::Null } else { replicas.into() };
        let patch = json!({ "spec": { "patchID": patch_id, "replicas": replicas } });
        let params = PatchParams { dry_run, ..PatchParams::default() };
        stored(&by.patch("set", &params, &Patch::Merge(&patch)).await.unwrap())
    }

    /// The generation, as a raw write of it is stored.
    async fn is_raw(&self, by: &Api<DynamicObject>, generation: Generation) -> bool {
        self.scale(by, generation, false).await == raw(generation)
    }

    /// Writes scale-ups until one is stored as expected; each begins from what ARC left behind.
    async fn until_pinned(&self, is_pinned: bool) -> Duration {
        let begun = Instant::now();
        let mut patch_id = 1000;
        until(&format!("pinned: {is_pinned}"), || {
            patch_id += 1;
            let generation = Generation { replicas: 5, patch_id };
            async move {
                self.rest().await;
                let found = self.scale(&self.listener, generation, false).await;
                (found == if is_pinned { Stored::Pinned(generation) } else { raw(generation) }).then_some(())
            }
        })
        .await;
        begun.elapsed()
    }

    /// The set as it is in every idle period.
    async fn rest(&self) {
        let patch = json!({ "spec": { "patchID": 0, "replicas": 0 } });
        self.admin.patch("set", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    async fn set_status(&self, status: Value) -> DynamicObject {
        let patch = json!({ "status": status });
        self.admin.patch_status("set", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap()
    }

    fn decisions(&self) -> usize {
        self.webhook.process.log().iter().filter(|line| line["set"] == "set").count()
    }
}

fn raw(Generation { replicas, patch_id }: Generation) -> Stored {
    Stored::Raw { replicas: replicas.into(), patch_id: patch_id.into() }
}

fn stored(set: &DynamicObject) -> Stored {
    let spec = &set.data["spec"];
    Stored::read(spec["replicas"].as_i64().unwrap_or_default(), spec["patchID"].as_i64().unwrap())
}

/// The webhook's account with the shipped rights, and the listener's with those that ARC gives it.
fn install_identities(control_plane: &ControlPlane) {
    let mut objects = deploy::objects(control_plane);
    let ours = |object: &Value| {
        let (kind, name) = (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        kind == "Namespace" && name == OURS
            || ["ServiceAccount", "Role", "RoleBinding"].contains(&kind) && name == "headstart-webhook"
    };
    objects.retain(ours);
    assert_eq!(objects.len(), 4);
    objects.sort_by_key(|object| object["kind"] != "Namespace");
    for namespace in [JOBS, ARC] {
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
        objects.insert(0, namespace);
    }
    let rules = json!([{
        "apiGroups": ["actions.github.com"], "resources": ["ephemeralrunnersets"], "verbs": ["patch"],
    }]);
    let role =
        |name: &str| json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name });
    objects.push(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": "scales-sets" }, "rules": rules,
    }));
    for name in ["set-listener", "manager"] {
        objects.push(json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name, "namespace": ARC },
        }));
        objects.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": { "name": name }, "roleRef": role("scales-sets"),
            "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": ARC }],
        }));
    }
    for object in objects {
        control_plane.apply(&object.to_string()).unwrap();
    }
}

async fn client_as(control_plane: &ControlPlane, account: &str, folder: &Path) -> Client {
    client_of(&kubeconfig_in(control_plane, ARC, (account, None), folder)).await.unwrap()
}

/// Holds the leader's Lease and renews it, until the task is ended.
async fn lead(client: Client) {
    let leases: Api<Lease> = Api::namespaced(client, OURS);
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    for second in 0.. {
        ticks.tick().await;
        let time =
            format!("2026-01-01T{:02}:{:02}:{:02}.000000Z", second / 3600, second / 60 % 60, second % 60);
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "headstart-controller" },
            "spec": { "holderIdentity": LEADER, "leaseDurationSeconds": 15, "renewTime": time },
        });
        let params = PatchParams::apply("played-leader").force();
        leases.patch("headstart-controller", &params, &Patch::Apply(&lease)).await.unwrap();
    }
}

#[tokio::test]
async fn scale_ups_are_stored_pinned_exactly_where_somebody_will_act_on_them() {
    let mut setup = Setup::start().await;
    setup.until_pinned(true).await;
    the_webhook_may_read_that_lease_and_no_more(&setup);
    only_a_listeners_scale_ups_are_pinned(&setup).await;
    what_is_pinned_follows_its_listener(&setup).await;
    status_updates_are_none_of_ours(&setup).await;
    a_namespace_can_forbid_it(&setup).await;
    with_the_webhook_gone_scale_ups_are_stored_as_written(&mut setup).await;
    with_the_leader_gone_scale_ups_are_stored_as_written(&mut setup).await;
}

fn the_webhook_may_read_that_lease_and_no_more(setup: &Setup) {
    let identity = kubeconfig(&setup.control_plane, "headstart-webhook", None, setup.folder.path());
    let identity = identity.display().to_string();
    let as_webhook = |words: &[&str]| {
        setup.control_plane.kubectl(&[words, &["--namespace", OURS, "--kubeconfig", &identity]].concat())
    };
    as_webhook(&["get", "lease", "headstart-controller"]).unwrap();
    for forbidden in [
        &["get", "lease", "a-node"][..],
        &["get", "leases"],
        &["annotate", "lease", "headstart-controller", "x=y"],
        &["delete", "lease", "headstart-controller"],
        &["get", "secrets"],
        &["get", "ephemeralrunnersets"],
    ] {
        let refused = as_webhook(forbidden).unwrap_err().to_string();
        assert!(refused.contains("orbidden"), "{forbidden:?}: {refused}");
    }
}

async fn only_a_listeners_scale_ups_are_pinned(setup: &Setup) {
    setup.rest().await;
    let generation = Generation { replicas: 5, patch_id: 7 };
    let manager = client_as(&setup.control_plane, "manager", setup.folder.path()).await;
    assert!(setup.is_raw(&sets_in(manager, JOBS), generation).await, "another ServiceAccount");
    setup.rest().await;
    assert!(setup.is_raw(&setup.admin, generation).await, "an administrator");
    setup.rest().await;
    assert_eq!(setup.scale(&setup.listener, generation, true).await, raw(generation), "a dry run");
    let idle = Generation { replicas: 5, patch_id: 0 };
    assert!(setup.is_raw(&setup.listener, idle).await, "exactly so");
    // There are no five runners yet, which ARC is about to create.
    assert!(setup.is_raw(&setup.listener, Generation { replicas: 6, patch_id: 8 }).await, "ARC is at work");
    setup.set_status(json!({ "currentReplicas": 6 })).await;
    assert!(setup.is_raw(&setup.listener, Generation { replicas: 4, patch_id: 9 }).await, "no scale-up");
    let next = Generation { replicas: 8, patch_id: 10 };
    assert_eq!(setup.scale(&setup.listener, next, false).await, Stored::Pinned(next));
    for reason in ["not-the-listener", "dry-run", "owing", "no-scale-up", "pinned"] {
        assert!(setup.webhook.decided(reason) > 0, "{reason}");
    }
    assert_eq!(setup.webhook.decided("patch-id-not-positive"), 0, "these do not even reach the webhook");
}

async fn what_is_pinned_follows_its_listener(setup: &Setup) {
    for (patch_id, replicas) in [(11, 12), (12, 3), (13, 0), (14, 9)] {
        let generation = Generation { replicas, patch_id };
        assert_eq!(setup.scale(&setup.listener, generation, false).await, Stored::Pinned(generation));
        assert_eq!(stored(&setup.admin.get("set").await.unwrap()), Stored::Pinned(generation));
    }
    // Somebody else who writes the object meanwhile, such as the manager its finalizer, changes nothing of that.
    let patch = json!({ "metadata": { "finalizers": ["example.com/x"] } });
    let written = setup.admin.patch("set", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    assert_eq!(stored(&written), Stored::Pinned(Generation { replicas: 9, patch_id: 14 }));
    let patch = json!({ "metadata": { "finalizers": null } });
    setup.admin.patch("set", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    let exactly = Generation { replicas: 0, patch_id: 0 };
    assert!(setup.is_raw(&setup.listener, exactly).await, "0 is stored as written, also when pinned");
}

async fn status_updates_are_none_of_ours(setup: &Setup) {
    setup.rest().await;
    setup.set_status(json!({ "currentReplicas": 0 })).await;
    let generation = Generation { replicas: 5, patch_id: 20 };
    assert_eq!(setup.scale(&setup.listener, generation, false).await, Stored::Pinned(generation));
    let before = setup.decisions();
    let set = setup.set_status(json!({ "currentReplicas": 2, "phase": "Running" })).await;
    assert_eq!(stored(&set), Stored::Pinned(generation));
    assert_eq!(set.data["status"], json!({ "currentReplicas": 2, "phase": "Running" }));
    assert_eq!(setup.decisions(), before);
    setup.set_status(json!({ "phase": "Outdated" })).await;
    let next = Generation { replicas: 6, patch_id: 21 };
    assert!(setup.is_raw(&setup.listener, next).await, "an outdated set gets no more runners");
    setup.set_status(json!({ "currentReplicas": 0, "phase": null })).await;
}

async fn a_namespace_can_forbid_it(setup: &Setup) {
    let label = |value: &str| {
        let label = format!("{CREATION_LABEL}{value}");
        setup.control_plane.kubectl(&["label", "namespace", JOBS, &label]).unwrap();
    };
    label(&format!("={CREATION_DISABLED}"));
    setup.until_pinned(false).await;
    label("-");
    setup.until_pinned(true).await;
}

async fn with_the_webhook_gone_scale_ups_are_stored_as_written(setup: &mut Setup) {
    setup.webhook.process.kill();
    for patch_id in [30, 31] {
        setup.rest().await;
        assert!(setup.is_raw(&setup.listener, Generation { replicas: 5, patch_id }).await);
    }
    setup.webhook.start_again().await;
    setup.until_pinned(true).await;
}

async fn with_the_leader_gone_scale_ups_are_stored_as_written(setup: &mut Setup) {
    setup.leader.take().unwrap().abort();
    let waited = setup.until_pinned(false).await;
    assert!(waited < HEARTBEAT, "what it writes next is raw: {waited:?}");
    assert!(setup.webhook.decided("leader-silent") > 0);
    setup.leader = Some(tokio::spawn(lead(setup.control_plane.client().await.unwrap())));
    setup.until_pinned(true).await;
    setup.publish(&[]).await;
    setup.until_pinned(false).await;
    assert!(setup.webhook.decided("not-listed") > 0);
}

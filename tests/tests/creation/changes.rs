//! The listener, or whoever owns the scale set, wants something else in the middle of a batch.

use std::time::Duration;

use headstart_tests::arc::timeline::Milestone;
use headstart_tests::arc::{ARC_NAMESPACE, IsSetUp as _, LISTENERS, RUNNER_SETS, RUNNERS, SCALE_SETS, api};
use headstart_tests::wait::until;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::stage::{PATIENCE, SLOW, Stage};

/// What runners are made from after a change.
const NEW: &str = "bed.test/runner:2";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_runners_are_wanted() {
    let stage = Stage::new().await;
    let controller = stage.leader("one", SLOW).await;
    let it = stage.amid(10, 3).await;
    it.scenario.ask(8);
    it.settles_exactly(18).await;
    it.has_no_journal().await;
    it.ends().await;
    Stage::retire(controller).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fewer_runners_are_wanted_and_in_the_end_none() {
    let stage = Stage::new().await;
    let controller = stage.leader("one", SLOW).await;
    let it = stage.amid(20, 3).await;
    it.scenario.cancel(8);
    it.settles(12).await;
    it.scenario.cancel_waiting();
    it.settles(0).await;
    it.ends().await;
    Stage::retire(controller).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_jobs_are_cancelled() {
    let Some(stage) = Stage::in_full_depth().await else { return };
    let controller = stage.leader("one", SLOW).await;
    let it = stage.amid(20, 3).await;
    it.scenario.cancel_waiting();
    it.settles(0).await;
    it.ends().await;
    Stage::retire(controller).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_set_is_drained() {
    let stage = Stage::new().await;
    let controller = stage.leader("one", SLOW).await;
    let it = stage.amid(20, 3).await;
    // As ARC's manager does it.
    let sets = api(&stage.client, it.namespace.name(), RUNNER_SETS);
    let drained = json!({ "spec": { "patchID": 0, "replicas": null } });
    sets.patch(it.set.runner_set(), &PatchParams::default(), &Patch::Merge(&drained)).await.unwrap();
    it.settles(0).await;
    it.tells("RunnerCreationStopped").await;
    it.ends().await;
    Stage::retire(controller).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_set_is_deleted() {
    let stage = Stage::new().await;
    let controller = stage.leader("one", SLOW).await;
    let it = stage.amid(20, 3).await;
    it.ends().await;
    until("nothing of ours is left", || async {
        stage.service.with(|service, _| service.agents().next().is_none()).then_some(())
    })
    .await;
    Stage::retire(controller).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scale_set_is_changed() {
    let Some(stage) = Stage::in_full_depth().await else { return };
    let controller = stage.leader("one", SLOW).await;
    let mut it = stage.amid(20, 3).await;
    stage.service.with(|service, _| service.session_life = Duration::ZERO);
    let sets = api(&stage.client, it.namespace.name(), SCALE_SETS);
    let container = json!({ "name": "runner", "image": NEW, "command": ["/home/runner/run.sh"] });
    let other = json!({ "spec": { "template": { "spec": { "containers": [container] } } } });
    let name = sets.list(&Default::default()).await.unwrap().items.remove(0).metadata.name.unwrap();
    sets.patch(&name, &PatchParams::default(), &Patch::Merge(&other)).await.unwrap();
    // The manager takes the old listener away; a kubelet would end its program.
    let listeners = api(&stage.client, ARC_NAMESPACE, LISTENERS);
    until("the old listener goes", || async {
        let all = listeners.list(&Default::default()).await.ok()?;
        let old = |listener: &&kube::api::DynamicObject| {
            listener.data["spec"]["ephemeralRunnerSetName"] == it.set.runner_set()
                && listener.metadata.deletion_timestamp.is_none()
        };
        all.iter().find(old).is_none().then_some(())
    })
    .await;
    it.set.listener().kill();
    // The releases take idle runners of the old template away. Master waits until they are gone; somebody sees to that.
    it.tells("RunnerCreationStopped").await;
    let old = api(&stage.client, it.namespace.name(), RUNNERS);
    until("the old runners go", || async {
        old.delete_collection(&Default::default(), &Default::default()).await.unwrap();
        (it.scenario.timeline.live(Milestone::Runner) == 0).then_some(())
    })
    .await;
    it.scenario.settles(0, PATIENCE).await;
    it.set.listen_anew().await;
    // As without us: the new set gets a runner for each job, made in the new way.
    it.settles(20).await;
    let pods: Api<Pod> = Api::namespaced(stage.client.clone(), it.namespace.name());
    for pod in pods.list(&Default::default()).await.unwrap() {
        assert_eq!(pod.spec.unwrap().containers[0].image.as_deref(), Some(NEW));
    }
    it.ends().await;
    Stage::retire(controller).await;
}

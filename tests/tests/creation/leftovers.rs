//! What a crash left and no journal tells of: the sweeper finds it, and removes it with its registration.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use headstart_externals::names::RUNNER_SET_LABEL;
use headstart_tests::arc::{IsSetUp as _, RUNNER_SETS, api};
use headstart_tests::companion::metric;
use headstart_tests::wait::until;
use jiff::{Timestamp, ToSpan as _};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::stage::Stage;

fn secret(namespace: &str, name: &str, set: &str, runner_id: i64, age: jiff::Span) -> Value {
    let data = |text: &str| BASE64_STANDARD.encode(text);
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {
            "name": name, "namespace": namespace, "labels": { RUNNER_SET_LABEL: set },
            "uid": uuid_of(runner_id), "creationTimestamp": (Timestamp::now() - age).strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        },
        "data": { "runnerId": data(&runner_id.to_string()), "runnerName": data(name), "jitToken": data("x") },
    })
}

fn uuid_of(number: i64) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_secret_without_a_runner_is_removed_with_its_registration() {
    let stage = Stage::new().await;
    let it = stage.enabled().await;
    let namespace = it.namespace.name();
    let set = api(&stage.client, namespace, RUNNER_SETS).get(it.set.runner_set()).await.unwrap();
    let uid = set.metadata.uid.unwrap();
    let names = ["old", "young"].map(|age| format!("{}-runner-{age}", it.set.runner_set()));
    for (name, age) in names.iter().zip([20.minutes(), 1.minutes()]) {
        let agent = stage.service.with(|service, now| {
            let set = service.sets().map(|set| set.id).max().unwrap();
            service.register(set, name, now).unwrap()
        });
        let object = secret(namespace, name, &uid, agent.id, age);
        stage.control_plane.store(&format!("secrets/{namespace}/{name}"), &object).await.unwrap();
    }
    let secrets: Api<Secret> = Api::namespaced(stage.client.clone(), namespace);
    let ours =
        || async { secrets.list(&ListParams::default().labels(RUNNER_SET_LABEL)).await.unwrap().items.len() };
    until("both Secrets are there", || async { (ours().await == 2).then_some(()) }).await;
    let controller = stage.leader("one", &[]).await;
    until("the old one is swept", || async { (ours().await == 1).then_some(()) }).await;
    assert!(secrets.get_opt(&names[1]).await.unwrap().is_some(), "it may be a runner's that comes");
    let there = names.each_ref().map(|name| stage.service.with(|service, _| service.agent(name).is_some()));
    assert_eq!(there, [false, true]);
    assert_eq!(metric(&controller, "headstart_creation_swept_total").await, Some(1.0));
    secrets.delete(&names[1], &DeleteParams::default()).await.unwrap();
    stage.service.with(|service, _| {
        let id = service.agent(&names[1]).unwrap().id;
        service.forget(id);
    });
    it.ends().await;
    Stage::retire(controller).await;
}

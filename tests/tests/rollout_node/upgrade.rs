//! Upgrade, roll-back and upgrade again while jobs come and go: none waits, none breaks, and what a pod uses stays.

use std::time::Duration;

use headstart_externals::state::Phase::{Offered, Retired, Retiring};
use headstart_tests::bed::boxed::NODE;
use headstart_tests::bed::command::say;
use headstart_tests::pods::{Pods, version_of};
use headstart_tests::wait::until;
use serde_json::Value;

use super::chronicle::Chronicle;
use super::stream::{Lane, Ran, Stream};
use super::world::{More, NODE_PROGRAM, World, on_node};

/// How long a webhook may give what is not offered any more: it promises a minute; with a way to the API server that
/// works, a watch tells it at once.
const LATE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn under_a_stream_of_jobs_versions_change_and_no_job_notices() {
    let Some(world) = World::staged("upgraded").await else { return };
    let (a, b) = (world.version("a"), world.version("b"));
    world.configure(&["a"], More::default()).await;
    world.phases(&[("a", Offered)]).await;
    let namespace = world.turn.opted_in("jobs", "hostpath", &[]).await;
    let pods = world.turn.pods(&namespace);
    let chronicle = Chronicle::begin(&world.turn.client);
    keep(&world, &pods, "keeps-a", a.as_str()).await;
    let stream = Stream::begin(&world, namespace.name());
    stream.gives(&a).await;

    world.configure(&["a", "b"], More::default()).await;
    world.phases(&[("a", Retiring), ("b", Offered)]).await;
    stream.gives(&b).await;
    keep(&world, &pods, "keeps-b", b.as_str()).await;
    world.configure(&["a", "b"], More { offer: Some("a"), ..More::default() }).await;
    world.phases(&[("a", Offered), ("b", Retiring)]).await;
    world.told("VersionRolledBack", &format!("{a} again, in place of {b}")).await;
    stream.gives(&a).await;
    world.configure(&["a", "b"], More::default()).await;
    world.phases(&[("a", Retiring), ("b", Offered)]).await;
    stream.gives(&b).await;

    assert!(world.on_disk().contains(&a.to_string()), "a pod uses it");
    runs_node(&pods, "keeps-a");
    pods.delete("keeps-a");
    world.phases(&[("a", Retired), ("b", Offered)]).await;
    until("its folder is gone", || async { (world.on_disk() == [b.to_string()]).then_some(()) }).await;
    runs_node(&pods, "keeps-b");
    world.configure(&["b"], More::default()).await;
    world.phases(&[("b", Offered)]).await;
    let ran = stream.end().await;

    let (offered, retiring) = (Some(Offered), Some(Retiring));
    let life = chronicle.life(&a);
    let (own, of_its_copy) = life.split_at(6.min(life.len()));
    assert_eq!(own, [offered, retiring, offered, retiring, Some(Retired), None]);
    // Its staged copy goes in the same way once the revision is taken out.
    assert!(of_its_copy.iter().all(|phase| *phase != offered), "{of_its_copy:?}");
    assert_eq!(chronicle.life(&b), [None, offered, retiring, offered]);
    chronicle.was_right();
    for ran in &ran {
        let from = ran.posted.checked_sub(LATE).unwrap();
        assert!(chronicle.was_offered(&ran.version, from, ran.stored), "{}: {ran:?}", ran.name);
    }
    nobody_waited(&world, namespace.name(), &ran);
    let _ = world.turn.cluster.kubectl(&[
        "delete",
        "daemonset",
        "--namespace=headstart-system",
        "headstart-stage-upgraded-a",
    ]);
}

/// A pod on the real node that stays.
async fn keep(world: &World, pods: &Pods<'_>, name: &str, version: &str) {
    let pod = pods.create(&on_node(world.workflow(name, pods.namespace()), NODE));
    assert_eq!(version_of(&pod), version);
    pods.runs(name).await;
    runs_node(pods, name);
}

fn runs_node(pods: &Pods<'_>, name: &str) {
    assert_eq!(pods.exec(name, &format!("{NODE_PROGRAM} -p process.version")), "v16.20.2\n", "{name}");
}

/// No pod came before its version was on the node; what that would look like is an Event of the kubelet.
fn nobody_waited(world: &World, namespace: &str, ran: &[Ran]) {
    let words =
        ["get", "events", "--namespace", namespace, "--field-selector=reason=FailedMount", "--output=json"];
    let events: Value = serde_json::from_str(&world.turn.cluster.kubectl(&words).unwrap()).unwrap();
    let messages = events["items"].as_array().unwrap().iter().map(|event| event["message"].to_string());
    let waited: Vec<String> = messages.filter(|message| message.contains("/var/lib/headstart")).collect();
    assert!(waited.is_empty(), "{waited:#?}");
    for kind in ["workflow", "dind", "legacy"] {
        let real = |ran: &&Ran| ran.lane == Lane::Real && ran.name.starts_with(kind);
        assert!(ran.iter().filter(real).count() > 1, "{kind} pods ran on the real node");
    }
    for lane in [Lane::Real, Lane::Played] {
        let mut took: Vec<Duration> = ran.iter().filter(|ran| ran.lane == lane).map(|ran| ran.took).collect();
        took.sort();
        let (count, median, slowest) = (took.len(), took[took.len() / 2], took[took.len() - 1]);
        say(&format!("{lane:?}: {count} pods, from creation to ready {median:.1?}, slowest {slowest:.1?}"));
    }
}

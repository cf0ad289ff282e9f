//! Nodes that come late, come back, or never get ready: nobody waits for them, and pods find on them what they name.

use std::time::{Duration, Instant};

use headstart_externals::fault::FaultReason;
use headstart_externals::names::{CACHE_LABEL, NODE_CONDITION};
use headstart_externals::state::Phase::{Offered, Retired, Retiring};
use headstart_tests::bed::boxed::NODE;
use headstart_tests::bed::command::say;
use headstart_tests::kwok::PLAYED;
use headstart_tests::played::OURS;
use headstart_tests::played_agents::Manner;
use headstart_tests::pods::{Pods, name, version_of};
use headstart_tests::wait::until;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};

use super::chronicle::Chronicle;
use super::world::{More, World, on_labelled, on_node};
use super::{SELECTED, played_node};

/// A startup taint.
const COLD: &str = "headstart.dev/cold";

/// The label of a node that is not there yet.
const BORN: &str = "bed.test/born";

/// How long a rollout waits for all nodes in [`nodes_that_never_get_ready_hold_up_a_rollout_for_a_while_only`].
const WAIT: Duration = Duration::from_secs(10);

fn cold<'m>() -> More<'m> {
    More { taints: &[COLD], ..More::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_were_pending_start_on_a_node_that_is_born_after_their_versions_were_replaced() {
    let Some(world) = World::archived("born", &["a", "b", "c"]).await else { return };
    world.configure(&["a"], cold()).await;
    world.phases(&[("a", Offered)]).await;
    let namespace = world.turn.opted_in("pending", "hostpath", &[]).await;
    let pods = world.turn.pods(&namespace);
    let chronicle = Chronicle::begin(&world.turn.client);
    let unborn = Away::begin(&world).await;
    unborn.wipe();

    pends(&world, &pods, "a").await;
    world.configure(&["a", "b"], cold()).await;
    world.phases(&[("a", Retiring), ("b", Offered)]).await;
    pends(&world, &pods, "b").await;
    // Too early: a pod names it.
    world.configure(&["b", "c"], cold()).await;
    world.told("RevisionTakenOutEarly", world.version("a").as_str()).await;
    world.phases(&[("a", Retiring), ("b", Retiring), ("c", Offered)]).await;
    pends(&world, &pods, "c").await;

    let born = Instant::now();
    unborn.is_born();
    for revision in ["a", "b", "c"] {
        let pod = format!("under-{revision}");
        pods.runs(&pod).await;
        world.says(&pods, &pod, revision);
        say(&format!("{pod} runs {:.1?} after its node was born", born.elapsed()));
    }
    is_ready(&world, NODE).await;
    pods.delete("under-a");
    world.phases(&[("b", Retiring), ("c", Offered)]).await;
    world.says(&pods, "under-b", "b");
    let life = [Some(Offered), Some(Retiring), Some(Retired), None];
    assert_eq!(chronicle.life(&world.version("a")), life, "taken out too early, it lives on like any other");
    chronicle.was_right();
}

/// A pod under a revision that no node takes.
async fn pends(world: &World, pods: &Pods<'_>, revision: &str) {
    let pod = world.workflow(&format!("under-{revision}"), pods.namespace());
    is_pending(world, pods, &on_labelled(pod, BORN), revision).await;
}

async fn is_pending(world: &World, pods: &Pods<'_>, pod: &Value, revision: &str) {
    let pod = pods.create(pod);
    assert_eq!(version_of(&pod), world.version(revision).as_str());
    until("the scheduler finds no node for it", || async {
        let status = pods.api.get(name(&pod)).await.ok()?.status?;
        let mut conditions = status.conditions?.into_iter();
        conditions.find(|it| it.type_ == "PodScheduled" && it.status == "False")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_back_after_long_keeps_what_its_pods_use_and_gets_what_is_new() {
    let Some(world) = World::archived("away", &["a", "b"]).await else { return };
    world.configure(&["a"], cold()).await;
    world.phases(&[("a", Offered)]).await;
    let namespace = world.turn.opted_in("away", "hostpath", &[]).await;
    let pods = world.turn.pods(&namespace);
    let chronicle = Chronicle::begin(&world.turn.client);
    let old = pods.create(&on_node(world.workflow("old", namespace.name()), NODE));
    assert_eq!(version_of(&old), world.version("a").as_str());
    pods.runs("old").await;
    let folder = format!("/var/lib/headstart/versions/{}", world.version("a"));
    let inode = || world.turn.cluster.bed().run_inside(&["stat", "--format=%i", &folder]).unwrap();
    let before = inode();

    let away = Away::begin(&world).await;
    world.configure(&["a", "b"], cold()).await;
    world.phases(&[("a", Retiring), ("b", Offered)]).await;
    is_pending(&world, &pods, &on_node(world.workflow("new", namespace.name()), NODE), "b").await;
    away.is_born();
    pods.runs("new").await;
    world.says(&pods, "new", "b");
    world.says(&pods, "old", "a");
    assert_eq!(inode(), before, "what its pods use is as it was");
    is_ready(&world, NODE).await;

    pods.delete("old");
    world.phases(&[("a", Retired), ("b", Offered)]).await;
    let last = world.version("b").to_string();
    until("the old version is gone", || async { (world.on_disk() == [last.clone()]).then_some(()) }).await;
    world.says(&pods, "new", "b");
    chronicle.was_right();
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_never_get_ready_hold_up_a_rollout_for_a_while_only() {
    let Some(world) = World::archived("held-up", &["a", "b"]).await else { return };
    let dark = Further::create(&world, "dark").await;
    let mute = Further::create(&world, "mute").await;
    mute.is_played();
    // It has what there was when its kubelet fell silent.
    world.agents.behave("dark", Manner::Working);
    world.configure(&["a"], More::default()).await;
    world.phases(&[("a", Offered)]).await;
    is_ready(&world, "dark").await;
    world.agents.behave("dark", Manner::Silent);
    world.agents.behave("played1", Manner::Failing(FaultReason::SourceUnavailable));

    let begun = Instant::now();
    let share = |percent: u32| {
        let rollout = json!({ "waitSeconds": WAIT.as_secs(), "percent": percent });
        More { rollout, ..cold() }
    };
    world.configure(&["a", "b"], share(95)).await;
    let b = world.version("b");
    world.told("RolloutWaiting", &format!("{b} is ready on 10 of 11 nodes")).await;
    let waited = begun.elapsed();
    assert!(waited >= WAIT, "its patience is over after {waited:?}");
    assert_eq!(world.own(&world.state().await.unwrap()), [(world.version("a"), Offered)]);
    world.configure(&["a", "b"], share(90)).await;
    world.phases(&[("a", Retiring), ("b", Offered)]).await;
    say(&format!(
        "offered {:.1?} after it was configured, with waitSeconds {}",
        begun.elapsed(),
        WAIT.as_secs()
    ));
    becomes(&world, "played1", ("False", "SourceUnavailable")).await;
    let label = &world.node("played1").await["metadata"]["labels"][CACHE_LABEL];
    assert!(label.is_null(), "it may still get it: {label}");
    becomes(&world, "mute", ("Unknown", "NoReport")).await;

    // A day later.
    dark.kubectl(&["taint", "node", "dark", &format!("{COLD}=:NoSchedule")]);
    dark.is_played();
    world.agents.behave("dark", Manner::Slow);
    becomes(&world, "dark", ("False", "Installing")).await;
    assert!(taints(&world.node("dark").await).contains(&COLD.to_owned()), "pods would wait there");
    let offered = world.own(&world.state().await.unwrap());
    assert!(offered.contains(&(b.clone(), Offered)), "what is offered stays so: {offered:?}");
    world.agents.behave("dark", Manner::Working);
    world.agents.behave("played1", Manner::Working);
    for node in ["dark", "played1"] {
        is_ready(&world, node).await;
    }
    world.agents.behave("dark", Manner::Silent);
}

/// Waits until a node's cache is ready, and nothing keeps pods away any more.
async fn is_ready(world: &World, node: &str) {
    becomes(world, node, ("True", "CacheReady")).await;
    until(&format!("{node} is open to pods"), || async {
        let node = world.node(node).await;
        let is_open = !taints(&node).contains(&COLD.to_owned());
        // Those whose kubelet does not speak are not Ready; that is another matter.
        (is_open || !is_kubelet_ready(&node)).then_some(())
    })
    .await;
    assert!(world.node(node).await["metadata"]["labels"][CACHE_LABEL].is_null());
}

fn is_kubelet_ready(node: &Value) -> bool {
    let mut conditions = node["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|it| it["type"] == "Ready" && it["status"] == "True")
}

fn taints(node: &Value) -> Vec<String> {
    let taints = node["spec"]["taints"].as_array().into_iter().flatten();
    taints.map(|taint| taint["key"].as_str().unwrap().to_owned()).collect()
}

/// Waits until the node's condition is so.
async fn becomes(world: &World, node: &str, (status, reason): (&str, &str)) {
    until(&format!("{node} is {status}, {reason}"), || async {
        let node = world.node(node).await;
        let mut conditions = node["status"]["conditions"].as_array()?.iter();
        let condition = conditions.find(|condition| condition["type"] == NODE_CONDITION)?;
        (condition["status"] == status && condition["reason"] == reason).then_some(())
    })
    .await;
}

/// The real node as one that is not there, for all of Headstart: it lacks the label by which agents, stages and pods choose
/// nodes. What runs on it goes on, so that the other parts of Headstart stay where they are. It is as before when dropped,
/// whatever the test came to.
struct Away<'w>(&'w World);

impl<'w> Away<'w> {
    async fn begin(world: &'w World) -> Self {
        let away = Self(world);
        away.words(&["label", "node", NODE, "--overwrite", &format!("{SELECTED}=no")]).unwrap();
        let pods: Api<Pod> = Api::namespaced(world.turn.client.clone(), OURS);
        let agent =
            ListParams::default().labels("app.kubernetes.io/name in (headstart-cachesync, headstart-stage)");
        let agent = agent.fields(&format!("spec.nodeName={NODE}"));
        until("the agent has gone", || async {
            pods.list(&agent).await.ok()?.items.is_empty().then_some(())
        })
        .await;
        away
    }

    /// Its disk is that of a new machine.
    fn wipe(&self) {
        let words = ["find", "/var/lib/headstart", "-mindepth", "1", "-delete"];
        self.0.turn.cluster.bed().run_inside(&words).unwrap();
    }

    /// It is there, with a startup taint.
    fn is_born(&self) {
        // Both at once: from a node that is not selected the taint would go.
        let born = json!({
            "metadata": { "labels": { SELECTED: "yes", BORN: "" } },
            "spec": { "taints": [{ "key": COLD, "effect": "NoSchedule" }] },
        });
        self.words(&["patch", "node", NODE, "--patch", &born.to_string()]).unwrap();
    }

    fn words(&self, words: &[&str]) -> anyhow::Result<String> {
        self.0.turn.cluster.kubectl(words)
    }
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        let _ = self.words(&[
            "label",
            "node",
            NODE,
            "--overwrite",
            &format!("{SELECTED}=yes"),
            &format!("{BORN}-"),
        ]);
        let _ = self.words(&["taint", "node", NODE, &format!("{COLD}-")]);
    }
}

/// One more node without a machine; nobody plays it before it is said. Gone when dropped.
struct Further<'w> {
    world: &'w World,
    name: &'static str,
}

impl<'w> Further<'w> {
    async fn create(world: &'w World, name: &'static str) -> Self {
        let mut node = played_node(name);
        node.metadata.labels.as_mut().unwrap().remove(PLAYED);
        let nodes: Api<Node> = Api::all(world.turn.client.clone());
        nodes.create(&PostParams::default(), &node).await.unwrap();
        Self { world, name }
    }

    /// kwok keeps it Ready from now on.
    fn is_played(&self) {
        self.kubectl(&["label", "node", self.name, &format!("{PLAYED}=")]);
    }

    fn kubectl(&self, words: &[&str]) {
        self.world.turn.cluster.kubectl(words).unwrap();
    }
}

impl Drop for Further<'_> {
    fn drop(&mut self) {
        self.world.agents.behave(self.name, Manner::Silent);
        let _ = self.world.turn.cluster.kubectl(&["delete", "node", self.name, "--wait=false"]);
    }
}

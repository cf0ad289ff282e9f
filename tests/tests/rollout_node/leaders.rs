//! Two replicas of the controller, of which the leading one is killed at any moment of many small upgrades: every one
//! comes to its end, and what pods use is never retired or deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use headstart_externals::state::Phase::{Offered, Retired, Retiring};
use headstart_tests::bed::boxed::NODE;
use headstart_tests::bed::command::say;
use headstart_tests::depth::is_full;
use headstart_tests::played::OURS;
use headstart_tests::pods::{Pods, version_of};
use headstart_tests::wait::{until, within};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;

use super::chronicle::Chronicle;
use super::world::{More, World, on_node};

/// Within so many milliseconds of a new configuration everything happens that a leader does about it.
const MOMENTS: u64 = 5000;

/// Within so many milliseconds of a publication its Events and its conditions are written.
const AFTERMATH: u64 = 300;

#[tokio::test(flavor = "multi_thread")]
async fn leaders_that_are_killed_at_any_moment_lose_nothing_that_pods_use() {
    let upgrades = if is_full() { 20 } else { 3 };
    let revisions: Vec<String> = (0..=upgrades).map(|number| format!("r{number}")).collect();
    let revisions: Vec<&str> = revisions.iter().map(String::as_str).collect();
    let Some(world) = World::archived("shaken", &revisions).await else { return };
    let seed =
        std::env::var("HEADSTART_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    say(&format!("moments by HEADSTART_SEED={seed}"));
    let mut chance = Rng::with_seed(seed);
    world.configure(&revisions[..1], More::default()).await;
    world.phases(&[(revisions[0], Offered)]).await;
    let namespace = world.turn.opted_in("shaken", "hostpath", &[]).await;
    let pods = world.turn.pods(&namespace);
    let chronicle = Chronicle::begin(&world.turn.client);
    let mut running = Running { world: &world, pods, revisions: BTreeMap::new() };
    for at in 1..=upgrades {
        running.start(revisions[at - 1]).await;
        // The older ones are taken out, too early where pods use them, and at times all of them at once.
        let from = chance.usize(at.saturating_sub(2)..=at);
        world.configure(&revisions[from..=at], More::default()).await;
        any_moment(&world, &mut chance).await;
        kill_leader(&world).await;
        if chance.bool() {
            running.end_one(&mut chance);
        }
        running.settles(revisions[at]).await;
    }
    while !running.revisions.is_empty() {
        running.end_one(&mut chance);
    }
    running.settles(revisions[upgrades]).await;
    chronicle.was_right();
}

/// Lets some time pass: any, or until something is published and then a little.
async fn any_moment(world: &World, chance: &mut Rng) {
    let generation = world.state().await.map(|state| state.generation);
    let awaits_news = chance.bool();
    let news = || async {
        let is_news = awaits_news && world.state().await.map(|state| state.generation) != generation;
        is_news.then_some(())
    };
    let news = within(Duration::from_millis(chance.u64(0..MOMENTS)), news).await;
    if news.is_some() {
        let _ = within(Duration::from_millis(chance.u64(0..AFTERMATH)), || async { None::<()> }).await;
    }
    say(if news.is_some() { "the leader dies just after it has published" } else { "the leader dies" });
}

/// As a machine that fails would end it. Another pod takes its place: one that was restarted would be restarted later each
/// time.
async fn kill_leader(world: &World) {
    let leases: Api<Lease> = Api::namespaced(world.turn.client.clone(), OURS);
    let pods: Api<Pod> = Api::namespaced(world.turn.client.clone(), OURS);
    let (name, container) = until("a replica leads", || async {
        let holder = leases.get("headstart-controller").await.ok()?.spec?.holder_identity?;
        let name = holder.rsplit_once('_')?.0.to_owned();
        let status = pods.get(&name).await.ok()?.status?.container_statuses?.into_iter().next()?;
        status.state?.running?;
        Some((name, status.container_id?.rsplit_once('/')?.1.to_owned()))
    })
    .await;
    world.turn.cluster.ctr(&["tasks", "kill", "--signal", "SIGKILL", &container]).unwrap();
    let words = ["delete", "pod", &name, "--namespace", OURS, "--force", "--grace-period=0"];
    world.turn.cluster.kubectl(&words).unwrap();
}

/// Pods on the real node, each by the revision that it was given.
struct Running<'w> {
    world: &'w World,
    pods: Pods<'w>,
    revisions: BTreeMap<String, String>,
}

impl Running<'_> {
    async fn start(&mut self, revision: &str) {
        let name = format!("under-{revision}");
        let pod = self.world.workflow(&name, self.pods.namespace());
        let pod = self.pods.create(&on_node(pod, NODE));
        assert_eq!(version_of(&pod), self.world.version(revision).as_str());
        self.pods.runs(&name).await;
        self.revisions.insert(name, revision.to_owned());
    }

    fn end_one(&mut self, chance: &mut Rng) {
        let at = chance.usize(..self.revisions.len());
        let name = self.revisions.keys().nth(at).unwrap().clone();
        self.pods.delete(&name);
        self.revisions.remove(&name);
    }

    /// Waits until the newest revision is offered, and of the others those are kept that pods use, and no others.
    async fn settles(&self, newest: &str) {
        let world = self.world;
        let used: BTreeSet<_> = self.revisions.values().map(|revision| world.version(revision)).collect();
        let newest = world.version(newest);
        let kept: BTreeSet<String> = used.iter().chain([&newest]).map(ToString::to_string).collect();
        until(&format!("{newest} is offered, and {used:?} kept"), || async {
            let published = world.own(&world.state().await?);
            let in_phase = |wanted| {
                let its = published.iter().filter(move |(_, phase)| *phase == wanted);
                its.map(|(name, _)| name.clone()).collect::<BTreeSet<_>>()
            };
            let others = published.iter().filter(|(_, phase)| ![Offered, Retiring, Retired].contains(phase));
            let is_settled = in_phase(Offered) == [newest.clone()].into()
                && in_phase(Retiring) == used
                && others.count() == 0
                && world.on_disk().into_iter().collect::<BTreeSet<_>>() == kept;
            is_settled.then_some(())
        })
        .await;
        for (name, revision) in &self.revisions {
            world.says(&self.pods, name, revision);
        }
    }
}

//! What holds in every round, whatever configuration, nodes, pods, webhooks and time do: lives of clusters made by chance.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use headstart_externals::config::Config;
use headstart_externals::fault::FaultReason;
use headstart_externals::report::VersionReport;
use headstart_externals::state::{Phase, PublishedVersion};
use headstart_externals::version::VersionName;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::forgotten::is_configured;
use super::phases::phase_of;
use super::played::{Leader, configured, node, on_node, version};
use super::{Clocks, NodeView};

/// Seconds of grace and of patience in these clusters: the least that is meant for more than tests.
const LONG: u64 = 120;

/// For how many seconds a webhook may act on what it read.
const STALE: u64 = 60;

/// What one round finds.
#[derive(Clone, Debug)]
struct Scene {
    config: Config,
    nodes: Vec<NodeView>,
    /// How much time has passed.
    seconds: u64,
    /// Whether another replica leads now.
    is_new_leader: bool,
    /// How old the state is by which a webhook gives a version to new pods.
    admission: Option<u64>,
    /// Whether all pods have ended before that.
    are_over: bool,
    /// A version that a pod names by hand.
    by_hand: Option<VersionName>,
}

/// The versions of three revisions, and one that no configuration knows.
static KNOWN: LazyLock<Vec<VersionName>> = LazyLock::new(|| {
    let leftover = "node16-0123456789ab".parse().unwrap();
    ["a", "b", "c"].map(version).into_iter().chain([leftover]).collect()
});

fn a_config() -> impl Strategy<Value = Config> {
    let revisions = subsequence(vec!["a", "b", "c"], 1..=3);
    (revisions, any::<bool>(), any::<bool>(), select(vec![1, 50, 95])).prop_map(
        |(revisions, rolls_back, paused, percent)| {
            let offer = rolls_back.then(|| revisions[0]);
            let rollout = format!(
                "rollout: {{graceSeconds: {LONG}, waitSeconds: {LONG}, paused: {paused}, percent: {percent}}}"
            );
            configured(&revisions, offer, &rollout)
        },
    )
}

fn a_report() -> impl Strategy<Value = Vec<VersionReport>> {
    use FaultReason::{DiskFull, NoSourceForArch, SourceUnavailable};
    let states = vec![
        None,
        Some(("installing", None)),
        Some(("ready", None)),
        Some(("ready", None)),
        Some(("ready", None)),
        Some(("kept", None)),
        Some(("failed", Some(SourceUnavailable))),
        Some(("failed", Some(NoSourceForArch))),
        Some(("failed", Some(DiskFull))),
        Some(("failed", Some(DiskFull))),
    ];
    let one = (select(states), select(vec!["1", "1", "1", "2"]));
    proptest::collection::vec(one, 4).prop_map(|states| {
        let held = KNOWN.iter().zip(states).filter_map(|(version, (said, tree))| {
            let (state, reason) = said?;
            let mut report = on_node(version, state, reason);
            report.tree = Some(tree.to_owned());
            Some(report)
        });
        held.collect()
    })
}

fn a_node() -> impl Strategy<Value = NodeView> {
    let often = || prop::bool::weighted(0.8);
    (a_report(), often(), often()).prop_map(|(report, ready, is_heard)| NodeView {
        ready,
        is_stale: !is_heard,
        ..node("node", report)
    })
}

fn a_scene() -> impl Strategy<Value = Scene> {
    let admission = proptest::option::of(select(vec![0, STALE / 2, STALE]));
    let by_hand = proptest::option::weighted(0.2, select(KNOWN.clone()));
    let time = (select(vec![0, 1, 30, LONG - 1, LONG]), prop::bool::weighted(0.1));
    let pods = (admission, any::<bool>(), by_hand);
    (a_config(), proptest::collection::vec(a_node(), 0..5), time, pods).prop_map(
        |(config, nodes, (seconds, is_new_leader), (admission, are_over, by_hand))| Scene {
            config,
            nodes,
            seconds,
            is_new_leader,
            admission,
            are_over,
            by_hand,
        },
    )
}

/// A cluster, as it goes from scene to scene.
struct Life {
    leader: Leader,
    clocks: Clocks,
    now: Instant,
    /// What was published since when, oldest first.
    states: Vec<(Instant, Vec<PublishedVersion>)>,
    /// Until when each version was offered.
    offered: HashMap<VersionName, Instant>,
}

impl Life {
    fn new() -> Self {
        let now = Instant::now() + Duration::from_secs(STALE);
        let (leader, clocks) = (Leader::default(), Clocks::default());
        Self { leader, clocks, now, states: Vec::new(), offered: HashMap::new() }
    }

    fn play(&mut self, scene: &Scene) -> Result<(), TestCaseError> {
        self.now += Duration::from_secs(scene.seconds);
        if scene.is_new_leader {
            self.clocks = Clocks::default();
        }
        if scene.are_over {
            self.leader.pods.clear();
        }
        self.leader.pods.extend(scene.by_hand.clone());
        if let Some(age) = scene.admission {
            self.admit(age)?;
        }
        // Until nothing changes any more, which must be soon.
        for round in 0.. {
            let before = self.leader.published.clone();
            self.round(scene);
            self.check(scene, &before)?;
            if self.leader.published == before {
                return Ok(());
            }
            prop_assert!(round < 5, "it never comes to rest: {scene:?}");
        }
        Ok(())
    }

    /// A webhook gives new pods what is offered in a state that was published a while ago.
    fn admit(&mut self, age: u64) -> Result<(), TestCaseError> {
        let read = self.now - Duration::from_secs(age);
        let Some((_, state)) = self.states.iter().rfind(|(since, _)| *since <= read) else { return Ok(()) };
        for version in state.iter().filter(|version| version.phase == Phase::Offered) {
            let phase = phase_of(&self.leader.published, &version.name);
            let is_kept = matches!(phase, Some(Phase::Offered | Phase::Retiring));
            prop_assert!(is_kept, "a pod is given {}, which is {phase:?}", version.name);
            self.leader.pods.push(version.name.clone());
        }
        Ok(())
    }

    fn round(&mut self, scene: &Scene) {
        for version in self.leader.published.iter().filter(|version| version.phase == Phase::Offered) {
            self.offered.insert(version.name.clone(), self.now);
        }
        self.leader.ages = self.clocks.read(&scene.config, &self.leader.published, self.now);
        self.leader.round(&scene.config, &scene.nodes);
        self.clocks.read(&scene.config, &self.leader.published, self.now);
        self.states.push((self.now, self.leader.published.clone()));
    }

    fn check(&self, scene: &Scene, before: &[PublishedVersion]) -> Result<(), TestCaseError> {
        let (config, after) = (&scene.config, &self.leader.published);
        let offered = after.iter().filter(|version| version.phase == Phase::Offered);
        let offered = offered.count();
        prop_assert!(offered <= 1, "one profile offers one version");
        let is_found = |old: &PublishedVersion| {
            let nodes = &scene.nodes;
            nodes.is_empty() || nodes.iter().any(|node| node.has(&old.name))
        };
        let mut found = before.iter().filter(|old| old.phase == Phase::Offered && is_found(old));
        prop_assert!(offered == 1 || found.next().is_none(), "new pods are left without: {scene:?}");
        for PublishedVersion { name, phase, .. } in after {
            match (phase, phase_of(before, name)) {
                (Phase::Offered, old) if old != Some(Phase::Offered) => {
                    offered_anew(scene, name, old, before)?;
                }
                (Phase::Retired, old) if old != Some(Phase::Retired) => {
                    prop_assert_eq!(old, Some(Phase::Retiring));
                    self.retired(config, name)?;
                }
                _ => {}
            }
        }
        for old in before.iter().filter(|old| phase_of(after, &old.name).is_none()) {
            prop_assert_eq!(old.phase, Phase::Retired, "{} is lost", &old.name);
            prop_assert!(!is_configured(config, &old.name));
            let is_held = scene.nodes.iter().any(|node| node.reported(&old.name).is_some());
            prop_assert!(!is_held, "a node holds {}", &old.name);
        }
        Ok(())
    }

    fn retired(&self, config: &Config, name: &VersionName) -> Result<(), TestCaseError> {
        prop_assert!(!self.leader.pods.contains(name), "{name} is carried");
        prop_assert!(!config.rollout.paused);
        prop_assert_ne!(name, &config.profiles[0].revisions[config.profiles[0].target()].version);
        let offered = self.offered.get(name);
        let rested = offered.map(|until| self.now.duration_since(*until).as_secs());
        prop_assert!(rested.is_none_or(|rested| rested >= LONG), "{name} was offered {rested:?} s ago");
        Ok(())
    }
}

fn offered_anew(
    Scene { config, nodes, .. }: &Scene,
    name: &VersionName,
    old: Option<Phase>,
    before: &[PublishedVersion],
) -> Result<(), TestCaseError> {
    prop_assert!(nodes.iter().any(|node| node.ready && node.is_ready_with(name)), "nobody has {name}");
    prop_assert!(!config.rollout.paused || old == Some(Phase::Retiring));
    prop_assert!(is_configured(config, name));
    let Some(replaced) = before.iter().find(|version| version.phase == Phase::Offered) else { return Ok(()) };
    let serves = |node: &&NodeView| node.ready && node.serves(&replaced.name);
    let lost = nodes.iter().filter(serves).filter(|node| node.gave_up(name)).count();
    let all = nodes.iter().filter(|node| serves(node) || (node.ready && node.is_ready_with(name))).count();
    let most = all * usize::from(100 - config.rollout.percent);
    prop_assert!(lost * 100 <= most, "{lost} of {all} nodes are lost for {name}");
    Ok(())
}

proptest! {
    #[test]
    fn no_life_of_a_cluster_takes_a_version_from_its_pods(scenes in proptest::collection::vec(a_scene(), 1..12)) {
        let mut life = Life::new();
        for scene in &scenes {
            life.play(scene)?;
        }
    }

    #[test]
    fn an_upgrade_takes_no_more_nodes_from_pods_than_it_may(
        held in proptest::collection::vec((any::<bool>(), select(vec!["ready", "ready", "failed"]), any::<bool>()), 1..12),
        (percent, waits) in (select(vec![50, 80, 95]), any::<bool>()),
    ) {
        let config = configured(&["a", "b"], None, &format!("rollout: {{percent: {percent}}}"));
        let nodes: Vec<NodeView> = held.into_iter().map(|(has_old, state, is_stale)| {
            let reason = (state == "failed").then_some(FaultReason::DiskFull);
            let old = has_old.then(|| on_node(&version("a"), "ready", None));
            let new = on_node(&version("b"), state, reason);
            NodeView { is_stale, ..node("node", old.into_iter().chain([new]).collect()) }
        }).collect();
        let mut leader = Leader::default();
        leader.round(&configured(&["a"], None, ""), &[super::played::ready(&["a"])]);
        let before = leader.published.clone();
        leader.after(&config, if waits { 3600 } else { 0 }).round(&config, &nodes);
        if phase_of(&leader.published, &version("b")) == Some(Phase::Offered) {
            let scene = Scene {
                config, nodes, seconds: 0, is_new_leader: false, admission: None, are_over: false, by_hand: None,
            };
            offered_anew(&scene, &version("b"), None, &before)?;
        }
    }
}

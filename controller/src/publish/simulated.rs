//! What holds in every round, whatever configuration, nodes, pods and time do: lives of clusters made by chance.

use std::sync::LazyLock;

use headstart_externals::config::Config;
use headstart_externals::report::VersionReport;
use headstart_externals::state::{Phase, PublishedVersion};
use headstart_externals::version::VersionName;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::NodeView;
use super::forgotten::is_configured;
use super::phases::phase_of;
use super::played::{Leader, configured, node, on_node, version};

/// Seconds of grace and of patience in these clusters.
const LONG: u64 = 10;

/// What one round finds.
#[derive(Clone, Debug)]
struct Scene {
    config: Config,
    nodes: Vec<NodeView>,
    /// Versions that unfinished pods carry.
    pods: Vec<VersionName>,
    /// How long everything has lasted.
    seconds: u64,
}

/// The versions of three revisions, and one that no configuration knows.
static KNOWN: LazyLock<Vec<VersionName>> = LazyLock::new(|| {
    let leftover = "node16-0123456789ab".parse().unwrap();
    ["a", "b", "c"].map(version).into_iter().chain([leftover]).collect()
});

fn a_config() -> impl Strategy<Value = Config> {
    let revisions = subsequence(vec!["a", "b", "c"], 1..=3);
    (revisions, any::<bool>(), any::<bool>()).prop_map(|(revisions, rolls_back, paused)| {
        let offer = rolls_back.then(|| revisions[0]);
        let rollout = format!("rollout: {{graceSeconds: {LONG}, waitSeconds: {LONG}, paused: {paused}}}");
        configured(&revisions, offer, &rollout)
    })
}

fn a_report() -> impl Strategy<Value = Vec<VersionReport>> {
    let states = vec![None, Some("installing"), Some("ready"), Some("ready"), Some("kept"), Some("failed")];
    let one = (select(states), select(vec!["1", "1", "1", "2"]));
    proptest::collection::vec(one, 4).prop_map(|states| {
        let held = KNOWN.iter().zip(states).filter_map(|(version, (state, tree))| {
            let mut report = on_node(version, state?, None);
            report.tree = Some(tree.to_owned());
            Some(report)
        });
        held.collect()
    })
}

fn a_scene() -> impl Strategy<Value = Scene> {
    let nodes = proptest::collection::vec((a_report(), any::<bool>()), 0..4).prop_map(|nodes| {
        let node = |(report, is_ready)| NodeView { ready: is_ready, ..node("node", report) };
        nodes.into_iter().map(node).collect()
    });
    (a_config(), nodes, subsequence(KNOWN.clone(), 0..=2), select(vec![0, LONG]))
        .prop_map(|(config, nodes, pods, seconds)| Scene { config, nodes, pods, seconds })
}

fn check(
    scene: &Scene,
    before: &[PublishedVersion],
    after: &[PublishedVersion],
) -> Result<(), TestCaseError> {
    let Scene { config, nodes, pods, seconds } = scene;
    let target = &config.profiles[0].revisions[config.profiles[0].target()].version;
    let offered = after.iter().filter(|version| version.phase == Phase::Offered);
    prop_assert!(offered.count() <= 1, "one profile offers one version");
    for PublishedVersion { name, phase, .. } in after {
        let old = phase_of(before, name);
        match phase {
            Phase::Offered if old != Some(Phase::Offered) => {
                prop_assert!(
                    nodes.iter().any(|node| node.ready && node.is_ready_with(name)),
                    "nobody has {name}"
                );
                prop_assert!(!config.rollout.paused || old == Some(Phase::Retiring));
                prop_assert!(is_configured(config, name));
            }
            Phase::Retired if old != Some(Phase::Retired) => {
                prop_assert_eq!(old, Some(Phase::Retiring));
                prop_assert!(!pods.contains(name), "{} is carried", name);
                prop_assert!(*seconds >= LONG && !config.rollout.paused);
                prop_assert_ne!(name, target);
            }
            _ => {}
        }
    }
    for old in before.iter().filter(|old| phase_of(after, &old.name).is_none()) {
        prop_assert_eq!(old.phase, Phase::Retired, "{} is lost", &old.name);
        prop_assert!(!is_configured(config, &old.name));
        prop_assert!(
            nodes.iter().all(|node| node.reported(&old.name).is_none()),
            "a node holds {}",
            &old.name
        );
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_life_of_a_cluster_takes_a_version_from_its_pods(scenes in proptest::collection::vec(a_scene(), 1..12)) {
        let mut leader = Leader::default();
        for scene in &scenes {
            leader.pods.clone_from(&scene.pods);
            // Until nothing changes any more, which must be soon.
            for round in 0.. {
                let before = leader.published.clone();
                leader.after(&scene.config, scene.seconds).round(&scene.config, &scene.nodes);
                check(scene, &before, &leader.published)?;
                if leader.published == before {
                    break;
                }
                prop_assert!(round < 5, "it never comes to rest: {scene:?}");
            }
        }
    }
}

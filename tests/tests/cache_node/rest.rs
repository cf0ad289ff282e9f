//! What an agent that has nothing to do takes of its node.

use std::time::Duration;

use headstart_tests::bed::command::say;
use headstart_tests::bed::headstart::NAMESPACE;
use headstart_tests::node_cache::NodeCache;
use headstart_tests::wait::within;
use kube::ResourceExt as _;

use super::turn;

/// How long it is watched.
const PERIOD: Duration = Duration::from_secs(30);

/// Most memory that it may take: far more than it should, since the programs of the bed are not optimised.
const MOST_KIB: u64 = 40 * 1024;

/// Most of a core that it may take, for the same reason.
const MOST_CPU: f64 = 0.02;

/// Ticks per second in /proc/<process>/stat, on every architecture that Linux has.
const TICKS: f64 = 100.0;

#[tokio::test]
async fn an_agent_at_rest_takes_next_to_nothing() {
    let Some(turn) = turn().await else { return };
    let cache = NodeCache::of(&turn);
    let is_at_rest = |status: &serde_json::Value| status["ready"] == true && status["scrub"].is_null();
    cache.status("the agent is at rest", is_at_rest).await;
    let agent = cache.agent().await.name_any();
    let process = cache.running(NAMESPACE, &agent, 0).await.process;
    let read = |file: &str| {
        let path = format!("/proc/{process}/{file}");
        turn.cluster.bed().run_inside(&["cat", &path]).unwrap()
    };
    let ticks = || {
        let stat = read("stat");
        // After the name of the program: state, then numbers (proc_pid_stat(5)); utime and stime are fields 14 and 15.
        let fields = stat.rsplit_once(") ").unwrap().1.split(' ').skip(11).take(2);
        fields.map(|field| field.parse::<u64>().unwrap()).sum::<u64>()
    };
    let begun = ticks();
    assert!(within(PERIOD, || async { None::<()> }).await.is_none());
    let cpu = (ticks() - begun) as f64 / TICKS / PERIOD.as_secs_f64();
    let status = read("status");
    let kib = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    let (memory, private) = (kib("VmRSS:"), kib("RssAnon:"));
    say(&format!(
        "the agent at rest, unoptimised: {memory} KiB resident, {private} of them its own, {:.2} % of a core",
        cpu * 100.0
    ));
    assert!(memory < MOST_KIB, "{memory} KiB");
    assert!(cpu < MOST_CPU, "{cpu} of a core");
}

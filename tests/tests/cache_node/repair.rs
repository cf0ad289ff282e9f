//! Damage on the node, and an agent that is killed at the worst moments: jobs do not notice.

use std::fs;
use std::path::Path;

use headstart_tests::bed::boxed::NODE;
use headstart_tests::bed::headstart::NAMESPACE;
use headstart_tests::node_cache::NodeCache;
use headstart_tests::wait::until;
use kube::ResourceExt as _;
use serde_json::json;

use super::{PROFILE, RAN, RUN_NODE, runs_node, turn, workflow};

/// A file of the tree, as the node and as pods see it.
const FILE: &str = "node16/LICENSE";
const READ: &str = "head -c 8 /__e/node16/LICENSE";

/// What is written over its beginning.
const DAMAGE: &str = "DAMAGED!";

#[tokio::test]
async fn damage_is_repaired_under_running_pods_by_an_agent_that_is_killed_meanwhile() {
    let Some(turn) = turn().await else { return };
    let cache = NodeCache::of(&turn);
    let namespace = turn.opted_in("repair", "hostpath", &[]).await;
    let pods = turn.pods(&namespace);
    let version = cache.offered(PROFILE).await;
    let mut lasting = workflow(&pods, "old");
    lasting["spec"]["restartPolicy"] = json!("Always");
    runs_node(&pods, &lasting, &version).await;
    let file = cache.path(&format!("versions/{version}/tree/{FILE}"));
    let sound = fs::read(&file).unwrap();
    let whole = async |what: &str| {
        until(what, || async { (fs::read(&file).unwrap() == sound).then_some(()) }).await;
    };

    let repairs = cache.reported(&version).unwrap().repairs;
    damage(&file);
    whole("the damage is repaired").await;
    cache.reports(&version, "repaired", |report| report.repairs > repairs).await;
    cache.event(("default", NODE), "CacheRepaired", &version).await;
    assert_eq!(cache.list("replaced").len(), 1, "{:?}", cache.list("replaced"));
    assert_eq!(pods.exec("old", READ), DAMAGE, "running pods keep what they have");
    assert_eq!(pods.exec("old", RUN_NODE), RAN);

    // In the middle of the next repair: what is there never goes missing.
    let agent = cache.agent().await.name_any();
    let before = cache.running(NAMESPACE, &agent, 0).await;
    damage(&file);
    until("a repair is under way", || async { (!cache.list("staging").is_empty()).then_some(()) }).await;
    cache.kill(before);
    whole("the next agent repairs the damage").await;
    let after = cache.running(NAMESPACE, &agent, before.restarts + 1).await;
    cache.status("the next agent is ready", |status| status["ready"] == true).await;
    assert_eq!(cache.list("staging"), [""; 0], "nothing is left of the first try");
    assert_eq!(pods.exec("old", RUN_NODE), RAN);

    // A container that is started anew mounts what lies under the name now.
    let job = cache.running(pods.namespace(), "old", 0).await;
    cache.kill(job);
    cache.running(pods.namespace(), "old", job.restarts + 1).await;
    assert_eq!(pods.exec("old", RUN_NODE), RAN);
    assert_eq!(pods.exec("old", READ).as_bytes(), &sound[..DAMAGE.len()]);

    cache.kill(after);
    assert_eq!(pods.exec("old", RUN_NODE), RAN);
    cache.running(NAMESPACE, &agent, after.restarts + 1).await;
    cache.becomes("True", "CacheReady").await;
    turn.gives(namespace.name(), Some(&version)).await;
    runs_node(&pods, &workflow(&pods, "new"), &version).await;
    assert_eq!(pods.exec("new", READ).as_bytes(), &sound[..DAMAGE.len()]);
    ["old", "new"].iter().for_each(|name| pods.delete(name));
}

/// Changes the beginning of a file in its place, and not its size.
fn damage(file: &Path) {
    use std::os::unix::fs::FileExt as _;
    let file = fs::File::options().write(true).open(file).unwrap();
    file.write_all_at(DAMAGE.as_bytes(), 0).unwrap();
}

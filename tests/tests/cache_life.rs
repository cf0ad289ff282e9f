//! The life of versions on a node: read again, damaged, repaired, retired, deleted; within a reserve and a budget.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use headstart_externals::config::Config;
use headstart_externals::report::{NodeReport, VersionReport, VersionState};
use headstart_externals::state::Phase;
use headstart_tests::agent::{Agent, Node};
use headstart_tests::programs::{program, repository};
use headstart_tests::published::Publisher;
use headstart_tests::required::is_passed_over;
use headstart_tests::tree::directory_config;
use headstart_tests::wait::until;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::Value;

const LICENSE: &str = "tree/node16/LICENSE";

/// Overwrites a file with as many other bytes, so that only its content tells.
fn corrupt(file: &Path) {
    let length = fs::metadata(file).unwrap().len();
    fs::write(file, vec![b'#'; usize::try_from(length).unwrap()]).unwrap();
}

/// The configuration of the node's folder, with one more setting.
fn config(node: &Node, more: &str) -> String {
    format!("{}\n{more}\n", directory_config(&node.path("externals")).trim_end())
}

fn repaired(status: &Value) -> bool {
    status["ready"] == true && status["versions"][0]["repairs"] == 1
}

#[tokio::test]
async fn a_foreign_write_is_noticed_at_once_and_repaired() {
    let node = Node::with_folder();
    let agent = node.start();
    let before = agent.ready().await;
    corrupt(&node.installed().join(LICENSE));
    let after = agent.status("it is repaired", repaired).await;
    assert_eq!(after["versions"][0]["treeSha256"], before["versions"][0]["treeSha256"]);
    assert!(agent.has_said("something changed in a published version; reading all of it again"));
    assert_eq!(node.list("replaced").len(), 1, "running pods may use the damaged tree, so it is kept");
    let (_, metrics) = agent.get("/metrics").await.unwrap();
    for line in
        ["headstart_cachesync_damaged_total{profile=\"node16\"} 1", "headstart_cachesync_versions_damaged 0"]
    {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn the_scrub_finds_what_no_event_told() {
    let node = Node::with_folder();
    node.start().ready().await;
    // The kernel does not tell of writes through a link outside the folders that are watched.
    let link = node.path("link");
    fs::hard_link(node.installed().join(LICENSE), &link).unwrap();
    node.configure(&config(&node, "verify: {intervalSeconds: 1}"));
    let agent = node.start();
    agent
        .status("it is read as a whole", |status| status["versions"][0]["verifiedSecondsAgo"].is_number())
        .await;
    corrupt(&link);
    agent.status("it is repaired", repaired).await;
    assert!(agent.has_said("the scrub found something; reading all of it again"));
}

#[tokio::test]
async fn a_version_that_was_adopted_is_read_as_a_whole_in_the_background() {
    let node = Node::with_folder();
    node.start().ready().await;
    corrupt(&node.installed().join(LICENSE));
    let agent = node.start();
    agent.says("found ready").await;
    agent.status("it is repaired", repaired).await;
}

#[tokio::test]
async fn a_source_that_changed_under_its_name_repairs_nothing() {
    let node = Node::with_folder();
    node.start().ready().await;
    corrupt(&node.installed().join(LICENSE));
    fs::write(node.path("externals/node16/LICENSE"), "another licence").unwrap();
    let agent = node.start();
    let failed = |status: &Value| status["versions"][0]["fault"]["reason"] == "CheckFailed";
    let message = |status: &Value| status["versions"][0]["fault"]["message"].as_str().unwrap().to_owned();
    let status =
        agent.status("it stays damaged", |s| failed(s) && message(s).contains("SourceChanged")).await;
    assert_eq!(status["versions"][0]["damaged"], true);
    assert_eq!(node.list("replaced"), [""; 0]);
}

#[tokio::test]
async fn installs_leave_the_reserve_and_keep_the_budget() {
    for (limit, reason) in [("reserveBytes: 999999999999999", "DiskFull"), ("cacheBytes: 5", "OverBudget")] {
        let node = Node::with_folder();
        let sound = directory_config(&node.path("externals"));
        node.configure(&sound.replace("limits: {", &format!("limits: {{{limit}, ")));
        let agent = node.start();
        assert_eq!(agent.failed().await, reason);
        assert_eq!(node.list("versions"), [""; 0]);
        assert_eq!(node.list("staging"), [""; 0]);
        node.configure(&sound);
        agent.ready().await;
    }
}

/// A version that nobody wants, as an older configuration left it.
fn leave_garbage(node: &Node, name: &str) {
    let version = node.root().join("versions").join(name);
    fs::create_dir_all(version.join("tree/node16/bin")).unwrap();
    fs::write(version.join("manifest.json"), "{}").unwrap();
}

#[tokio::test]
async fn a_thousand_versions_of_garbage_hold_up_nothing_and_go_when_they_are_retired() {
    let cluster = Publisher::start().await;
    let node = Node::with_folder();
    let names: Vec<String> = (0..1000).map(|n| format!("old-{n:012x}")).collect();
    names.iter().for_each(|name| leave_garbage(&node, name));
    let config = config(&node, "rollout: {keepSeconds: 1}");
    node.configure(&config);
    let agent = Agent::spawn(cluster.command(&node, &program("headstart-cachesync")));
    agent.ready().await;
    let is_ready =
        |report: &NodeReport| report.version_count == 1001 && report.versions[0].state == VersionState::Ready;
    let report = until("the report counts them", || async { cluster.report().filter(is_ready) }).await;
    assert!(report.versions[0].wanted, "what is wanted comes first");
    let useless = |version: &VersionReport| !version.wanted && version.state == VersionState::Failed;
    assert!(report.versions[1..].iter().all(useless), "no pod finds anything in them");
    assert_eq!(node.list("versions").len(), 1001, "nothing goes without a word");
    // As the controller does it: never all at once.
    for (at, some) in names.chunks(250).enumerate() {
        let retired: Vec<(&str, Phase)> = some.iter().map(|name| (name.as_str(), Phase::Retired)).collect();
        cluster.publish(&config, &retired);
        let left = 1001 - 250 * (at + 1);
        until("they have gone", || async { (node.list("versions").len() == left).then_some(()) }).await;
    }
    until("nothing is on its way out", || async { node.list("trash").is_empty().then_some(()) }).await;
    assert_eq!(agent.ready().await["versions"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_retired_version_goes_with_all_that_belongs_to_it_and_a_wanted_one_never() {
    let cluster = Publisher::start().await;
    let node = Node::with_folder();
    let first = config(&node, "rollout: {keepSeconds: 1}");
    node.configure(&first);
    let agent = Agent::spawn(cluster.command(&node, &program("headstart-cachesync")));
    agent.ready().await;
    let old = node.list("versions").remove(0);
    corrupt(&node.installed().join(LICENSE));
    agent.status("it is repaired", repaired).await;
    fs::create_dir_all(node.root().join("staged").join(&old)).unwrap();

    cluster.publish(&first, &[(&old, Phase::Retired)]);
    let both = first.replace(
        "      - revision: test\n",
        &format!(
            "      - {{revision: old, source: {{directory: {{path: {}}}}}}}\n      - revision: test\n",
            node.path("externals").display()
        ),
    );
    node.configure(&both);
    agent.status("there are two", |status| status["versions"].as_array().unwrap().len() == 2).await;
    agent.ready().await;
    assert!(node.list("versions").contains(&old), "what is to be offered stays, whatever is published");

    let new = both.replace("revision: test", "revision: new");
    node.configure(&new);
    until("the old one has gone", || async { (!node.list("versions").contains(&old)).then_some(()) }).await;
    assert_eq!(node.list("replaced"), [""; 0]);
    assert!(!node.list("staged").contains(&old));
    until("nothing is on its way out", || async { node.list("trash").is_empty().then_some(()) }).await;
}

#[tokio::test]
async fn nothing_is_deleted_while_the_published_state_cannot_be_read() {
    let cluster = Publisher::start().await;
    let node = Node::with_folder();
    leave_garbage(&node, "old-0123456789ab");
    let config = config(&node, "rollout: {keepSeconds: 5}");
    node.configure(&config);
    cluster.publish(&config, &[("old-0123456789ab", Phase::Retired)]);
    let agent = Agent::spawn(cluster.command(&node, &program("headstart-cachesync")));
    agent.says("is retired").await;
    cluster.withdraw();
    agent.says("is not retired any more").await;
    cluster.publish_text("{");
    agent.says("the published state cannot be read; nothing is deleted meanwhile").await;
    assert!(node.list("versions").contains(&"old-0123456789ab".to_owned()));
    cluster.publish(&config, &[("old-0123456789ab", Phase::Retired)]);
    until("it goes after all", || async { (node.list("versions").len() == 1).then_some(()) }).await;
}

#[tokio::test]
async fn a_revision_that_was_taken_out_too_early_is_still_installed_on_a_new_node() {
    let cluster = Publisher::start().await;
    let node = Node::with_folder();
    let new = directory_config(&node.path("externals")).replace("revision: test", "revision: new");
    let old = directory_config(&node.path("externals"));
    let name = headstart_externals::config::Config::parse(&old).unwrap();
    let name = name.revisions().next().unwrap().1.version.to_string();
    cluster.publish(&old, &[(&name, Phase::Retiring)]);
    node.configure(&new);
    let agent = Agent::spawn(cluster.command(&node, &program("headstart-cachesync")));
    let both = |status: &Value| status["ready"] == true && status["versions"].as_array().unwrap().len() == 2;
    agent.status("both are installed", both).await;
    assert!(node.list("versions").contains(&name));
}

/// Its node was away while that version was retired, forgotten, and gone everywhere else.
#[tokio::test]
async fn a_version_that_an_agent_finds_in_no_state_is_kept_until_it_is_told_that_it_is_retired() {
    let cluster = Publisher::start().await;
    let node = Node::with_folder();
    node.start().ready().await;
    let old = node.list("versions").remove(0);
    let new = config(&node, "rollout: {keepSeconds: 1}").replace("revision: test", "revision: new");
    node.configure(&new);
    cluster.publish(&new, &[]);
    let agent = Agent::spawn(cluster.command(&node, &program("headstart-cachesync")));
    agent.ready().await;
    let is_kept = |version: &VersionReport| {
        version.name.as_str() == old && version.state == VersionState::Kept && !version.wanted
    };
    let is_told = |report: &NodeReport| {
        report.versions.iter().any(is_kept)
            && report.versions.iter().any(|version| version.state == VersionState::Ready)
    };
    until("it reports both", || async { cluster.report().filter(is_told) }).await;
    // Longer than it would keep what is retired.
    leave_garbage(&node, "old-0123456789ab");
    cluster.publish(&new, &[("old-0123456789ab", Phase::Retired)]);
    until("others go", || async { (node.list("versions").len() == 2).then_some(()) }).await;
    assert!(node.list("versions").contains(&old), "its pods may be there");
    cluster.publish(&new, &[(&old, Phase::Retired)]);
    until("it has gone", || async { (node.list("versions").len() == 1).then_some(()) }).await;
}

#[tokio::test]
async fn what_is_not_ours_is_left_alone() {
    let node = Node::with_folder();
    let foreign =
        ["versions/notes.txt", "versions/lost+found/x", "replaced/mine/x", "staged/other/x", "precious"];
    for path in foreign {
        let path = node.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "mine").unwrap();
    }
    let status = node.start().ready().await;
    assert_eq!(status["versions"].as_array().unwrap().len(), 1);
    for path in foreign {
        assert_eq!(fs::read_to_string(node.root().join(path)).unwrap(), "mine", "{path}");
    }
}

#[tokio::test]
async fn files_that_cannot_be_read_have_their_reason() {
    if is_passed_over("to become somebody who may not read") {
        return;
    }
    let node = Node::with_folder();
    let secret = node.path("externals/node16/LICENSE");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    fs::create_dir_all(node.root()).unwrap();
    std::os::unix::fs::chown(node.root(), Some(65534), Some(65534)).unwrap();
    fs::set_permissions(node.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let shipped = node.command();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.arg(shipped.get_program()).args(shipped.get_args());
    let agent = Agent::spawn(command);
    assert_eq!(agent.failed().await, "SourceUnavailable");
    let status = agent.status("it says which file", |_| true).await;
    let message = status["versions"][0]["fault"]["message"].as_str().unwrap();
    assert!(message.contains("node16/LICENSE") && message.contains("Permission denied"), "{message}");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    agent.ready().await;
}

#[tokio::test]
async fn a_manifest_that_cannot_be_read_is_damage() {
    let node = Node::with_folder();
    let agent = node.start();
    agent.ready().await;
    let manifest = node.installed().join("manifest.json");
    let folder = node.path("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("x"), "x").unwrap();
    renameat_with(CWD, &folder, CWD, &manifest, RenameFlags::EXCHANGE).unwrap();
    agent.status("it is repaired", repaired).await;
    assert!(manifest.is_file());
}

#[tokio::test]
async fn a_tree_or_a_farm_that_is_gone_is_damage() {
    for part in ["tree", "farm"] {
        let node = Node::with_folder();
        let agent = node.start();
        agent.ready().await;
        fs::rename(node.installed().join(part), node.path("gone")).unwrap();
        agent.status("it is repaired", repaired).await;
        assert!(node.installed().join(part).join("node16").symlink_metadata().is_ok());
        drop(agent);
        fs::remove_dir_all(node.installed().join(part)).unwrap();
        let agent = node.start();
        agent.status("it is repaired after a start", repaired).await;
    }
}

#[tokio::test]
async fn folders_of_the_root_that_are_taken_away_are_made_again() {
    let node = Node::with_folder();
    let agent = node.start();
    agent.ready().await;
    for folder in ["versions", "replaced", "staging", "trash"] {
        fs::rename(node.root().join(folder), node.path(&format!("gone-{folder}"))).unwrap();
        let back = || async {
            (node.root().join(folder).is_dir() && node.list("versions").len() == 1).then_some(())
        };
        until(&format!("{folder} is there again"), back).await;
        agent.ready().await;
    }
}

#[tokio::test]
async fn a_scrub_under_way_keeps_nobody_from_opening_the_root_anew() {
    let node = Node::with_folder();
    node.start().ready().await;
    node.configure(&config(&node, "verify: {bytesPerSecond: 1}"));
    let agent = node.start();
    agent.status("it is being read", |status| status["scrub"]["version"].is_string()).await;
    fs::remove_dir(node.root().join("trash")).unwrap();
    until("it is there again", || async { node.root().join("trash").is_dir().then_some(()) }).await;
    agent.ready().await;
    assert!(!agent.has_said("the root is not usable"), "{:#?}", agent.log());
}

#[tokio::test]
async fn repairs_that_do_not_last_become_rare() {
    let node = Node::with_folder();
    let agent = node.start();
    agent.ready().await;
    let repairs = |status: &Value| status["versions"][0]["repairs"].as_u64().unwrap();
    corrupt(&node.installed().join(LICENSE));
    agent.status("it is repaired", |status| status["ready"] == true && repairs(status) == 1).await;
    corrupt(&node.installed().join(LICENSE));
    let damaged = |status: &Value| status["versions"][0]["damaged"] == true;
    let status = agent.status("it waits", damaged).await;
    let version = &status["versions"][0];
    assert!(version["retryInSeconds"].as_f64().unwrap() > 0.0, "{version}");
    assert_eq!((version["damagedFiles"].as_u64(), version["replaced"].as_u64()), (Some(1), Some(1)));
    agent.status("it is repaired all the same", |status| repairs(status) == 2).await;
}

#[tokio::test]
async fn what_lies_in_replaced_counts_against_the_budget() {
    let node = Node::with_folder();
    let used = node.start().ready().await["usedBytes"].as_u64().unwrap();
    let config = directory_config(&node.path("externals"));
    node.configure(&config.replace("limits: {", &format!("limits: {{cacheBytes: {}, ", 2 * used + used / 2)));
    let agent = node.start();
    agent.ready().await;
    corrupt(&node.installed().join(LICENSE));
    agent.status("it is repaired", repaired).await;
    let license = node.installed().join(LICENSE);
    let sound = fs::read(&license).unwrap();
    fs::write(&license, "damaged").unwrap();
    let message = |status: &Value| status["versions"][0]["fault"]["message"].as_str().map(str::to_owned);
    let refused = |status: &Value| message(status).is_some_and(|text| text.contains("OverBudget"));
    let status = agent.status("no more room", refused).await;
    assert_eq!(status["versions"][0]["fault"]["reason"], "CheckFailed", "the damage is what matters");
    drop(agent);
    let agent = node.start();
    agent.status("no more room after a start either", refused).await;
    assert_eq!(node.list("replaced").len(), 1);
    fs::write(&license, sound).unwrap();
    agent.ready().await;
}

/// A wall clock that the test sets, for programs that have the returned library preloaded.
struct Clock {
    library: PathBuf,
    offset: PathBuf,
}

impl Clock {
    fn new(folder: &Path) -> Self {
        let library = folder.join("jump.so");
        let source = repository().join("tests/bed/clock/jump.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl");
        assert!(compiler.status().unwrap().success());
        Self { library, offset: folder.join("offset") }
    }

    /// So many seconds from the real time.
    fn set(&self, seconds: i64) {
        let beside = self.offset.with_extension("new");
        fs::write(&beside, seconds.to_string()).unwrap();
        fs::rename(beside, &self.offset).unwrap();
    }
}

#[tokio::test]
async fn a_clock_that_jumps_deletes_nothing_and_hides_nothing() {
    let cluster = Publisher::start().await;
    let node = Node::with_folder();
    leave_garbage(&node, "old-0123456789ab");
    let config = config(&node, "rollout: {keepSeconds: 600}\nverify: {intervalSeconds: 3600}");
    node.configure(&config);
    let clock = Clock::new(&node.path(""));
    clock.set(0);
    let mut command = cluster.command(&node, &program("headstart-cachesync"));
    command.env("LD_PRELOAD", &clock.library).env("CLOCK_OFFSET", &clock.offset);
    let agent = Agent::spawn(command);
    agent.ready().await;
    cluster.publish(&config, &[("old-0123456789ab", Phase::Retired)]);
    agent.says("is retired").await;
    let year = 365 * 24 * 3600;
    for jump in [10 * year, -10 * year] {
        clock.set(jump);
        let expected = Timestamp::now() + SignedDuration::from_secs(jump);
        // Something to tell, so that what follows is after the jump.
        corrupt(&node.installed_of("node16").join(LICENSE));
        let repairs = |status: &Value| status["versions"][0]["repairs"].as_u64().unwrap();
        let before = if jump > 0 { 0 } else { 1 };
        let status = agent.status("it is repaired", |s| s["ready"] == true && repairs(s) > before).await;
        let log = agent.log();
        let told: Timestamp = log.last().unwrap()["timestamp"].as_str().unwrap().parse().unwrap();
        assert!(told.duration_since(expected).abs() < SignedDuration::from_hours(1), "it jumped to {told}");
        let old = &status["versions"][1];
        assert!(old["retiredSecondsAgo"].as_f64().unwrap() < 300.0, "{old}");
        assert!(status["versions"][0]["verifiedSecondsAgo"].as_f64().unwrap() < 300.0, "{status}");
        assert!(node.list("versions").contains(&"old-0123456789ab".to_owned()), "nothing is deleted early");
        let told = || async { cluster.report().filter(|report| report.versions[0].repairs > before as u32) };
        until("the report still comes", told).await;
    }
}

#[tokio::test]
async fn a_staged_copy_stays_while_its_revision_is_configured_so_that_one_can_roll_back() {
    let cluster = Publisher::start().await;
    let node = Node::with_folder();
    let config = |offer: &str| {
        format!(
            "apiVersion: headstart.dev/v1\nlimits: {{reserveBytes: 0}}\nrollout: {{keepSeconds: 0}}\nprofiles:\n  - name: \
             node16\n    preset: node16\n    offer: {offer}\n    revisions:\n      - {{revision: old, source: \
             {{runnerImage: {{image: 'runner:1'}}}}}}\n      - {{revision: new, source: {{directory: {{path: {}}}}}}}\n",
            node.path("externals").display()
        )
    };
    node.configure(&config("old"));
    let mut stage = Command::new(program("headstart-cachesync"));
    stage
        .args(["stage", "--image=runner:1", "--profile=node16", "--revision=old", "--root"])
        .arg(node.root());
    stage.arg("--config").arg(node.path("config.yaml")).arg("--externals").arg(node.path("externals"));
    assert!(stage.status().unwrap().success());
    let agent = Agent::spawn(cluster.command(&node, &program("headstart-cachesync")));
    agent.ready().await;
    let parsed = Config::parse(&config("old")).unwrap();
    let old = parsed.revisions().next().unwrap().1.version.to_string();
    node.configure(&config("new"));
    cluster.publish(&config("new"), &[(&old, Phase::Retired)]);
    until("the old one has gone", || async { (!node.list("versions").contains(&old)).then_some(()) }).await;
    assert!(node.list("staged").contains(&old), "no stage would run again by itself");
    node.configure(&config("old"));
    until("it is back", || async { node.list("versions").contains(&old).then_some(()) }).await;
    agent.ready().await;
}

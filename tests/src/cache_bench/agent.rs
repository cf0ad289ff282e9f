//! The agent under measurement: installs, scrubs, rests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::source::{Kind, Sources};
use super::usage::{Counters, Usage, memory};
use crate::agent::Agent;
use crate::agent::Node;
use crate::wait::within;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(300);

/// Begins with an empty root and waits until everything is ready. The seconds are those of the install, as the agent
/// itself tells them in its log; the rest is that of the whole process.
pub async fn install(program: &Path, sources: &Sources, kind: Kind) -> (Usage, Node) {
    let node = Node::new(&sources.config(kind, 1, ""));
    if kind == Kind::Staged {
        stage(program, sources, &node);
    }
    let agent = Agent::spawn(node.command_of(program));
    let installed = || async { agent.log().into_iter().find(|line| line["message"] == "installed") };
    let line =
        within(PATIENCE, installed).await.unwrap_or_else(|| panic!("not installed: {:?}", agent.log()));
    let took = Duration::from_secs_f64(line["seconds"].as_f64().unwrap());
    let id = agent.id();
    let now = Counters::of(&id.to_string());
    let usage = Usage { peak: memory(id, "VmHWM:"), ..Counters::NONE.until(now, took) };
    drop(agent);
    (usage, node)
}

/// Leaves a staged copy, as the stage DaemonSet would.
pub fn stage(program: &Path, sources: &Sources, node: &Node) -> f64 {
    let begun = Instant::now();
    let mut command = Command::new(program);
    command.args(["stage", "--image=runner:bench", "--profile=bench"]);
    command.arg("--externals").arg(sources.folder.join("externals")).arg("--root").arg(node.root());
    command.arg("--config").arg(node.path("config.yaml"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    begun.elapsed().as_secs_f64()
}

/// Reads the version of a node again, as fast as it can; MB per second.
pub async fn scrub(program: &Path, sources: &Sources, node: &Node) -> f64 {
    node.configure(&sources.config(Kind::Directory, 1, "verify: {bytesPerSecond: 100000000000}"));
    let agent = Agent::spawn(node.command_of(program));
    agent.says("found ready").await;
    let begun = Instant::now();
    let read = || async {
        let (_, metrics) = agent.get("/metrics").await?;
        metrics.contains("headstart_cachesync_scrubbed_total{profile=\"bench\"} 1").then_some(())
    };
    within(PATIENCE, read).await.expect("it is scrubbed");
    sources.megabytes() / begun.elapsed().as_secs_f64()
}

/// Memory in MB and share of a core of an agent at rest with so many versions on disk.
pub async fn rest(program: &Path, sources: &Sources, versions: usize, span: Duration) -> (f64, f64) {
    let limits = "verify: {bytesPerSecond: 100000000000}";
    let node = Node::new(&sources.config(Kind::Directory, versions, limits));
    let agent = Agent::spawn(node.command_of(program));
    let all_ready = || async {
        let (_, text) = agent.get("/v1/status").await?;
        let status: Value = serde_json::from_str(&text).ok()?;
        (status["ready"] == true).then_some(())
    };
    within(PATIENCE, all_ready).await.expect("all versions are ready");
    drop(agent);
    // A second start, since what an install took is not what rest takes.
    let agent = Agent::spawn(node.command_of(program));
    let verified = || async {
        let (_, text) = agent.get("/v1/status").await?;
        let status: Value = serde_json::from_str(&text).ok()?;
        let versions = status["versions"].as_array()?;
        versions.iter().all(|version| version["verifiedSecondsAgo"].is_number()).then_some(())
    };
    within(PATIENCE, verified).await.expect("all versions are read");
    let id = agent.id();
    let before = Counters::of(&id.to_string());
    within(span, || async { None::<()> }).await;
    let used = before.processor_until(Counters::of(&id.to_string()));
    (memory(id, "VmRSS:"), used / span.as_secs_f64() * 100.0)
}

/// Where an agent put its one version.
pub fn tree(node: &Node) -> PathBuf {
    node.installed().join("tree")
}

//! The node cache on a real node, with the shipped image and manifests: what jobs, administrators and thieves of tokens
//! notice of installs, damage, upgrades and the uninstall.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod fresh;
mod repair;
mod rest;
mod stage;
mod token;
mod uninstall;
mod upgrade;

use headstart_tests::bed::images::TestImage;
use headstart_tests::bed::{Cluster, Shared, Turn, headstart};
use headstart_tests::jobs;
use headstart_tests::pods::{Pods, name, version_of};
use serde_json::{Value, json};

static SHARED: Shared = Shared::new();

async fn turn() -> Option<Turn<'static>> {
    SHARED.turn(cluster).await
}

async fn cluster() -> anyhow::Result<Cluster> {
    let cluster = Cluster::start(&headstart::images()?).await?;
    headstart::install_with(&cluster, &config(&[FIRST])).await?;
    Ok(cluster)
}

/// The revision that the shipped stage brings, and a later one, out of the same image.
const FIRST: &str = "2.304.0";
const SECOND: &str = "second";

/// The profile of both.
const PROFILE: &str = "node16";

/// What keeps pods from a node until its cache is ready.
const TAINT: &str = "headstart.dev/cache-not-ready";

/// The shipped profile with these revisions. A second of grace and another on disk, so that nobody waits long.
fn config(revisions: &[&str]) -> Value {
    let source = json!({ "runnerImage": { "image": TestImage::Runner.name() } });
    let revision = |name: &&str| json!({ "revision": name, "source": source });
    json!({
        "apiVersion": "headstart.dev/v1",
        "rollout": { "graceSeconds": 1, "keepSeconds": 1 },
        "startupTaints": [TAINT],
        "profiles": [{
            "name": PROFILE, "preset": "node16", "images": [TestImage::Runner.name()],
            "revisions": revisions.iter().map(revision).collect::<Vec<_>>(),
        }],
    })
}

const RUN_NODE: &str = "/__e/node16/bin/node -p 'process.version + \" \" + process.execPath'";
const RAN: &str = "v16.20.2 /__e/node16/bin/node\n";

/// A workflow pod of current hooks. It ends at once when it is deleted: until then it uses the cache.
fn workflow(pods: &Pods<'_>, name: &str) -> Value {
    let mut pod = jobs::workflow("hooks/v0.8.1/prepare-plain.json", pods.namespace());
    pod["metadata"]["name"] = name.into();
    pod["spec"]["terminationGracePeriodSeconds"] = 1.into();
    pod
}

/// Creates a pod, which is given this version, and starts Node.js in it.
async fn runs_node(pods: &Pods<'_>, pod: &Value, version: &str) {
    let stored = pods.create(pod);
    assert_eq!(version_of(&stored), version, "{stored}");
    pods.runs(name(pod)).await;
    assert_eq!(pods.exec(name(pod), RUN_NODE), RAN);
}

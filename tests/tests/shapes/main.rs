//! Every shape of pod that Headstart rewrites, on a real node with the shipped manifests: what jobs notice of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod dind;
mod image;
mod older;
mod paired;
mod placement;

use anyhow::Context as _;
use headstart_tests::bed::image::digest;
use headstart_tests::bed::images::{TestImage, archive};
use headstart_tests::bed::{Cluster, Shared, Turn, headstart};
use serde_json::{Value, json};

static SHARED: Shared = Shared::new();

async fn turn() -> Option<Turn<'static>> {
    SHARED.turn(cluster).await
}

async fn cluster() -> anyhow::Result<Cluster> {
    let mut images = headstart::images()?;
    let further = [TestImage::NewerRunner, TestImage::OlderRunner, TestImage::Externals];
    images.extend(further.into_iter().map(archive).collect::<anyhow::Result<Vec<_>>>()?);
    let cluster = Cluster::start(&images).await?;
    let externals = pinned(TestImage::Externals)?;
    // As if it had been pulled by its digest.
    cluster.ctr(&["images", "tag", TestImage::Externals.name(), &externals])?;
    headstart::install_with(&cluster, &config(&externals)).await?;
    Ok(cluster)
}

/// The image by its digest.
fn pinned(image: TestImage) -> anyhow::Result<String> {
    let (name, _) = image.name().rsplit_once(':').context("no tag")?;
    Ok(format!("{name}@{}", digest(&archive(image)?)?))
}

/// The shipped profile, here also for the older controller and with an image of its tree; and one for runners whose hooks
/// read templates.
fn config(externals: &str) -> Value {
    let source = |image: TestImage| json!({ "runnerImage": { "image": image.name() } });
    json!({
        "apiVersion": "headstart.dev/v1",
        "nodeSelector": { "kubernetes.io/os": "linux" },
        "profiles": [
            {
                "name": "node16", "preset": "node16",
                "images": [TestImage::Runner.name(), "summerwind/actions-runner:v2.304.0-*"],
                "revisions": [{
                    "revision": "2.304.0", "source": source(TestImage::Runner), "volumeImage": externals,
                }],
            },
            {
                "name": "node16-node20",
                "images": [TestImage::NewerRunner.name()],
                "entries": { "node16": ["bin/node", "LICENSE"], "node20": ["bin/node", "LICENSE"] },
                "hooks": {
                    "legacy": ["/home/runner/k8s/index.js"], "readTemplates": true, "ownTemplate": "none",
                },
                "revisions": [{ "revision": "2.317.0", "source": source(TestImage::NewerRunner) }],
            },
        ],
    })
}

/// What every write to `folder` comes to, as whoever the container runs as.
fn writes(folder: &str) -> String {
    let words = [
        format!("touch {folder}/x"),
        format!("rm -f {folder}/node16/bin/node"),
        format!("mkdir {folder}/node16/y"),
        format!("chmod 0700 {folder}/node16/bin/node"),
    ];
    words.join("; ")
}

/// Every one of these must have failed, for this cause.
fn all_refused(answer: &str) {
    assert_eq!(answer.matches("Read-only file system").count(), 4, "{answer}");
}

//! A disk of the node that is as slow as a network file system, and counts what is asked of it.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::cluster::Cluster;
use super::programs::Programs;
use super::protocol::Request;
use super::versions::Minor;
use crate::wait::blocking;

/// Where pods find it, by hostPath.
pub const MOUNT: &str = "/run/efs";

const SERVICE: &str = "slowfs";
const PATIENCE: Duration = Duration::from_secs(10);

/// A mounted slow disk; it goes with the cluster.
pub struct SlowDisk<'a> {
    cluster: &'a Cluster,
}

impl<'a> SlowDisk<'a> {
    /// Mounts one with such round trips: of a request that changes something, and of one that only asks.
    pub fn mount(cluster: &'a Cluster, change: &str, ask: &str) -> Result<Self> {
        let program = Programs::obtain(&[SERVICE], Minor::Newest)?;
        let program = program.path(SERVICE)?.display().to_string();
        let backing = cluster.bed().place().path("disk/efs");
        fs::create_dir_all(&backing)?;
        let backing = backing.display().to_string();
        cluster.bed().run_inside(&["mkdir", "-p", MOUNT])?;
        cluster.serve(SERVICE, &[&program, "-rtt", change, "-rtt-read", ask, &backing, MOUNT])?;
        let is_mounted = || cluster.bed().run_inside(&["mountpoint", "-q", MOUNT]).ok();
        blocking(PATIENCE, is_mounted)
            .with_context(|| format!("no slow disk\n{}", cluster.bed().tails(&[SERVICE])))?;
        Ok(Self { cluster })
    }

    /// What has been asked of it since the last time, by kind.
    pub fn requests(&self) -> Result<Value> {
        let log = self.cluster.bed().log(SERVICE);
        // A line without its end is still being written.
        let whole = |line: &&str| line.ends_with('\n');
        let lines = || {
            let text = fs::read_to_string(&log)?;
            std::io::Result::Ok(
                text.split_inclusive('\n').filter(whole).map(str::to_owned).collect::<Vec<_>>(),
            )
        };
        let before = lines()?.len();
        self.cluster.bed().ask(&Request::Prod(SERVICE.to_owned()))?;
        let answer = blocking(PATIENCE, || lines().ok()?.get(before).cloned());
        Ok(serde_json::from_str(&answer.context("the slow disk does not tell what it did")?)?)
    }
}

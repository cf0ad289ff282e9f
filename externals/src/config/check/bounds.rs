//! The rules for numbers: what a source may cost, how often disks are read, how fast versions are rolled out.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::file::{FileLimits, FileRollout, FileVerify};
use super::super::problem::Problems;
use super::super::{Limits, Rollout, Verify};
use super::labels;
use crate::names::STARTUP_TAINTS;

/// Longest time that any setting may name: a year.
const MAX_SECONDS: u64 = 365 * 24 * 3600;

pub(super) fn check_limits(file: &FileLimits, problems: &mut Problems) -> Limits {
    let default = Limits::default();
    let mut positive = |value: Option<u64>, default: u64, name: &str| {
        if value == Some(0) {
            problems.add(format!("limits.{name}"), format!("must be at least 1; the default is {default}"));
        }
        value.unwrap_or(default)
    };
    Limits {
        archive_bytes: positive(file.archive_bytes, default.archive_bytes, "archiveBytes"),
        unpacked_bytes: positive(file.unpacked_bytes, default.unpacked_bytes, "unpackedBytes"),
        files: positive(file.files, default.files, "files"),
        cache_bytes: positive(file.cache_bytes, default.cache_bytes, "cacheBytes"),
        reserve_bytes: file.reserve_bytes.unwrap_or(default.reserve_bytes),
    }
}

pub(super) fn check_verify(file: &FileVerify, problems: &mut Problems) -> Verify {
    let default = Verify::default();
    if file.bytes_per_second == Some(0) {
        problems.add("verify.bytesPerSecond", "must be at least 1; the default is 32 MiB");
    }
    Verify {
        interval: seconds(file.interval_seconds, 1, default.interval, "verify.intervalSeconds", problems),
        bytes_per_second: file.bytes_per_second.unwrap_or(default.bytes_per_second),
    }
}

pub(super) fn check_rollout(file: &FileRollout, problems: &mut Problems) -> Rollout {
    let default = Rollout::default();
    let percent = file.percent.unwrap_or(default.percent);
    if !(1..=100).contains(&percent) {
        problems.add("rollout.percent", "must be between 1 and 100; the default is 95");
    }
    let mut time = |value, default, name: &str| seconds(value, 0, default, name, problems);
    Rollout {
        percent,
        wait: time(file.wait_seconds, default.wait, "rollout.waitSeconds"),
        grace: time(file.grace_seconds, default.grace, "rollout.graceSeconds"),
        keep: time(file.keep_seconds, default.keep, "rollout.keepSeconds"),
        paused: file.paused,
    }
}

pub(super) fn check_taints(keys: &[String], problems: &mut Problems) -> BTreeSet<String> {
    for (at, key) in keys.iter().enumerate() {
        let is_ours = STARTUP_TAINTS.iter().any(|prefix| key.starts_with(prefix));
        if !labels::is_key(key) || !is_ours {
            let known = STARTUP_TAINTS.join(", ");
            let message = format!("{key:?} must be a taint key that begins with one of {known}");
            problems.add(format!("startupTaints[{at}]"), message);
        }
    }
    keys.iter().cloned().collect()
}

fn seconds(
    value: Option<u64>,
    least: u64,
    default: Duration,
    path: &str,
    problems: &mut Problems,
) -> Duration {
    let Some(value) = value else { return default };
    if !(least..=MAX_SECONDS).contains(&value) {
        let message =
            format!("must be between {least} and {MAX_SECONDS}; the default is {}", default.as_secs());
        problems.add(path, message);
    }
    Duration::from_secs(value)
}

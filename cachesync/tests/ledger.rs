//! What the agent comes to know of a version, and what the plan makes of that.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use headstart_cachesync::fault::Fault;
use headstart_cachesync::install::Installed;
use headstart_cachesync::ledger::{Ledger, OnDisk};
use headstart_cachesync::plan::{Action, Disk, Free, Retired, Standing, plan};
use headstart_cachesync::progress::Progress;
use headstart_externals::arch::Arch;
use headstart_externals::fault::FaultReason;
use headstart_externals::manifest::{FileRecord, Manifest};
use headstart_externals::relpath::RelPath;
use headstart_externals::report::VersionState;
use headstart_externals::version::VersionName;

const SIZE: u64 = 7;
const FREE: Free = Free { bytes: None, reserve: 0, used: 0, budget: u64::MAX };

fn name() -> VersionName {
    "node16-0123456789ab".parse().unwrap()
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn manifest() -> Manifest {
    let file = FileRecord::File { size: SIZE, executable: false, sha256: "0".repeat(64) };
    Manifest::new(name(), Arch::Amd64, BTreeMap::from([(RelPath::new("node16/LICENSE").unwrap(), file)]))
}

/// A ledger of one version that is wanted.
struct One(Ledger);

impl One {
    fn new() -> Self {
        Self(Ledger::new("node-1".to_owned(), Arch::Amd64))
    }

    fn on_disk(mut self) -> Self {
        self.look();
        self
    }

    fn look(&mut self) {
        let found = OnDisk { disk: Disk::Complete, ..OnDisk::nothing(name()) };
        self.0.observe(&[name()], vec![found], false);
    }

    fn begin(&mut self) {
        self.0.begin(&name(), Progress::new(Arc::new(|_| {})));
    }

    fn ready(&mut self, verified_at: Option<Duration>) {
        let installed = Installed { manifest: manifest(), canary: BTreeMap::new(), is_new: false };
        self.0.ready(&name(), installed, 1.0, verified_at);
    }

    /// All of it is read, and it is sound.
    fn verify(&mut self, now: Duration) {
        self.begin();
        self.ready(Some(now));
    }

    fn suspect(&mut self, now: Duration) {
        self.0.suspect(&name(), now);
    }

    fn standing(&self) -> Standing {
        self.0.observed().versions[0].standing
    }

    fn planned(&self) -> Vec<Action> {
        let retired = Retired { versions: &BTreeSet::new(), keep: Duration::ZERO };
        plan(&self.0.observed(), &[name()], retired, FREE, at(0))
    }

    /// When it is to be read, after a hint at `now`.
    fn wait(&mut self, now: Duration) -> Duration {
        self.suspect(now);
        match self.standing() {
            Standing::Suspect { look_at } => look_at - now,
            standing => panic!("{standing:?}"),
        }
    }
}

#[test]
fn what_was_damaged_before_a_restart_serves_only_after_all_of_it_was_read() {
    let mut before = One::new().on_disk();
    before.0.damaged(&name(), Fault::new(FaultReason::CheckFailed, "no"), at(0));
    let report = before.0.report();
    let verify = [Action::Verify(name())];

    let mut told_first = One::new();
    told_first.0.recall(&report);
    told_first.look();
    assert_eq!(told_first.planned(), verify);

    let mut told_late = One::new().on_disk();
    told_late.ready(None);
    told_late.0.recall(&report);
    assert_eq!(told_late.planned(), verify);

    let mut told_meanwhile = One::new().on_disk();
    told_meanwhile.begin();
    told_meanwhile.0.recall(&report);
    told_meanwhile.ready(None);
    assert_eq!(told_meanwhile.planned(), verify);

    for mut one in [told_first, told_late, told_meanwhile] {
        let version = one.0.report().versions.remove(0);
        assert_eq!((version.state, version.reason), (VersionState::Failed, Some(FaultReason::CheckFailed)));
        one.verify(at(5));
        assert_eq!((one.planned(), one.standing()), (vec![], Standing::Ready));
        assert_eq!(one.0.report().versions[0].reason, None);
    }
}

#[test]
fn a_version_that_is_changed_while_it_is_read_is_read_again() {
    let mut one = One::new().on_disk();
    for verified_at in [None, Some(at(5))] {
        one.begin();
        one.suspect(at(3));
        one.ready(verified_at);
        assert!(matches!(one.standing(), Standing::Suspect { .. }), "{:?}", one.standing());
    }
    one.verify(at(6));
    assert_eq!(one.standing(), Standing::Ready);
    one.begin();
    one.0.doubt();
    one.ready(Some(at(7)));
    assert_ne!(one.standing(), Standing::Ready, "events were lost meanwhile");
}

#[test]
fn a_scrub_takes_no_suspicion_back() {
    let mut one = One::new().on_disk();
    one.verify(at(1));
    one.suspect(at(2));
    one.0.verified(&name(), at(3));
    assert_eq!(one.standing(), Standing::Suspect { look_at: at(2) });
}

#[test]
fn false_alarms_in_a_row_make_reading_rare_until_nothing_is_said_for_long() {
    let false_alarms = || {
        let mut one = One::new().on_disk();
        one.verify(at(0));
        let mut waits = Vec::new();
        for second in 1..=5 {
            waits.push(one.wait(at(second)).as_secs());
            one.verify(at(second));
        }
        assert_eq!(waits, [0, 1, 2, 4, 8]);
        one
    };
    assert_eq!(false_alarms().wait(at(3000)), at(16));
    assert_eq!(false_alarms().wait(at(3605)), at(0), "nothing was said for an hour");
    let mut scrubbed = false_alarms();
    scrubbed.0.verified(&name(), at(100));
    assert_eq!(scrubbed.wait(at(101)), at(0), "all of it was read and nothing was said");
}

#[test]
fn what_could_not_be_taken_over_counts_against_the_budget() {
    let mut one = One::new().on_disk();
    one.0.damaged(&name(), Fault::new(FaultReason::CheckFailed, "no"), at(0));
    one.0.kept(&name(), Some(manifest()));
    assert_eq!(one.0.used_bytes(), SIZE);
}

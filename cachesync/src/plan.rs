//! What to do next on this node: pure, so that every case is a line of a table.
//!
//! The rules: what is wanted is installed, taken over, looked at again and repaired, the newest wishes first. What is not
//! wanted stays, since pods may name it, until the controller says that none does, for as long as configured; only
//! then it is deleted. Times are durations since a moment of the caller's choice.

use std::collections::BTreeSet;
use std::time::Duration;

use headstart_externals::fault::FaultReason;
use headstart_externals::version::VersionName;

/// What lies on the node, and what this process has found out about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Every version that is wanted or has left anything on disk.
    pub versions: Vec<Seen>,
    /// Whether something is on its way out.
    pub has_trash: bool,
}

/// One version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its name.
    pub name: VersionName,
    /// What lies under its name.
    pub disk: Disk,
    /// What this process has found out.
    pub standing: Standing,
    /// What was not enough to build it.
    pub short: Option<Short>,
    /// Since when it has been known to be retired and not wanted.
    pub retired_since: Option<Duration>,
}

/// Room that was not enough for a build, so that its archive is not fetched for nothing again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    /// What ended the build.
    pub reason: FaultReason,
    /// Bytes that were left for it when it began.
    pub left: u64,
    /// When it is tried all the same: somebody else may have filled the disk meanwhile.
    pub until: Duration,
}

/// What lies under a version's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// Nothing, or nothing but empty folders.
    Absent,
    /// A folder with a manifest.
    Complete,
    /// Anything else.
    Foreign,
}

/// What this process has found out about a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has not looked yet.
    Unknown,
    /// It serves pods.
    Ready,
    /// It serves pods, but something says that it was changed.
    Suspect {
        /// When all of it is to be read.
        look_at: Duration,
    },
    /// It is damaged.
    Damaged {
        /// When the repair is to be tried.
        retry_at: Duration,
    },
    /// The last attempt failed.
    Failed {
        /// When the next one is due.
        retry_at: Duration,
    },
    /// Nothing is to be tried before something else changes.
    Waiting,
}

/// What the node's disk still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Free {
    /// Free bytes of the file system; absent where that cannot be told.
    pub bytes: Option<u64>,
    /// How many of these no install may touch.
    pub reserve: u64,
    /// Bytes that all versions take now.
    pub used: u64,
    /// Most bytes that they may take.
    pub budget: u64,
}

/// The versions that no pod names any more.
#[derive(Clone, Copy, Debug)]
pub struct Retired<'a> {
    /// Their names; empty where nobody knows, so that nothing is deleted then.
    pub versions: &'a BTreeSet<VersionName>,
    /// How long such a version stays on disk.
    pub keep: Duration,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Build it and give it its name; what else lies there gives way.
    Install(VersionName),
    /// Take over what lies there, after a quick look.
    Adopt(VersionName),
    /// Read all of it again.
    Verify(VersionName),
    /// Build it anew and exchange the two.
    Repair(VersionName),
    /// It cannot be built now.
    Refuse(VersionName, FaultReason),
    /// From now on it counts as retired.
    Retire(VersionName),
    /// It is not retired after all.
    Revive(VersionName),
    /// Take its name away, with all that belongs to it.
    Trash(VersionName),
    /// Remove what is on its way out.
    Delete,
}

impl Free {
    /// What is left for a build before it ends for that reason; `None` where that cannot be told.
    pub fn left(self, reason: FaultReason) -> Option<u64> {
        match reason {
            FaultReason::DiskFull => self.bytes.map(|bytes| bytes.saturating_sub(self.reserve)),
            FaultReason::OverBudget => Some(self.budget.saturating_sub(self.used)),
            _ => None,
        }
    }

    /// Why nothing can be built; `None` if something can.
    fn shortage(self) -> Option<FaultReason> {
        if self.bytes.is_some_and(|bytes| bytes <= self.reserve) {
            Some(FaultReason::DiskFull)
        } else if self.used >= self.budget {
            Some(FaultReason::OverBudget)
        } else {
            None
        }
    }
}

impl Short {
    /// Whether it would not be enough again; a disk has a little more or less from one moment to the next.
    fn holds(self, free: Free, now: Duration) -> bool {
        let enough = self.left.saturating_add(self.left / 16);
        now < self.until && free.left(self.reason).is_some_and(|left| left <= enough)
    }
}

/// Everything that is due at `now`, most urgent first. `wanted` is in the order of urgency.
pub fn plan(
    observed: &Observed,
    wanted: &[VersionName],
    retired: Retired<'_>,
    free: Free,
    now: Duration,
) -> Vec<Action> {
    let is_wanted = |seen: &&Seen| wanted.contains(&seen.name);
    let due = wanted.iter().filter_map(|name| observed.versions.iter().find(|seen| seen.name == *name));
    let mut actions: Vec<Action> = due.filter_map(|seen| serve(seen, free, now)).collect();
    // What can be had at once comes before what has to be built.
    actions.sort_by_key(|action| !matches!(action, Action::Adopt(_)));
    for seen in observed.versions.iter().filter(|seen| seen.retired_since.is_some() && is_wanted(seen)) {
        actions.push(Action::Revive(seen.name.clone()));
    }
    let unwanted = observed.versions.iter().filter(|seen| !is_wanted(seen));
    let mut leaving: Vec<Action> = unwanted.filter_map(|seen| dismiss(seen, retired, now)).collect();
    if observed.has_trash {
        leaving.push(Action::Delete);
    }
    // On a full disk nothing can be built before something has gone.
    if free.shortage().is_some() || actions.iter().any(|action| matches!(action, Action::Refuse(..))) {
        leaving.append(&mut actions);
        leaving
    } else {
        actions.append(&mut leaving);
        actions
    }
}

/// What a wanted version needs.
fn serve(seen: &Seen, free: Free, now: Duration) -> Option<Action> {
    let name = || seen.name.clone();
    let too_little = || seen.short.filter(|short| short.holds(free, now)).map(|short| short.reason);
    let build = |action: fn(VersionName) -> Action| match free.shortage().or_else(too_little) {
        Some(reason) => Action::Refuse(name(), reason),
        None => action(name()),
    };
    match seen.standing {
        Standing::Unknown if seen.disk == Disk::Complete => Some(Action::Adopt(name())),
        Standing::Unknown => Some(build(Action::Install)),
        // Somebody took it away.
        Standing::Ready | Standing::Suspect { .. } if seen.disk == Disk::Absent => {
            Some(build(Action::Install))
        }
        Standing::Suspect { look_at } if look_at <= now => Some(Action::Verify(name())),
        Standing::Ready if seen.disk == Disk::Foreign => Some(Action::Verify(name())),
        Standing::Ready | Standing::Waiting => None,
        Standing::Damaged { retry_at } if retry_at <= now => Some(build(Action::Repair)),
        Standing::Failed { retry_at } if retry_at <= now => Some(match seen.disk {
            Disk::Complete => Action::Verify(name()),
            Disk::Absent | Disk::Foreign => build(Action::Install),
        }),
        Standing::Suspect { .. } | Standing::Damaged { .. } | Standing::Failed { .. } => None,
    }
}

/// What becomes of a version that nobody wants here.
fn dismiss(seen: &Seen, retired: Retired<'_>, now: Duration) -> Option<Action> {
    let is_retired = retired.versions.contains(&seen.name);
    match seen.retired_since {
        Some(since) if is_retired => (since + retired.keep <= now).then(|| Action::Trash(seen.name.clone())),
        Some(_) => Some(Action::Revive(seen.name.clone())),
        None if is_retired => Some(Action::Retire(seen.name.clone())),
        None => None,
    }
}

/// When something that is not due yet will be; `None` if only a change from outside can bring something to do.
pub fn next(observed: &Observed, wanted: &[VersionName], keep: Duration, now: Duration) -> Option<Duration> {
    let times = observed.versions.iter().filter_map(|seen| match seen.standing {
        _ if !wanted.contains(&seen.name) => seen.retired_since.map(|since| since + keep),
        Standing::Damaged { retry_at } | Standing::Failed { retry_at } => Some(retry_at),
        Standing::Suspect { look_at } => Some(look_at),
        Standing::Unknown | Standing::Ready | Standing::Waiting => None,
    });
    // What is past and led to nothing will not do so by itself.
    times.filter(|at| *at > now).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);
    const KEEP: Duration = Duration::from_secs(600);
    const PLENTY: Free = Free { bytes: Some(100), reserve: 10, used: 0, budget: 100 };

    fn name(letter: char) -> VersionName {
        format!("node16-{}", letter.to_string().repeat(12)).parse().unwrap()
    }

    fn seen(letter: char, disk: Disk, standing: Standing) -> Seen {
        Seen { name: name(letter), disk, standing, short: None, retired_since: None }
    }

    fn planned(versions: &[Seen], wanted: &[char], retired: &[char], free: Free) -> Vec<Action> {
        let observed = Observed { versions: versions.to_vec(), has_trash: false };
        let wanted: Vec<VersionName> = wanted.iter().copied().map(name).collect();
        let retired = retired.iter().copied().map(name).collect();
        plan(&observed, &wanted, Retired { versions: &retired, keep: KEEP }, free, NOW)
    }

    fn one(disk: Disk, standing: Standing) -> Vec<Action> {
        planned(&[seen('a', disk, standing)], &['a'], &[], PLENTY)
    }

    #[test]
    fn a_wanted_version_gets_what_it_needs() {
        let (past, future) = (NOW - KEEP, NOW + KEEP);
        use Disk::{Absent, Complete, Foreign};
        for (disk, standing, expected) in [
            (Absent, Standing::Unknown, Some(Action::Install(name('a')))),
            (Foreign, Standing::Unknown, Some(Action::Install(name('a')))),
            (Complete, Standing::Unknown, Some(Action::Adopt(name('a')))),
            (Complete, Standing::Ready, None),
            (Absent, Standing::Ready, Some(Action::Install(name('a')))),
            (Foreign, Standing::Ready, Some(Action::Verify(name('a')))),
            (Complete, Standing::Suspect { look_at: past }, Some(Action::Verify(name('a')))),
            (Complete, Standing::Suspect { look_at: future }, None),
            (Absent, Standing::Suspect { look_at: future }, Some(Action::Install(name('a')))),
            (Complete, Standing::Damaged { retry_at: past }, Some(Action::Repair(name('a')))),
            (Complete, Standing::Damaged { retry_at: future }, None),
            (Absent, Standing::Failed { retry_at: past }, Some(Action::Install(name('a')))),
            (Complete, Standing::Failed { retry_at: past }, Some(Action::Verify(name('a')))),
            (Absent, Standing::Failed { retry_at: future }, None),
            (Absent, Standing::Waiting, None),
        ] {
            assert_eq!(one(disk, standing), Vec::from_iter(expected), "{disk:?} {standing:?}");
        }
    }

    #[test]
    fn what_is_there_is_taken_over_before_anything_is_built() {
        let versions =
            [seen('a', Disk::Absent, Standing::Unknown), seen('b', Disk::Complete, Standing::Unknown)];
        let expected = [Action::Adopt(name('b')), Action::Install(name('a'))];
        assert_eq!(planned(&versions, &['a', 'b'], &[], PLENTY), expected);
    }

    #[test]
    fn what_nobody_wants_stays_until_the_controller_has_retired_it_for_long_enough() {
        let of = |retired_since: Option<Duration>| Seen {
            retired_since,
            ..seen('a', Disk::Complete, Standing::Ready)
        };
        assert_eq!(planned(&[of(None)], &[], &[], PLENTY), [], "no word of the controller");
        assert_eq!(planned(&[of(None)], &[], &['a'], PLENTY), [Action::Retire(name('a'))]);
        let young = Some(NOW - KEEP + Duration::from_secs(1));
        assert_eq!(planned(&[of(young)], &[], &['a'], PLENTY), []);
        let old = Some(NOW - KEEP);
        assert_eq!(planned(&[of(old)], &[], &['a'], PLENTY), [Action::Trash(name('a'))]);
        assert_eq!(planned(&[of(old)], &[], &[], PLENTY), [Action::Revive(name('a'))], "pods came back");
        assert_eq!(planned(&[of(old)], &['a'], &['a'], PLENTY), [Action::Revive(name('a'))], "wanted again");
    }

    #[test]
    fn a_wanted_version_is_never_deleted() {
        for disk in [Disk::Absent, Disk::Complete, Disk::Foreign] {
            for standing in
                [Standing::Unknown, Standing::Ready, Standing::Waiting, Standing::Failed { retry_at: NOW }]
            {
                let version = Seen { retired_since: Some(Duration::ZERO), ..seen('a', disk, standing) };
                let actions = planned(&[version], &['a'], &['a'], PLENTY);
                assert!(!actions.contains(&Action::Trash(name('a'))), "{disk:?} {standing:?}");
            }
        }
    }

    #[test]
    fn on_a_full_disk_nothing_is_built_and_what_may_go_goes_first() {
        let full = Free { bytes: Some(10), ..PLENTY };
        let old = Seen { retired_since: Some(NOW - KEEP), ..seen('b', Disk::Complete, Standing::Ready) };
        let new = seen('a', Disk::Absent, Standing::Unknown);
        let expected = [Action::Trash(name('b')), Action::Refuse(name('a'), FaultReason::DiskFull)];
        assert_eq!(planned(&[new.clone(), old], &['a'], &['b'], full), expected);
        let spent = Free { used: 100, ..PLENTY };
        let expected = [Action::Refuse(name('a'), FaultReason::OverBudget)];
        assert_eq!(planned(std::slice::from_ref(&new), &['a'], &[], spent), expected);
        let damaged = seen('a', Disk::Complete, Standing::Damaged { retry_at: NOW });
        assert_eq!(planned(&[damaged], &['a'], &[], spent), expected, "what is replaced stays on disk");
        let unknown = Free { bytes: None, ..PLENTY };
        assert_eq!(planned(&[new], &['a'], &[], unknown), [Action::Install(name('a'))]);
        let there = seen('a', Disk::Complete, Standing::Unknown);
        assert_eq!(planned(&[there], &['a'], &[], full), [Action::Adopt(name('a'))], "needs no space");
    }

    #[test]
    fn what_had_too_little_room_is_not_begun_before_there_is_more() {
        let short = |reason, until| Seen {
            short: Some(Short { reason, left: 32, until }),
            ..seen('a', Disk::Absent, Standing::Failed { retry_at: NOW })
        };
        let install = Action::Install(name('a'));
        for reason in [FaultReason::DiskFull, FaultReason::OverBudget] {
            let refuse = Action::Refuse(name('a'), reason);
            let later = NOW + KEEP;
            for (left, until, expected) in
                [(32, later, &refuse), (34, later, &refuse), (35, later, &install), (32, NOW, &install)]
            {
                let free = match reason {
                    FaultReason::DiskFull => Free { bytes: Some(PLENTY.reserve + left), ..PLENTY },
                    _ => Free { used: PLENTY.budget - left, ..PLENTY },
                };
                let actions = planned(&[short(reason, until)], &['a'], &[], free);
                assert_eq!(actions, std::slice::from_ref(expected), "{reason} {left} {until:?}");
            }
        }
        let unknown = Free { bytes: None, ..PLENTY };
        assert_eq!(planned(&[short(FaultReason::DiskFull, NOW + KEEP)], &['a'], &[], unknown), [install]);
    }

    #[test]
    fn the_next_moment_is_the_earliest_retry_or_deletion() {
        let failed = seen('a', Disk::Absent, Standing::Failed { retry_at: NOW + KEEP * 2 });
        let retired = Seen { retired_since: Some(NOW), ..seen('b', Disk::Complete, Standing::Ready) };
        let at = |versions: &[Seen]| {
            let observed = Observed { versions: versions.to_vec(), has_trash: false };
            next(&observed, &[name('a')], KEEP, NOW)
        };
        assert_eq!(at(&[failed.clone(), retired]), Some(NOW + KEEP));
        assert_eq!(at(&[failed]), Some(NOW + KEEP * 2));
        assert_eq!(at(&[]), None);
        let unwanted = seen('b', Disk::Foreign, Standing::Failed { retry_at: NOW + KEEP });
        let past = seen('a', Disk::Absent, Standing::Failed { retry_at: NOW });
        assert_eq!(at(&[unwanted, past]), None, "nothing follows from either");
    }
}

//! The verdict on a node: its condition, and whether rewritten pods must keep away from it.

use std::collections::BTreeSet;
use std::time::Duration;

use headstart_externals::arch::Arch;
use headstart_externals::fault::FaultReason;
use headstart_externals::report::{NodeReport, VersionReport, VersionState};
use headstart_externals::state::{Phase, PublishedVersion};
use headstart_externals::version::VersionName;

use super::reports::Seen;
use crate::publish::{NodeView, is_leftover, is_mountable};

/// Why a startup taint goes from a node that has what pods may look for.
const READY: &str = "the cache is ready";

/// The same for one to which no pod comes that would look for it.
const AVOIDED: &str = "rewritten pods keep away";

/// How long whoever makes a node may take to give it the labels by which it is selected.
const LABELLING: Duration = Duration::from_secs(60);

/// What is said about a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The condition `headstart.dev/CacheReady`.
    pub condition: Condition,
    /// Whether the node gave up a version that pods are given now, or were given last.
    pub is_unserviceable: bool,
    /// Why nothing need keep pods away any more, if so.
    pub opens: Option<&'static str>,
}

/// The parts of a node condition that we decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// One word.
    pub reason: String,
    /// For people.
    pub message: String,
}

impl Verdict {
    /// A node of this age that no agent runs on; pods that are given a version select other nodes.
    pub fn not_selected(age: Duration) -> Self {
        let message = "no agent runs here: `nodeSelector` of the configuration does not select this node";
        let condition = told("Unknown", "NotSelected", message);
        Self { condition, is_unserviceable: false, opens: (age >= LABELLING).then_some(AVOIDED) }
    }
}

/// Judges a node by its last report; one that is stale keeps its verdict on pods.
pub fn judge(node: &NodeView, seen: Option<&Seen>, versions: &[PublishedVersion]) -> Verdict {
    let is_unserviceable = named(versions).any(|version| node.gave_up(&version.name));
    Verdict { condition: condition(seen), is_unserviceable, opens: opens(seen, versions) }
}

impl Verdict {
    /// The same for a node that rewritten pods keep away from by its label.
    pub(super) fn opens(&self, is_labelled: bool) -> Option<&'static str> {
        self.opens.or((self.is_unserviceable && is_labelled).then_some(AVOIDED))
    }
}

/// What new pods are given. Where a profile offers nothing now, what those name that were given it before: they may still
/// be looking for a node.
fn named(versions: &[PublishedVersion]) -> impl Iterator<Item = &PublishedVersion> {
    let offers = |profile: &str| {
        let mut offered = versions.iter().filter(|version| version.phase == Phase::Offered);
        offered.any(|version| version.name.profile() == profile)
    };
    versions.iter().filter(move |version| match version.phase {
        Phase::Offered => true,
        Phase::Retiring => !is_leftover(version) && !offers(version.name.profile()),
        Phase::Retired | Phase::Unknown => false,
    })
}

/// Why startup taints may go, if so: all offered versions that are made for the node are on it; with nothing offered yet,
/// all that it wants and can ever have. One that can have nothing then keeps nobody away, since no pod is rewritten.
fn opens(seen: Option<&Seen>, versions: &[PublishedVersion]) -> Option<&'static str> {
    let Some(Seen { report: Some(report), is_stale: false }) = seen else { return None };
    let holds = |name: &VersionName| {
        report.versions.iter().any(|version| version.name == *name && is_mountable(version))
    };
    let mut offered = versions.iter().filter(|version| version.phase == Phase::Offered).peekable();
    if offered.peek().is_some() {
        let is_for_it = |arches: &BTreeSet<Arch>| arches.is_empty() || report.arch.is_among(arches);
        let is_served = offered.all(|version| !is_for_it(&version.arches) || holds(&version.name));
        return (report.fault.is_none() && is_served).then_some(READY);
    }
    if let Some(fault) = report.fault {
        return fault.is_final().then_some(AVOIDED);
    }
    let mut wanted = report.versions.iter().filter(|version| version.wanted).peekable();
    wanted.peek()?;
    let can_have = |version: &&VersionReport| {
        let is_hopeless = |reason: FaultReason| reason.is_final() || reason == FaultReason::NoSourceForArch;
        !version.reason.is_some_and(is_hopeless)
    };
    let mut possible = wanted.filter(can_have).peekable();
    let why = if possible.peek().is_some() { READY } else { AVOIDED };
    possible.all(is_mountable).then_some(why)
}

fn condition(seen: Option<&Seen>) -> Condition {
    match seen {
        Some(Seen { report: Some(report), is_stale: false }) => of_report(report),
        Some(Seen { is_stale: true, .. }) => {
            told("Unknown", "ReportStale", "the agent has not reported for three minutes")
        }
        Some(Seen { report: None, .. }) => {
            told("Unknown", "ReportUnreadable", "the agent's report cannot be read")
        }
        None => told("Unknown", "NoReport", "the agent has not reported yet"),
    }
}

fn of_report(report: &NodeReport) -> Condition {
    if let Some(fault) = report.fault {
        return told("False", &fault.to_string(), fault.remedy());
    }
    let wanted: Vec<&VersionReport> = report.versions.iter().filter(|version| version.wanted).collect();
    if wanted.is_empty() {
        return told("Unknown", "NothingWanted", "the agent knows of no version that it should keep");
    }
    let names = |versions: &[&VersionReport]| {
        versions.iter().map(|version| version.name.to_string()).collect::<Vec<_>>().join(", ")
    };
    let missing: Vec<&VersionReport> =
        wanted.iter().copied().filter(|version| version.state != VersionState::Ready).collect();
    let Some(first) = missing.first() else {
        return told("True", "CacheReady", &format!("ready: {}", names(&wanted)));
    };
    match missing.iter().find_map(|version| version.reason.map(|reason| (version, reason))) {
        Some((version, reason)) => {
            told("False", &reason.to_string(), &format!("{}: {}", version.name, reason.remedy()))
        }
        None => told("False", "Installing", &format!("{} is not ready yet", first.name)),
    }
}

fn told(status: &'static str, reason: &str, message: &str) -> Condition {
    Condition { status, reason: reason.to_owned(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use headstart_externals::config::Config;
    use headstart_externals::state::PublishedState;

    use super::*;

    #[test]
    fn a_node_is_served_when_it_has_all_that_is_offered_or_else_all_that_it_wants() {
        let served = |report: &NodeReport, is_stale: bool, versions: &[PublishedVersion]| {
            opens(Some(&Seen { report: Some(report.clone()), is_stale }), versions) == Some(READY)
        };
        let offered = PublishedState::immediate(&Config::embedded().unwrap()).versions;
        let ready = report("ready", None);
        assert_eq!(opens(None, &offered), None, "nobody reported");
        assert!(served(&ready, false, &offered) && served(&ready, false, &[]));
        assert!(!served(&ready, true, &offered), "the agent fell silent");
        assert!(served(&report("kept", None), false, &offered), "it is there");
        let installing = report("installing", None);
        assert!(!served(&installing, false, &offered) && !served(&installing, false, &[]));
        let mut locked = ready.clone();
        locked.fault = Some(FaultReason::RootLocked);
        assert!(!served(&locked, false, &offered));
        let idle = NodeReport::new("one", Arch::Amd64, None, Vec::new());
        assert!(!served(&idle, false, &[]), "it does not know yet what it should have");
        let mut elsewhere = offered.clone();
        elsewhere[0].arches = [Arch::Arm64].into();
        assert!(served(&idle, false, &elsewhere), "no pod with that version comes here");
        // A newer revision that is still being installed keeps nobody away from the one that pods are given.
        let mut upgrading = ready;
        upgrading.versions.push(
            serde_json::from_str(r#"{"name":"node16-0123456789ab","state":"pending","wanted":true}"#)
                .unwrap(),
        );
        assert!(served(&upgrading, false, &offered));
    }

    #[test]
    fn a_node_that_can_have_nothing_is_opened_while_nothing_is_offered() {
        let why = |report: &NodeReport, versions: &[PublishedVersion]| {
            opens(Some(&Seen { report: Some(report.clone()), is_stale: false }), versions)
        };
        let offered = PublishedState::immediate(&Config::embedded().unwrap()).versions;
        for reason in [FaultReason::DiskFull, FaultReason::NoExec, FaultReason::NoSourceForArch] {
            let hopeless = report("failed", Some(reason));
            assert_eq!(why(&hopeless, &[]), Some(AVOIDED), "{reason}");
            assert_eq!(why(&hopeless, &offered), None, "{reason}: the label comes first");
        }
        let trying = report("failed", Some(FaultReason::SourceUnavailable));
        assert_eq!(why(&trying, &[]), None, "it may still get it");
        let mut both = report("failed", Some(FaultReason::NoSourceForArch));
        both.versions.extend(report("installing", None).versions);
        assert_eq!(why(&both, &[]), None, "it gets the other one");
        let mut broken = report("installing", None);
        broken.fault = Some(FaultReason::NoExec);
        assert_eq!(why(&broken, &[]), Some(AVOIDED));
        broken.fault = Some(FaultReason::RootLocked);
        assert_eq!(why(&broken, &[]), None);
    }

    #[test]
    fn a_node_that_is_not_selected_is_opened_once_it_has_had_time_to_be() {
        let opens = |seconds| Verdict::not_selected(Duration::from_secs(seconds)).opens;
        assert_eq!((opens(59), opens(60)), (None, Some(AVOIDED)));
    }

    fn report(state: &str, reason: Option<FaultReason>) -> NodeReport {
        let name = &PublishedState::immediate(&Config::embedded().unwrap()).versions[0].name;
        let mut version: VersionReport =
            serde_json::from_str(&format!(r#"{{"name":"{name}","state":"{state}","wanted":true}}"#)).unwrap();
        version.reason = reason;
        NodeReport::new("one", Arch::Amd64, None, vec![version])
    }

    fn verdict(report: Option<NodeReport>, is_stale: bool) -> Verdict {
        verdict_in(Phase::Offered, report, is_stale)
    }

    fn verdict_in(phase: Phase, report: Option<NodeReport>, is_stale: bool) -> Verdict {
        let node = NodeView {
            name: "one".to_owned(),
            labels: BTreeMap::new(),
            ready: true,
            age: Duration::ZERO,
            report: report.clone(),
            is_stale,
        };
        let mut versions = PublishedState::immediate(&Config::embedded().unwrap()).versions;
        versions[0].phase = phase;
        judge(&node, Some(&Seen { report, is_stale }), &versions)
    }

    #[test]
    fn the_condition_tells_the_first_thing_that_is_wrong() {
        let said = |verdict: Verdict| (verdict.condition.status, verdict.condition.reason);
        assert_eq!(said(verdict(Some(report("ready", None)), false)), ("True", "CacheReady".to_owned()));
        assert_eq!(
            said(verdict(Some(report("installing", None)), false)),
            ("False", "Installing".to_owned())
        );
        let full = report("failed", Some(FaultReason::DiskFull));
        assert_eq!(said(verdict(Some(full.clone()), false)), ("False", "DiskFull".to_owned()));
        assert_eq!(said(verdict(Some(full), true)), ("Unknown", "ReportStale".to_owned()));
        assert_eq!(said(verdict(None, false)), ("Unknown", "ReportUnreadable".to_owned()));
        let idle = NodeReport::new("one", Arch::Amd64, None, Vec::new());
        assert_eq!(said(verdict(Some(idle), false)), ("Unknown", "NothingWanted".to_owned()));
        let mut locked = report("ready", None);
        locked.fault = Some(FaultReason::RootLocked);
        assert_eq!(said(verdict(Some(locked), false)), ("False", "RootLocked".to_owned()));
    }

    #[test]
    fn only_a_final_fault_keeps_pods_away_also_when_the_agent_fell_silent() {
        assert!(
            !verdict(Some(report("failed", Some(FaultReason::SourceUnavailable))), false).is_unserviceable
        );
        let no_exec = report("failed", Some(FaultReason::NoExec));
        assert!(verdict(Some(no_exec.clone()), false).is_unserviceable);
        assert!(verdict(Some(no_exec), true).is_unserviceable);
    }

    #[test]
    fn a_node_stays_unserviceable_where_nobody_is_left_to_offer_what_pods_name() {
        let full = || Some(report("failed", Some(FaultReason::DiskFull)));
        assert!(verdict_in(Phase::Retiring, full(), false).is_unserviceable, "pods still name it");
        assert!(!verdict_in(Phase::Retired, full(), false).is_unserviceable);
        let mut versions = PublishedState::immediate(&Config::embedded().unwrap()).versions;
        let mut newer = versions[0].clone();
        newer.name = "node16-0123456789ab".parse().unwrap();
        versions[0].phase = Phase::Retiring;
        let old = versions[0].name.clone();
        let names =
            |versions: &[PublishedVersion]| named(versions).map(|it| it.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&versions), std::slice::from_ref(&old));
        versions.push(newer.clone());
        assert_eq!(names(&versions), [newer.name.clone()], "new pods are given another one");
        newer.phase = Phase::Retiring;
        (newer.recipe, newer.images) = (None, Vec::new());
        versions[1] = newer;
        assert_eq!(names(&versions), [old], "a leftover stands for nothing");
    }
}

//! The verdict on a node: its condition, and whether rewritten pods must keep away from it.

use std::collections::BTreeSet;

use headstart_externals::arch::Arch;
use headstart_externals::fault::FaultReason;
use headstart_externals::report::{NodeReport, VersionReport, VersionState};
use headstart_externals::state::{Phase, PublishedVersion};
use headstart_externals::version::VersionName;

use super::reports::Seen;
use crate::publish::{NodeView, is_mountable};

/// What is said about a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The condition `headstart.dev/CacheReady`.
    pub condition: Condition,
    /// Whether the node gave up a version that pods are given now.
    pub is_unserviceable: bool,
    /// Whether pods would find all that they can be given, so that nothing need keep them away any more.
    pub is_served: bool,
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
    /// A node that no agent runs on any more.
    pub fn not_selected() -> Self {
        let message = "no agent runs here: `nodeSelector` of the configuration does not select this node";
        let condition = told("Unknown", "NotSelected", message);
        Self { condition, is_unserviceable: false, is_served: false }
    }
}

/// Judges a node by its last report; one that is stale keeps its verdict on pods.
pub fn judge(node: &NodeView, seen: Option<&Seen>, versions: &[PublishedVersion]) -> Verdict {
    let offered = versions.iter().filter(|version| version.phase == Phase::Offered);
    let is_unserviceable = offered.into_iter().any(|version| node.gave_up(&version.name));
    Verdict { condition: condition(seen), is_unserviceable, is_served: is_served(seen, versions) }
}

/// Whether all offered versions that are made for the node are on it; with nothing offered yet, all that it wants.
fn is_served(seen: Option<&Seen>, versions: &[PublishedVersion]) -> bool {
    let Some(Seen { report: Some(report), is_stale: false }) = seen else { return false };
    if report.fault.is_some() {
        return false;
    }
    let holds = |name: &VersionName| {
        report.versions.iter().any(|version| version.name == *name && is_mountable(version))
    };
    let mut offered = versions.iter().filter(|version| version.phase == Phase::Offered).peekable();
    if offered.peek().is_some() {
        let is_for_it = |arches: &BTreeSet<Arch>| arches.is_empty() || report.arch.is_among(arches);
        return offered.all(|version| !is_for_it(&version.arches) || holds(&version.name));
    }
    let can_have = |version: &&VersionReport| version.reason != Some(FaultReason::NoSourceForArch);
    let mut wanted = report.versions.iter().filter(|version| version.wanted).filter(can_have).peekable();
    wanted.peek().is_some() && wanted.all(is_mountable)
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
    use std::time::Duration;

    use headstart_externals::config::Config;
    use headstart_externals::state::PublishedState;

    use super::*;

    #[test]
    fn a_node_is_served_when_it_has_all_that_is_offered_or_else_all_that_it_wants() {
        let served = |report: &NodeReport, is_stale: bool, versions: &[PublishedVersion]| {
            is_served(Some(&Seen { report: Some(report.clone()), is_stale }), versions)
        };
        let offered = PublishedState::immediate(&Config::embedded().unwrap()).versions;
        let ready = report("ready", None);
        assert!(!is_served(None, &offered), "nobody reported");
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

    fn report(state: &str, reason: Option<FaultReason>) -> NodeReport {
        let name = &PublishedState::immediate(&Config::embedded().unwrap()).versions[0].name;
        let mut version: VersionReport =
            serde_json::from_str(&format!(r#"{{"name":"{name}","state":"{state}","wanted":true}}"#)).unwrap();
        version.reason = reason;
        NodeReport::new("one", Arch::Amd64, None, vec![version])
    }

    fn verdict(report: Option<NodeReport>, is_stale: bool) -> Verdict {
        let node = NodeView {
            name: "one".to_owned(),
            labels: BTreeMap::new(),
            ready: true,
            age: Duration::ZERO,
            report: report.clone(),
            is_stale,
        };
        let versions = PublishedState::immediate(&Config::embedded().unwrap()).versions;
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
}

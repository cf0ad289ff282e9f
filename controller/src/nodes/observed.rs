//! What is worth telling of a node: what changed since it was last looked at, and faults that were there before.

use std::collections::{BTreeMap, BTreeSet};

use headstart_externals::fault::FaultReason;
use headstart_externals::report::NodeReport;
use headstart_externals::version::VersionName;

use super::condition::Verdict;
use crate::news::News;

/// A node as it was last seen in this leader's term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Observed {
    status: &'static str,
    /// Reason and message of the condition, where something is wrong that does not belong to an install.
    fault: Option<(String, String)>,
    is_unserviceable: bool,
    /// Versions that are damaged now.
    damaged: BTreeSet<VersionName>,
    /// By version, how often damage was repaired since the agent started.
    repairs: BTreeMap<VersionName, u32>,
}

impl Observed {
    /// What a verdict and the report that it follows from say.
    pub(super) fn new(verdict: &Verdict, report: Option<&NodeReport>) -> Self {
        let condition = &verdict.condition;
        let is_fault = condition.status == "False" && !is_passing(&condition.reason);
        let versions = || report.into_iter().flat_map(|report| &report.versions);
        let damaged = versions().filter(|version| version.reason == Some(FaultReason::CheckFailed));
        Self {
            status: condition.status,
            fault: is_fault.then(|| (condition.reason.clone(), condition.message.clone())),
            is_unserviceable: verdict.is_unserviceable,
            damaged: damaged.map(|version| version.name.clone()).collect(),
            repairs: versions().map(|version| (version.name.clone(), version.repairs)).collect(),
        }
    }

    /// What is news after `before`. Of a node that is seen for the first time only faults are: what is well with it was so
    /// before this term, as far as anybody knows. That an install is over is none while a rollout makes all nodes install.
    pub(super) fn news(&self, before: Option<&Self>, is_rolling: bool) -> Vec<News> {
        let mut news = self.damage(before);
        let fault = |observed: &Self| observed.fault.as_ref().map(|(reason, _)| reason.clone());
        if let Some((reason, message)) = &self.fault
            && before.and_then(fault).as_ref() != Some(reason)
        {
            news.push(News::warning("CacheFailed", format!("{reason}: {message}")));
        }
        let was_unserviceable = before.is_some_and(|before| before.is_unserviceable);
        if self.is_unserviceable && !was_unserviceable {
            news.push(News::warning(
                "CacheUnserviceable",
                "pods that need the cache keep away from this node",
            ));
        } else if was_unserviceable && !self.is_unserviceable {
            news.push(News::normal(
                "CacheServiceable",
                "pods that need the cache may come to this node again",
            ));
        }
        let was_lacking = |before: &Self| before.status == "False" && (before.fault.is_some() || !is_rolling);
        if self.status == "True" && before.is_some_and(was_lacking) {
            news.push(News::normal("CacheReady", "all versions that belong on this node are ready"));
        }
        news
    }

    fn damage(&self, before: Option<&Self>) -> Vec<News> {
        let is_new = |version: &&VersionName| before.is_none_or(|before| !before.damaged.contains(*version));
        let damaged = self.damaged.iter().filter(is_new).map(|version| {
            News::warning("CacheDamaged", format!("what is on disk of {version} is not what was written"))
        });
        let repaired = self.repairs.iter().filter(|(version, repairs)| {
            before.and_then(|before| before.repairs.get(version)).is_some_and(|before| *repairs > before)
        });
        let repaired = repaired.map(|(version, repairs)| {
            News::normal(
                "CacheRepaired",
                format!("damage to {version} was repaired; {repairs} times since the agent started"),
            )
        });
        damaged.chain(repaired).collect()
    }
}

/// Whether a reason belongs to every install, or only says that nothing was tried.
fn is_passing(reason: &str) -> bool {
    reason == "Installing"
        || [FaultReason::WaitingForStage, FaultReason::Cancelled]
            .iter()
            .any(|known| reason == known.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use headstart_externals::arch::Arch;
    use headstart_externals::config::Config;
    use headstart_externals::report::VersionReport;
    use headstart_externals::state::PublishedState;

    use super::super::{Seen, judge};
    use super::*;
    use crate::publish::NodeView;

    fn observed(state: &str, reason: Option<FaultReason>, repairs: u32) -> Observed {
        let versions = PublishedState::immediate(&Config::embedded().unwrap()).versions;
        let name = &versions[0].name;
        let mut version: VersionReport =
            serde_json::from_str(&format!(r#"{{"name":"{name}","state":"{state}","wanted":true}}"#)).unwrap();
        (version.reason, version.repairs) = (reason, repairs);
        let report = NodeReport::new("one", Arch::Amd64, None, vec![version]);
        let node = NodeView {
            name: "one".to_owned(),
            labels: BTreeMap::new(),
            ready: true,
            age: Duration::ZERO,
            report: Some(report.clone()),
            is_stale: false,
        };
        let seen = Seen { report: Some(report.clone()), is_stale: false };
        Observed::new(&judge(&node, Some(&seen), &versions), Some(&report))
    }

    fn told(now: &Observed, before: Option<&Observed>) -> Vec<&'static str> {
        now.news(before, false).into_iter().map(|news| news.reason).collect()
    }

    #[test]
    fn only_changes_are_told_and_faults_that_were_there_before() {
        let installing = observed("installing", None, 0);
        let ready = observed("ready", None, 0);
        assert!(told(&ready, None).is_empty(), "it was so before this term");
        assert_eq!(told(&ready, Some(&installing)), ["CacheReady"]);
        assert!(ready.news(Some(&installing), true).is_empty(), "every node does that now");
        let silent = Observed { status: "Unknown", ..ready.clone() };
        assert!(told(&ready, Some(&silent)).is_empty(), "nobody said that it was not");
        assert!(told(&ready, Some(&ready)).is_empty());
        assert!(told(&installing, Some(&ready)).is_empty());
        let waiting = observed("pending", Some(FaultReason::WaitingForStage), 0);
        assert!(told(&waiting, None).is_empty(), "every install begins like that");
        let denied = observed("failed", Some(FaultReason::SourceDenied), 0);
        assert_eq!(told(&denied, None), ["CacheFailed"]);
        assert!(denied.news(None, false)[0].note.starts_with("SourceDenied: node16-"));
        assert!(told(&denied, Some(&denied)).is_empty());
        let full = observed("failed", Some(FaultReason::DiskFull), 0);
        assert_eq!(told(&full, Some(&denied)), ["CacheFailed", "CacheUnserviceable"]);
        assert_eq!(told(&ready, Some(&full)), ["CacheServiceable", "CacheReady"]);
    }

    #[test]
    fn damage_and_its_repair_are_told_also_where_nobody_saw_it_in_between() {
        let ready = observed("ready", None, 0);
        let damaged = observed("failed", Some(FaultReason::CheckFailed), 0);
        let repaired = observed("ready", None, 1);
        assert_eq!(told(&damaged, Some(&ready)), ["CacheDamaged", "CacheFailed", "CacheUnserviceable"]);
        assert_eq!(told(&repaired, Some(&damaged)), ["CacheRepaired", "CacheServiceable", "CacheReady"]);
        assert_eq!(told(&repaired, Some(&ready)), ["CacheRepaired"]);
        assert!(told(&ready, Some(&repaired)).is_empty(), "the agent started anew");
    }
}

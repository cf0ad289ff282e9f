//! The agents' reports, read from Leases, and when each was last renewed by this process' own clock: clocks of nodes
//! are never compared.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use headstart_externals::names::REPORT_ANNOTATION;
use headstart_externals::report::NodeReport;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;

use super::resource_version::is_at_least;

/// How long a report counts that is not renewed; agents renew theirs every minute.
const STALE_AFTER: Duration = Duration::from_secs(180);

/// How long no Lease at all may change before it is doubted that anybody would hear of it.
const SILENT: Duration = Duration::from_secs(90);

/// Every node's report as it was last read, and when its Lease was last seen to change.
#[derive(Default)]
pub struct Reports {
    known: HashMap<String, Known>,
    /// When the API server itself was last asked for all of them.
    listed: Option<Instant>,
}

#[derive(Clone)]
struct Known {
    resource_version: String,
    at: Instant,
    report: Option<NodeReport>,
}

/// One node's report.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What it says; `None` where it cannot be read.
    pub report: Option<NodeReport>,
    /// Whether it has not been renewed for long.
    pub is_stale: bool,
}

impl Reports {
    /// Whether the watch may be dead: somebody should ask the API server itself, and give the answer to [`Reports::listed`].
    pub fn is_doubtful(&self, now: Instant) -> bool {
        self.heard().is_some_and(|heard| now.duration_since(heard) > SILENT)
    }

    /// All reports as the API server listed them just now.
    pub fn listed<'l>(
        &mut self,
        leases: impl Iterator<Item = &'l Lease>,
        now: Instant,
    ) -> HashMap<String, Seen> {
        self.listed = Some(now);
        self.read(leases, now)
    }

    /// When it was last certain that the newest reports are known.
    fn heard(&self) -> Option<Instant> {
        let newest = self.known.values().map(|known| known.at).max()?;
        Some(self.listed.map_or(newest, |listed| listed.max(newest)))
    }

    /// All reports by node. None becomes stale while nobody knows whether the others are renewed.
    pub fn read<'l>(
        &mut self,
        leases: impl Iterator<Item = &'l Lease>,
        now: Instant,
    ) -> HashMap<String, Seen> {
        let before = std::mem::take(&mut self.known);
        for lease in leases {
            let (node, resource_version) = (lease.name_any(), lease.resource_version().unwrap_or_default());
            let known = match before.get(&node) {
                // Of two readings the newer one counts: a watch may be behind a list.
                Some(known) if is_at_least(&known.resource_version, &resource_version) => known.clone(),
                _ => Known { resource_version, at: now, report: parse(lease, &node) },
            };
            self.known.insert(node, known);
        }
        let certain = self.heard().map_or(now, |heard| now.min(heard + SILENT));
        let seen = |Known { at, report, .. }: &Known| Seen {
            report: report.clone(),
            is_stale: certain.duration_since(*at) > STALE_AFTER,
        };
        self.known.iter().map(|(node, known)| (node.clone(), seen(known))).collect()
    }
}

/// Whether a report was written before its node was made: for an earlier node of the same name. Both times are those of the
/// API server.
pub fn is_of_earlier_node(lease: &Lease, node: &Node) -> bool {
    let entries = lease.metadata.managed_fields.iter().flatten();
    let written = entries.filter_map(|entry| Some(entry.time.as_ref()?.0)).max();
    let made = node.creation_timestamp().map(|time| time.0);
    written.zip(made).is_some_and(|(written, made)| written < made)
}

/// A report that names another node than its Lease counts as unreadable.
fn parse(lease: &Lease, node: &str) -> Option<NodeReport> {
    let parsed = NodeReport::parse(lease.annotations().get(REPORT_ANNOTATION)?);
    match parsed {
        Ok(report) if report.node == node => Some(report),
        Ok(report) => {
            tracing::warn!(node, named = report.node, "a report names another node; it is ignored");
            None
        }
        Err(problem) => {
            tracing::warn!(node, problem, "a report cannot be read");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use headstart_externals::arch::Arch;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, Time};
    use kube::api::ObjectMeta;

    use super::*;

    fn lease(node: &str, named: &str, version: &str) -> Lease {
        let report = NodeReport::new(named, Arch::Amd64, None, Vec::new()).encode();
        let metadata = ObjectMeta {
            name: Some(node.to_owned()),
            resource_version: Some(version.to_owned()),
            annotations: Some(BTreeMap::from([(REPORT_ANNOTATION.to_owned(), report)])),
            ..ObjectMeta::default()
        };
        Lease { metadata, ..Lease::default() }
    }

    #[test]
    fn a_report_is_stale_when_its_lease_stops_changing() {
        let (mut reports, begun) = (Reports::default(), Instant::now());
        let mut is_stale = |version: &str, seconds: u64| {
            let now = begun + Duration::from_secs(seconds);
            let other = lease("two", "two", &seconds.to_string());
            reports.read([lease("one", "one", version), other].iter(), now)["one"].is_stale
        };
        assert!(!is_stale("1", 0));
        assert!(!is_stale("1", 180));
        assert!(is_stale("1", 181));
        assert!(!is_stale("2", 182), "renewed");
    }

    #[test]
    fn a_report_that_is_older_than_its_node_is_of_another_one() {
        let at = |second: i64| Time(jiff::Timestamp::from_second(second).unwrap());
        let of_earlier = |written: Option<i64>, made: i64| {
            let mut lease = lease("one", "one", "1");
            let entry = ManagedFieldsEntry { time: written.map(at), ..ManagedFieldsEntry::default() };
            lease.metadata.managed_fields = Some(vec![ManagedFieldsEntry::default(), entry]);
            let metadata = ObjectMeta { creation_timestamp: Some(at(made)), ..ObjectMeta::default() };
            is_of_earlier_node(&lease, &Node { metadata, ..Node::default() })
        };
        assert!(of_earlier(Some(6), 7));
        assert!(!of_earlier(Some(7), 7), "nobody can tell within a second");
        assert!(!of_earlier(Some(8), 7) && !of_earlier(None, 7));
    }

    #[test]
    fn where_nothing_is_renewed_the_api_server_is_asked_before_all_are_stale() {
        let (mut reports, begun) = (Reports::default(), Instant::now());
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        let one = |version: &str| [lease("one", "one", version)];
        assert!(!reports.is_doubtful(at(0)), "there is nothing to hear of");
        reports.read(one("1").iter(), at(0));
        assert!(!reports.is_doubtful(at(90)) && reports.is_doubtful(at(91)));
        assert!(!reports.read(one("1").iter(), at(3600))["one"].is_stale, "nobody knows");
        assert!(!reports.listed(one("9").iter(), at(3600))["one"].is_stale, "the watch was dead");
        assert!(!reports.read(one("1").iter(), at(3601))["one"].is_stale, "and still is");
        reports.listed(one("9").iter(), at(3700));
        assert!(reports.listed(one("9").iter(), at(3781))["one"].is_stale, "the agent is silent indeed");
    }

    #[test]
    fn a_report_for_another_node_is_ignored() {
        let seen = Reports::default().read([lease("one", "two", "1")].iter(), Instant::now());
        assert!(seen["one"].report.is_none());
    }
}

//! What the Lease of a node says.

use headstart_externals::names::{REPORT_ANNOTATION, REPORT_LABEL, REPORT_NODE};
use headstart_externals::report::NodeReport;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

/// Seconds after which a report that was not renewed is stale.
const STALE_AFTER: i32 = 180;

/// The Lease that carries `report`: what others wrote into the one that was `found` stays.
///
/// It has no owner: a Lease has a namespace and a Node has none, so the controller removes it with the node.
pub fn carrying(report: &NodeReport, found: Option<Lease>, renewed: Timestamp) -> Lease {
    let mut lease = found.unwrap_or_default();
    let metadata = &mut lease.metadata;
    metadata.name = Some(report.node.clone());
    metadata.labels.get_or_insert_default().insert(REPORT_LABEL.to_owned(), REPORT_NODE.to_owned());
    metadata.annotations.get_or_insert_default().insert(REPORT_ANNOTATION.to_owned(), report.encode());
    let spec = lease.spec.get_or_insert_default();
    spec.holder_identity = Some(report.node.clone());
    spec.lease_duration_seconds = Some(STALE_AFTER);
    spec.renew_time = Some(MicroTime(renewed));
    lease
}

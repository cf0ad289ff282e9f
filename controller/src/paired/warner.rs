//! Looks for such runners, only when a namespace lost hostPath, and warns by an Event.

use std::collections::BTreeSet;
use std::time::Duration;

use headstart_externals::state::Allowed;
use headstart_runtime::cluster::{CallError, within};
use headstart_runtime::trouble::Trouble;
use k8s_openapi::api::core::v1::{Namespace, ObjectReference, Pod};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource as _, ResourceExt as _};

use super::losses::{counts_on_host_path, has_host_path, lost, note, runners};
use crate::metrics::Metrics;
use crate::probe::refuses_host_path;

/// Longest time for one call.
const CALL: Duration = Duration::from_secs(5);

/// Warns once per change; what failed is tried again in the next round, and stops nothing else.
pub struct Warner {
    client: Client,
    metrics: Metrics,
    /// Namespaces that lost hostPath and were not looked at yet. A new leader does not know of them.
    pending: BTreeSet<String>,
    trouble: Trouble,
}

impl Warner {
    /// A warner that has nothing to tell.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, metrics, pending: BTreeSet::new(), trouble: Trouble::default() }
    }

    /// Takes note of what is about to be published.
    pub fn note(&mut self, before: &Allowed, after: &Allowed) {
        self.pending.extend(lost(before, after).cloned());
        self.pending.retain(|namespace| !has_host_path(after, namespace));
    }

    /// Warns in the namespaces that were noted.
    pub async fn warn(&mut self) {
        while let Some(namespace) = self.pending.first().cloned() {
            if let Err(error) = self.warn_in(&namespace).await {
                self.metrics.failed("warnings");
                if self.trouble.is_news(&error) {
                    tracing::warn!(namespace, %error, "failed to look for paired runners; trying again");
                }
                return;
            }
            self.trouble.is_over();
            self.pending.remove(&namespace);
        }
    }

    async fn warn_in(&self, name: &str) -> Result<(), CallError> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let found = within(CALL, namespaces.get_opt(name)).await?;
        let refuses = |found: &Namespace| {
            found.metadata.deletion_timestamp.is_none() && refuses_host_path(found.labels())
        };
        let Some(namespace) = found.filter(refuses) else { return Ok(()) };
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), name);
        let pods = within(CALL, pods.list_metadata(&runners())).await?;
        let count = pods.items.iter().filter(|pod| counts_on_host_path(&pod.metadata)).count();
        if count > 0 {
            self.tell(&namespace, name, count).await?;
            self.metrics.warned_of_paired_runners(count);
            tracing::warn!(
                namespace = name,
                runners = count,
                "hostPath is not allowed any more, but paired runners need it"
            );
        }
        Ok(())
    }

    /// The Event lies in the namespace that it is about: whoever runs the jobs can read it there, and an API server
    /// counts a Namespace as part of itself, too, when it asks who may do what.
    async fn tell(&self, namespace: &Namespace, name: &str, count: usize) -> Result<(), CallError> {
        let event = Event {
            type_: EventType::Warning,
            reason: "PairedRunnersNeedHostPath".to_owned(),
            note: Some(note(count)),
            action: "Publish".to_owned(),
            secondary: None,
        };
        let about = ObjectReference { namespace: Some(name.to_owned()), ..namespace.object_ref(&()) };
        // A new one each time: it would repeat an earlier Event with the earlier count.
        let recorder = Recorder::new(self.client.clone(), Reporter::from("headstart-controller"));
        within(CALL, recorder.publish(&event, &about)).await
    }
}

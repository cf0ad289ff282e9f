//! Which namespaces lost hostPath, which of their pods count on it, and what people are told.

use headstart_externals::names::{DECISION_ANNOTATION, PAIRED_RUNNER, VERSION_LABEL};
use headstart_externals::state::{Allowed, MountKind};
use kube::api::{ListParams, ObjectMeta};

/// Label by which ARC marks its runners.
const RUNNER: &str = "actions-ephemeral-runner=True";

/// The namespaces that are not allowed a hostPath any more.
pub fn lost<'a>(before: &'a Allowed, after: &'a Allowed) -> impl Iterator<Item = &'a String> {
    let pairs = match before {
        Allowed::Namespaces(pairs) => Some(pairs),
        Allowed::Everywhere => None,
    };
    let had = pairs.into_iter().flatten().filter(|(_, kinds)| kinds.contains(&MountKind::HostPath));
    had.map(|(namespace, _)| namespace).filter(|namespace| !has_host_path(after, namespace))
}

/// Whether the namespace is allowed a hostPath.
pub(super) fn has_host_path(allowed: &Allowed, namespace: &str) -> bool {
    match allowed {
        Allowed::Everywhere => true,
        Allowed::Namespaces(pairs) => {
            pairs.get(namespace).is_some_and(|kinds| kinds.contains(&MountKind::HostPath))
        }
    }
}

/// The runners that carry a version and have not finished.
pub(super) fn runners() -> ListParams {
    let labels = format!("{RUNNER},{VERSION_LABEL}");
    ListParams::default().labels(&labels).fields("status.phase!=Succeeded,status.phase!=Failed")
}

/// Whether the workflow pods of this runner will ask for a hostPath. One that is being deleted starts none any more.
pub fn counts_on_host_path(pod: &ObjectMeta) -> bool {
    let decision = pod.annotations.as_ref().and_then(|annotations| annotations.get(DECISION_ANNOTATION));
    decision.is_some_and(|decision| decision == PAIRED_RUNNER) && pod.deletion_timestamp.is_none()
}

/// What the Event says.
pub(super) fn note(count: usize) -> String {
    let (runners, their) = if count == 1 { ("runner", "its") } else { ("runners", "their") };
    format!(
        "{count} paired {runners} got here while hostPath volumes were allowed, and {their} workflow pods still need \
         one. Admit hostPath until these runners have finished, or delete idle ones, so that others take their place."
    )
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn allowed(pairs: &[(&str, &[MountKind])]) -> Allowed {
        let pair = |(name, kinds): &(&str, &[MountKind])| {
            ((*name).to_owned(), kinds.iter().copied().collect::<BTreeSet<_>>())
        };
        Allowed::Namespaces(pairs.iter().map(pair).collect())
    }

    #[test]
    fn only_a_host_path_that_was_allowed_can_be_lost() {
        use MountKind::{HostPath, Image};
        let before =
            allowed(&[("a", &[HostPath]), ("b", &[HostPath, Image]), ("c", &[HostPath]), ("d", &[Image])]);
        let after = allowed(&[("b", &[Image]), ("c", &[HostPath]), ("e", &[HostPath])]);
        assert_eq!(lost(&before, &after).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(lost(&after, &after).count(), 0);
        assert_eq!(lost(&before, &Allowed::Everywhere).count(), 0);
    }

    #[test]
    fn a_runner_counts_while_it_may_start_jobs() {
        let pod = |decision: &str| ObjectMeta {
            annotations: Some(BTreeMap::from([(DECISION_ANNOTATION.to_owned(), decision.to_owned())])),
            ..ObjectMeta::default()
        };
        assert!(counts_on_host_path(&pod("runner-legacy/paired")));
        assert!(!counts_on_host_path(&pod("runner-legacy/lean")), "its workflow pods need nothing of us");
        assert!(!counts_on_host_path(&ObjectMeta::default()));
        let now = Some(Time(Timestamp::UNIX_EPOCH));
        assert!(!counts_on_host_path(&ObjectMeta { deletion_timestamp: now, ..pod("runner-legacy/paired") }));
    }

    #[test]
    fn an_event_fits_the_size_that_is_allowed() {
        assert!(note(1).starts_with("1 paired runner got here"));
        assert!(note(usize::MAX).len() < 1024);
    }
}

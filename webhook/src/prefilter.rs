//! A look at a review's bytes that passes over most pods which are none of Actions Runner Controller's, unparsed.
//!
//! Where namespaces opt in, other pods come by too, and parsing is most of the work for a pod. Every rule begins with
//! one of a few fixed words somewhere in the pod, so a pod without any of them can only be `not-arc`. The look knows
//! nothing of JSON, and need not: a word in another place (an annotation, an argument) costs one parse in vain; a
//! word that is spelled with JSON escapes, which the API server never does, leaves a pod unchanged.

use std::sync::LazyLock;

use headstart_externals::names::VERSION_LABEL;
use memchr::memmem::Finder;

use crate::pod::{EPHEMERAL_RUNNER, OLDER_RUNNER, RUNNER_POD};

/// Part of a mount of the only pods of ARC that have no label: those of legacy container steps.
const STEP: &str = "_runner_file_commands";

/// The labels are searched with their quotes: one of them is also part of the name of every runner's image.
static MARKS: LazyLock<[Finder<'static>; 4]> = LazyLock::new(|| {
    let label = |key: &str| Finder::new(&format!("\"{key}\"")).into_owned();
    [label(EPHEMERAL_RUNNER), label(RUNNER_POD), label(OLDER_RUNNER), Finder::new(STEP)]
});

/// Whether a rule may know the pod in a review; if not, it is none of ARC's.
pub(crate) fn may_concern(review: &[u8]) -> bool {
    MARKS.iter().any(|mark| mark.find(review).is_some())
}

/// The label that every pod carries which was given a version.
static OURS: LazyLock<Finder<'static>> =
    LazyLock::new(|| Finder::new(&format!("\"{VERSION_LABEL}\"")).into_owned());

/// Whether the pod in a review may carry the cache already.
pub(crate) fn may_be_ours(review: &[u8]) -> bool {
    OURS.find(review).is_some()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use serde_json::Value;

    use super::*;
    use crate::decide::{Context, decide};
    use crate::reason::Reason;

    fn files(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
    }

    /// Every recorded pod, also those within reviews.
    fn pods() -> Vec<(PathBuf, Value)> {
        let files = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures"));
        let json = files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "json"));
        let pod = |path: PathBuf| {
            let value: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let pod = value.pointer("/request/object").unwrap_or(&value).clone();
            (pod["kind"] == "Pod").then_some((path, pod))
        };
        json.filter_map(pod).collect()
    }

    #[test]
    fn a_pod_is_passed_over_exactly_if_it_is_not_arcs() {
        let pods = pods();
        assert!(pods.len() > 20, "only {}", pods.len());
        let mut passed_over = 0;
        for (path, pod) in pods {
            let context =
                Context { namespace: "n", kinds: &[], state: Err(Reason::StateUnknown), assumed: None };
            let concerns = may_concern(pod.to_string().as_bytes());
            let reason = decide(&mut pod.clone(), context).reason;
            assert_eq!(concerns, reason != Reason::NotArc, "{}: {reason}", path.display());
            passed_over += usize::from(!concerns);
        }
        assert!(passed_over > 0, "no fixture shows it");
    }

    #[test]
    fn the_name_of_a_runners_image_alone_is_no_mark() {
        assert!(!may_concern(br#"{"image":"ghcr.io/actions/actions-runner:2.330.0"}"#));
        assert!(may_concern(br#"{"labels":{"actions-runner":"x"}}"#));
    }
}

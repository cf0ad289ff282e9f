//! The names that Headstart puts into clusters; they are fixed interfaces and never change within `v1`.

/// `apiVersion` of every document that Headstart reads or writes.
pub const API_VERSION: &str = "headstart.dev/v1";

/// Namespace label by which users opt in: `hostpath`, `image` or `auto`.
pub const NAMESPACE_LABEL: &str = "headstart.dev/externals";

/// Pod label that names the version a pod was given.
pub const VERSION_LABEL: &str = "headstart.dev/version";

/// Pod annotation that tells which rule changed the pod.
pub const DECISION_ANNOTATION: &str = "headstart.dev/decision";

/// Value of [`DECISION_ANNOTATION`] on a paired runner, whose workflow pods ask for a hostPath by themselves.
pub const PAIRED_RUNNER: &str = "runner-legacy/paired";

/// Annotation of a paired runner: the hook template that its workflow pods are made with.
pub const TEMPLATE_ANNOTATION: &str = "headstart.dev/hook-template";

/// Node label that the controller sets on nodes whose cache reported a final fault.
pub const CACHE_LABEL: &str = "headstart.dev/cache";

/// Value of [`CACHE_LABEL`] that keeps rewritten pods away from a node.
pub const UNSERVICEABLE: &str = "unserviceable";

/// Condition of a node that tells whether its cache serves the wanted versions; the controller sets it.
pub const NODE_CONDITION: &str = "headstart.dev/CacheReady";

/// Label of the Lease that carries a node's report.
pub const REPORT_LABEL: &str = "headstart.dev/report";

/// Value of [`REPORT_LABEL`].
pub const REPORT_NODE: &str = "node";

/// Annotation of that Lease: the NodeReport, as JSON.
pub const REPORT_ANNOTATION: &str = "headstart.dev/node-report";

/// Key of the PublishedState, as JSON, in the ConfigMap that the controller writes.
pub const STATE_KEY: &str = "state.json";

/// Key of the PublishedRunnerSets, as JSON, in the same ConfigMap.
pub const RUNNER_SETS_KEY: &str = "runner-sets.json";

/// Label of namespaces and of AutoscalingRunnerSets by which users ask for parallel creation of runners, or forbid it.
pub const CREATION_LABEL: &str = "headstart.dev/parallel-creation";

/// Values of [`CREATION_LABEL`].
pub const CREATION_ENABLED: &str = "enabled";

/// See [`CREATION_ENABLED`].
pub const CREATION_DISABLED: &str = "disabled";

/// Label of every Secret that the controller makes for a runner, and of its journals: the UID of the runner set.
pub const RUNNER_SET_LABEL: &str = "headstart.dev/runner-set";

/// Prefixes of the taint keys that the controller may take from nodes: our own, those that Karpenter and the
/// node-readiness controller know, and those that the cluster autoscaler ignores while it scales up.
pub const STARTUP_TAINTS: [&str; 3] =
    ["headstart.dev/", "readiness.k8s.io/", "startup-taint.cluster-autoscaler.kubernetes.io/"];

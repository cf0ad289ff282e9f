//! What became of a pod and why: stable codes for metrics, logs, annotations and people.

use std::fmt;

/// Which shape of pod was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// A runner pod whose container hooks copy externals.
    RunnerLegacy,
    /// A runner pod with Docker in Docker.
    RunnerDind,
    /// A runner pod of the older controller, which copies externals when it starts.
    RunnerOlder,
    /// Any other runner pod.
    Runner,
    /// A workflow pod of hooks up to 0.7.0.
    WorkflowLegacy,
    /// A workflow pod of hooks from 0.8.0.
    WorkflowCurrent,
    /// The pod of a container step.
    Step,
}

/// What a reason means for the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The object was changed: a pod mounts the cache, a scale-up is pinned.
    Rewritten,
    /// There is nothing to do for this object.
    Expected,
    /// The user asked for it, by a label or in the configuration, and did not get it.
    Withheld,
}

/// Makes an enum of codes from one table, so that none is without a meaning and a remedy.
macro_rules! codes {
    ($(#[$doc:meta])* $name:ident: $($variant:ident, $code:literal, $outcome:ident, $meaning:literal, $remedy:literal;)+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $(#[doc = $meaning] $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The code in metrics, annotations and output.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// What it means for the user.
            pub const fn outcome(self) -> $crate::reason::Outcome {
                match self { $(Self::$variant => $crate::reason::Outcome::$outcome,)+ }
            }

            /// What happened, in words.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)+ }
            }

            /// What the user can do; empty where nothing is to be done.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy,)+ }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.code())
            }
        }
    };
}

pub(crate) use codes;

codes! {
    /// Why a pod was changed or left alone.
    Reason:
    Paired, "paired", Rewritten, "the runner's externals are links to the cached tree; the hook copies links", "";
    Lean, "lean", Rewritten, "the runner's externals are the cached tree; a few files of it are copied", "";
    Mounted, "mounted", Rewritten, "the cached tree is mounted; nothing is copied", "";
    Completed, "completed", Rewritten, "containers that were added later got the same mounts", "";
    AlreadyDone, "already-done", Expected, "the pod carries the cache already", "";
    NotArc, "not-arc", Expected, "the pod has no label of Actions Runner Controller", "";
    NotAPod, "not-a-pod", Expected, "the request does not create a pod", "";
    Mirror, "mirror", Expected, "a mirror pod shows what a kubelet runs already", "";
    Windows, "windows", Expected, "Windows pods have other paths and no container hooks", "";
    NoHooks, "no-hooks", Expected, "the runner uses no container hooks, so nothing is copied", "";
    HooksCurrent, "hooks-current", Expected, "these hooks copy nothing in the runner", "its workflow pods are rewritten instead";
    VersionUnknown, "version-unknown", Expected, "the pod names no version, so its runner has copied externals already", "nothing if the runner is lean; else see why the runner was left alone";
    StepLegacy, "step-legacy", Expected, "a container step: it mounts no externals", "";
    StepPlain, "step-plain", Expected, "a container step: its externals stay empty", "";
    StepToolCopy, "step-tool-copy", Expected, "a container step that runs tools from its own externals volume", "";
    Unreadable, "unreadable", Withheld, "a part of the pod has an unexpected type", "correct the pod; the API server will refuse it too";
    StateUnknown, "state-unknown", Withheld, "there is no published state, or none has been read yet", "check that headstart-controller runs and leads";
    StateStale, "state-stale", Withheld, "the published state was last read more than 60 s ago", "see the webhook's log for why it cannot read the state";
    Overloaded, "overloaded", Withheld, "the webhook had more to do than it could in time", "add replicas or processor time; see the metric headstart_webhook_shed_total";
    KindRefused, "kind-refused", Withheld, "this kind of volume is not known to work in this namespace", "see the namespace's policies, or ask for another kind by its label";
    NoVolumeImage, "no-volume-image", Withheld, "the version has no externals image", "set `volumeImage` of the revision in the configuration";
    ImageUnknown, "image-unknown", Withheld, "no offered version stands for this image", "add the image to the `images` of a profile, or wait until its version is offered";
    ImageAmbiguous, "image-ambiguous", Withheld, "several profiles stand for this image", "make the `images` of the profiles differ";
    VersionNotOffered, "version-not-offered", Withheld, "the pod's version label names no version that is offered or retiring", "do not set this label by hand; keep a revision until it is retired";
    HooksUnknown, "hooks-unknown", Withheld, "the profile does not list the runner's hook path", "add the path under `hooks.legacy` of the profile if that hook copies externals";
    NodeChosen, "node-chosen", Withheld, "a variable of the runner chooses a Node.js that the profile may omit", "remove the variable, or keep all entries in the profile";
    OwnersChanged, "owners-changed", Withheld, "a command of the runner changes owners, modes or externals, which fails on a read-only tree", "leave externals out of the runner's command and postStart hook";
    NodesExcluded, "nodes-excluded", Withheld, "the pod may only run on nodes without an agent", "let `nodeSelector` in the configuration, and the agent's DaemonSet, select those nodes too";
    ArchExcluded, "arch-excluded", Withheld, "the version is not made for the architecture of the only nodes that the pod may run on, or nobody knows which that is", "add a source for that architecture, or give the pod a nodeSelector for kubernetes.io/arch";
    UserNamespace, "user-namespace", Withheld, "in a user namespace the node may forbid to execute from a hostPath", "use the volume kind image, or run the pod with `hostUsers: true`";
    StartUnknown, "start-unknown", Withheld, "the runner does not start by the older controller's own script and folders", "use the image's entrypoint, /runnertmp and /runner";
    DockerSharesRunner, "docker-shares-runner", Withheld, "another container, such as a Docker daemon, shares the runner's folder", "run dockerd within the runner, or use container mode kubernetes";
    HomeUnknown, "home-unknown", Withheld, "the runner's folder is not an emptyDir mounted at /runner", "let the controller make that volume";
    VolumeUnknown, "volume-unknown", Withheld, "the volume of externals is not an emptyDir, or nothing mounts it", "use the volume of the chart";
    NoRunnerContainer, "no-runner-container", Withheld, "there is no container named runner", "name the container runner";
    WorkMountUnclear, "work-mount-unclear", Withheld, "the runner needs exactly one mount whose path ends in /_work", "mount the work volume once, at a path that ends in /_work";
    PathTaken, "path-taken", Withheld, "a volume of the pod's own lies at, above or below the externals path", "move that mount";
    NameTaken, "name-taken", Withheld, "a volume of the pod's own has one of Headstart's names", "rename the volume that begins with headstart-";
    InitReplaced, "init-replaced", Withheld, "the init container that fills externals is missing or another one", "let the hook template or chart keep it, if it is to be replaced by the cache";
    InitUnknown, "init-unknown", Withheld, "the init container that fills externals does not run the command of a known chart", "use the command of the chart";
    ScriptUnknown, "script-unknown", Withheld, "the script of fs-init is not one that the hooks write", "see the versions of container hooks that are known";
    ExternalsShared, "externals-shared", Withheld, "a container mounts externals in a way that may write to it", "see your pod or hook template for that mount";
    ShapeUnknown, "shape-unknown", Withheld, "a pod of the container hooks that has no known shape", "see the documentation for the shapes that are known";
    Internal, "internal", Withheld, "the edit could not be made", "please report this with the pod";
}

codes! {
    /// Why a runner was made lean although pairing would copy nothing at all.
    Unpaired:
    NoTemplates, "no-templates", Expected, "the hooks read no templates", "use a runner image with hooks from 0.4.0 and say `hooks.readTemplates: true`";
    ImageTemplate, "image-template", Expected, "the image brings a hook template of its own, or nobody looked", "say `hooks.ownTemplate: none` in the profile if it brings none";
    OwnTemplate, "own-template", Expected, "the pod names a hook template of its own", "";
    EnvFrom, "env-from", Expected, "the runner's environment comes from elsewhere and may name a hook template", "list the variables instead of using `envFrom`";
    WorkKept, "work-kept", Expected, "the work volume outlives the runner, or may hold externals already", "use a generic ephemeral volume without a source of data";
    VolumeKind, "volume-kind", Expected, "the cache is not a hostPath in this namespace", "";
    Scheduler, "scheduler", Expected, "the hook lets the scheduler place its pods", "";
    Place, "place", Expected, "the runner uses one of the paths or names that pairing needs", "";
}

impl Rule {
    /// Every rule.
    pub const ALL: &[Self] = &[
        Self::RunnerLegacy,
        Self::RunnerDind,
        Self::RunnerOlder,
        Self::Runner,
        Self::WorkflowLegacy,
        Self::WorkflowCurrent,
        Self::Step,
    ];

    /// Whether it is about a runner's own pod; the others go where their runner is.
    pub(crate) const fn is_runner(self) -> bool {
        matches!(self, Self::RunnerLegacy | Self::RunnerDind | Self::RunnerOlder | Self::Runner)
    }

    /// The rule in metrics, annotations and output.
    pub const fn code(self) -> &'static str {
        match self {
            Self::RunnerLegacy => "runner-legacy",
            Self::RunnerDind => "runner-dind",
            Self::RunnerOlder => "runner-older",
            Self::Runner => "runner",
            Self::WorkflowLegacy => "workflow-legacy",
            Self::WorkflowCurrent => "workflow-current",
            Self::Step => "container-step",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_distinct_words_and_trouble_has_a_remedy() {
        let reasons = Reason::ALL.iter().map(|reason| (reason.code(), reason.outcome(), reason.remedy()));
        let unpaired = Unpaired::ALL.iter().map(|why| (why.code(), why.outcome(), why.remedy()));
        let all: Vec<_> = reasons.chain(unpaired).collect();
        let codes: BTreeSet<&str> = all.iter().map(|(code, ..)| *code).collect();
        assert_eq!(codes.len(), all.len());
        for (code, outcome, remedy) in all {
            assert!(code.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{code}");
            assert!(outcome != Outcome::Withheld || !remedy.is_empty(), "{code}");
        }
    }
}

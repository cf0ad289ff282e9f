//! What became of a pod and why: stable codes for metrics, logs, annotations and people.

use std::fmt;

/// Which shape of pod was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// A runner pod whose container hooks copy externals.
    RunnerLegacy,
    /// A runner pod with Docker in Docker.
    RunnerDind,
    /// Any other runner pod.
    Runner,
    /// A workflow pod of hooks up to 0.7.0.
    WorkflowLegacy,
    /// A workflow pod of hooks from 0.8.0.
    WorkflowCurrent,
    /// The pod of a container step.
    Step,
}

/// Makes the enum of reasons from one table, so that no reason is without a code and a meaning.
macro_rules! reasons {
    ($($name:ident, $code:literal, $meaning:literal;)+) => {
        /// Why a pod was changed or left alone.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $(#[doc = $meaning] $name,)+
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The reason in metrics, annotations and output.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// What the reason means and, where something can be done, what.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)+ }
            }
        }
    };
}

reasons! {
    Lean, "lean", "the runner's externals are the cached tree; the hook copies a few files of it";
    Mounted, "mounted", "the cached tree is mounted; nothing is copied";
    Completed, "completed", "containers that were added later got the same mounts";
    AlreadyDone, "already-done", "the pod carries the cache already";
    NotArc, "not-arc", "the pod has no label of Actions Runner Controller";
    NotAPod, "not-a-pod", "the request does not create a pod";
    Unreadable, "unreadable", "a part of the pod has an unexpected type; the API server will refuse it";
    StateUnknown, "state-unknown", "there is no published state, or none has been read yet";
    StateStale, "state-stale", "the published state was last read more than 60 s ago; see the webhook's log";
    KindRefused, "kind-refused", "this kind of volume is not known to work in this namespace; see its policies";
    NoVolumeImage, "no-volume-image", "the version has no externals image; set `volumeImage` in the configuration";
    Windows, "windows", "Windows pods have other paths and no container hooks";
    OlderController, "older-controller", "runners of the older controller are not rewritten";
    Dind, "dind", "runners with Docker in Docker are not rewritten";
    NoRunnerContainer, "no-runner-container", "there is no container named runner";
    NoHooks, "no-hooks", "the runner uses no container hooks, so nothing is copied";
    HooksCurrent, "hooks-current", "these hooks copy nothing in the runner; its workflow pods are rewritten instead";
    HooksUnknown, "hooks-unknown", "the profile does not list this hook path; add it under `hooks.legacy` if it copies";
    ImageUnknown, "image-unknown", "no offered version stands for this image; see the profile's `images`";
    ImageAmbiguous, "image-ambiguous", "several profiles stand for this image; make their `images` differ";
    Mirror, "mirror", "a mirror pod shows what a kubelet runs already";
    NodeChosen, "node-chosen", "a variable of the runner chooses a Node.js that the profile may omit";
    OwnersChanged, "owners-changed", "the runner's command changes owners or modes, which fails on a read-only tree";
    WorkMountUnclear, "work-mount-unclear", "the runner needs exactly one mount whose path ends in /_work";
    PathTaken, "path-taken", "a volume of the pod's own lies at, above or below the externals path";
    NameTaken, "name-taken", "a volume of the pod's own is named headstart-externals";
    VersionUnknown, "version-unknown", "the pod does not name a version, so its runner has paid for a full copy already";
    VersionNotOffered, "version-not-offered", "the pod's version label names no version that is offered or retiring";
    StepLegacy, "step-legacy", "a container step: it mounts no externals";
    StepPlain, "step-plain", "a container step: its externals stay empty";
    StepToolCopy, "step-tool-copy", "a container step that runs tools from its own externals volume";
    InitReplaced, "init-replaced", "a hook template replaced fs-init, so the content of externals is the template's";
    ScriptUnknown, "script-unknown", "the script of fs-init is not one that the hooks write";
    ExternalsShared, "externals-shared", "a container mounts externals in a way that may write to it; see your hook template";
    ShapeUnknown, "shape-unknown", "the workflow pod has no known shape";
    Internal, "internal", "the edit could not be made; please report this with the pod";
}

impl Rule {
    /// The rule in metrics, annotations and output.
    pub const fn code(self) -> &'static str {
        match self {
            Self::RunnerLegacy => "runner-legacy",
            Self::RunnerDind => "runner-dind",
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

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_distinct_words() {
        let codes: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        let plain = |code: &&str| code.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        assert!(codes.iter().all(plain), "{codes:?}");
    }
}

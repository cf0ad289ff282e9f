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

/// Why a pod was changed or left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Changed: the runner got the tree itself, so its hook copies four files instead of thousands.
    Lean,
    /// Changed: the workflow pod got the tree.
    Mounted,
    /// Changed: a container that came later got what the others had.
    Completed,
    /// The pod carries the cache already.
    AlreadyDone,
    /// No label of ARC's.
    NotArc,
    /// Not the creation of a pod.
    NotAPod,
    /// Something in the pod has a type that Kubernetes does not know.
    Unreadable,
    /// The published state was never seen.
    StateUnknown,
    /// The volume kind is not known to work in this namespace.
    KindRefused,
    /// The version has no externals image.
    NoVolumeImage,
    /// A Windows pod.
    Windows,
    /// A runner of the older controller.
    OlderController,
    /// The runner uses Docker in Docker.
    Dind,
    /// The runner pod has no container named `runner`.
    NoRunnerContainer,
    /// The runner uses no container hooks.
    NoHooks,
    /// The runner's hooks copy nothing in the runner.
    HooksCurrent,
    /// The profile does not call this hook legacy.
    HooksUnknown,
    /// No profile stands for the image.
    ImageUnknown,
    /// More than one profile stands for the image.
    ImageAmbiguous,
    /// The runner's work folder cannot be told from its mounts.
    WorkMountUnclear,
    /// Something is mounted where the tree must be.
    PathTaken,
    /// A foreign volume has the name of ours.
    NameTaken,
    /// The workflow pod does not say which version its runner was given.
    VersionUnknown,
    /// The pod's version label names no version that is offered or retiring.
    VersionNotOffered,
    /// A container step of hooks up to 0.7.0, a pod of a Job.
    StepLegacy,
    /// A container step of hooks from 0.8.1.
    StepPlain,
    /// A container step of hooks 0.8.0, which fills its own externals.
    StepToolCopy,
    /// A template put other init containers in place of fs-init.
    InitReplaced,
    /// The script of fs-init is not one that the hooks write.
    ScriptUnknown,
    /// A container mounts externals in a way that the hooks do not.
    ExternalsShared,
    /// A workflow pod of no known shape.
    ShapeUnknown,
    /// The edit could not be made; a bug.
    Internal,
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

impl Reason {
    /// The reason in metrics, annotations and output.
    pub const fn code(self) -> &'static str {
        self.describe().0
    }

    /// What the reason means and, where something can be done, what.
    pub const fn meaning(self) -> &'static str {
        self.describe().1
    }

    /// Code and meaning, side by side so that neither is forgotten.
    const fn describe(self) -> (&'static str, &'static str) {
        match self {
            Self::Lean => {
                ("lean", "the runner's externals are the cached tree; the hook copies a few files of it")
            }
            Self::Mounted => ("mounted", "the cached tree is mounted; nothing is copied"),
            Self::Completed => ("completed", "containers that were added later got the same mounts"),
            Self::AlreadyDone => ("already-done", "the pod carries the cache already"),
            Self::NotArc => ("not-arc", "the pod has no label of Actions Runner Controller"),
            Self::NotAPod => ("not-a-pod", "the request does not create a pod"),
            Self::Unreadable => {
                ("unreadable", "a part of the pod has an unexpected type; the API server will refuse it")
            }
            Self::StateUnknown => ("state-unknown", "no published state has been read yet"),
            Self::KindRefused => (
                "kind-refused",
                "this kind of volume is not known to work in this namespace; see its policies",
            ),
            Self::NoVolumeImage => (
                "no-volume-image",
                "the version has no externals image; set `volumeImage` in the configuration",
            ),
            Self::Windows => ("windows", "Windows pods have other paths and no container hooks"),
            Self::OlderController => {
                ("older-controller", "runners of the older controller are not rewritten")
            }
            Self::Dind => ("dind", "runners with Docker in Docker are not rewritten"),
            Self::NoRunnerContainer => ("no-runner-container", "there is no container named runner"),
            Self::NoHooks => ("no-hooks", "the runner uses no container hooks, so nothing is copied"),
            Self::HooksCurrent => (
                "hooks-current",
                "these hooks copy nothing in the runner; its workflow pods are rewritten instead",
            ),
            Self::HooksUnknown => (
                "hooks-unknown",
                "the profile does not list this hook path; add it under `hooks.legacy` if it copies",
            ),
            Self::ImageUnknown => {
                ("image-unknown", "no offered version stands for this image; see the profile's `images`")
            }
            Self::ImageAmbiguous => {
                ("image-ambiguous", "several profiles stand for this image; make their `images` differ")
            }
            Self::WorkMountUnclear => {
                ("work-mount-unclear", "the runner needs exactly one mount whose path ends in /_work")
            }
            Self::PathTaken => {
                ("path-taken", "a mount of the pod's own lies at, above or below the externals path")
            }
            Self::NameTaken => ("name-taken", "a volume of the pod's own is named headstart-externals"),
            Self::VersionUnknown => (
                "version-unknown",
                "the pod does not name a version, so its runner has paid for a full copy already",
            ),
            Self::VersionNotOffered => (
                "version-not-offered",
                "the pod's version label names no version that is offered or retiring",
            ),
            Self::StepLegacy => ("step-legacy", "a container step: it mounts no externals"),
            Self::StepPlain => ("step-plain", "a container step: its externals stay empty"),
            Self::StepToolCopy => {
                ("step-tool-copy", "a container step that runs tools from its own externals volume")
            }
            Self::InitReplaced => (
                "init-replaced",
                "a hook template replaced fs-init, so the content of externals is the template's",
            ),
            Self::ScriptUnknown => {
                ("script-unknown", "the script of fs-init is not one that the hooks write")
            }
            Self::ExternalsShared => (
                "externals-shared",
                "a container mounts externals in a way that may write to it; see your hook template",
            ),
            Self::ShapeUnknown => ("shape-unknown", "the workflow pod has no known shape"),
            Self::Internal => ("internal", "the edit could not be made; please report this with the pod"),
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

//! Why a version is not there: the reason codes of the agent, shared with everything that reads its reports.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The cause of a failed install, as it appears in status, report, metrics and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FaultReason {
    /// The root folder cannot be written.
    RootNotWritable,
    /// A folder of the root is a link, belongs to somebody else, or may be written by others.
    RootUnsafe,
    /// Another agent holds the root's lock.
    RootLocked,
    /// The root is not the folder any more that the node has under its name.
    RootReplaced,
    /// No space left on the node's file system, or only what is kept in reserve.
    DiskFull,
    /// The versions on the node would take more than the configured bytes together.
    OverBudget,
    /// The source cannot be reached or is not there.
    SourceUnavailable,
    /// The server of the source refuses what it is asked, or wants credentials.
    SourceDenied,
    /// The server of the source is silent or too slow.
    SourceTimeout,
    /// The source ended before its end, again and again.
    SourceTruncated,
    /// The server of the source redirects without end.
    SourceRedirects,
    /// The source has another content than the one that the version was built from.
    SourceChanged,
    /// The files with the credentials of the source are not there or cannot be used.
    CredentialsUnusable,
    /// The stage of the version's runner image has not finished on this node.
    WaitingForStage,
    /// What is staged comes from another image than the one that is configured.
    StageImageMismatch,
    /// The configuration names no source for this node's architecture.
    NoSourceForArch,
    /// The archive does not have the pinned digest.
    DigestMismatch,
    /// The archive is truncated or not of its format.
    ArchiveCorrupt,
    /// A path of the source leaves the tree, or is absolute.
    PathEscape,
    /// A link of the source leaves the tree.
    LinkEscape,
    /// A hard link of the source leads to something that is not kept.
    HardlinkEscape,
    /// The source holds a device, a socket or a pipe.
    SpecialFile,
    /// The source holds a setuid or setgid file.
    SetuidFile,
    /// A file lies where the tree needs a folder, or the reverse.
    PathConflict,
    /// A name in the source cannot be kept: not UTF-8, or with control characters.
    BadName,
    /// The source is larger than the configured limit.
    TooLarge,
    /// The source holds more files than the configured limit.
    TooManyFiles,
    /// The source has a `node*` entry that the profile neither keeps nor omits.
    UnnamedEntry,
    /// The source lacks a file that the profile keeps, or an entry lacks an executable `bin/node`.
    MissingFile,
    /// What is on disk is not what was written.
    CheckFailed,
    /// Node.js does not run as it should.
    CanaryFailed,
    /// The canary does not see the build.
    CanaryNotVisible,
    /// The node's file system forbids execution.
    NoExec,
    /// What the agent writes carries SELinux categories, so that no other pod may read it.
    SelinuxCategories,
    /// The programs are for another architecture.
    WrongArch,
    /// The install was stopped, since the configuration changed.
    Cancelled,
    /// Any other error of the operating system.
    Io,
    /// A reason that only a newer program knows; read, never written.
    #[serde(other)]
    Unknown,
}

impl FaultReason {
    /// Every reason that this program gives, for metrics and documentation.
    pub const ALL: [Self; 37] = [
        Self::RootNotWritable,
        Self::RootUnsafe,
        Self::RootLocked,
        Self::RootReplaced,
        Self::DiskFull,
        Self::OverBudget,
        Self::SourceUnavailable,
        Self::SourceDenied,
        Self::SourceTimeout,
        Self::SourceTruncated,
        Self::SourceRedirects,
        Self::SourceChanged,
        Self::CredentialsUnusable,
        Self::WaitingForStage,
        Self::StageImageMismatch,
        Self::NoSourceForArch,
        Self::DigestMismatch,
        Self::ArchiveCorrupt,
        Self::PathEscape,
        Self::LinkEscape,
        Self::HardlinkEscape,
        Self::SpecialFile,
        Self::SetuidFile,
        Self::PathConflict,
        Self::BadName,
        Self::TooLarge,
        Self::TooManyFiles,
        Self::UnnamedEntry,
        Self::MissingFile,
        Self::CheckFailed,
        Self::CanaryFailed,
        Self::CanaryNotVisible,
        Self::NoExec,
        Self::SelinuxCategories,
        Self::WrongArch,
        Self::Cancelled,
        Self::Io,
    ];

    /// Whether the fault lies in the node and will not pass by itself, so that pods had better go elsewhere.
    ///
    /// Faults of the source are the same on every node: a version that has them is never offered. A node is judged by
    /// the versions that are offered. Some of these faults may come from the revision and not from the node (one that is
    /// too large, say): a new revision is not offered while more nodes gave it up that serve the old one than the rollout
    /// may lose.
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::NoExec | Self::SelinuxCategories | Self::WrongArch | Self::DiskFull | Self::CheckFailed
        )
    }

    /// Whether only another run of the stage can end it, so that trying again by the clock is of no use.
    pub const fn awaits_stage(self) -> bool {
        matches!(self, Self::WaitingForStage | Self::StageImageMismatch)
    }

    /// What happened, in a few words.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::RootNotWritable => "the root folder cannot be written",
            Self::RootUnsafe => {
                "a folder of the root is a link, belongs to somebody else, or may be written by others"
            }
            Self::RootLocked => "another agent holds the root's lock",
            Self::RootReplaced => "the root is not the folder any more that the node has under its name",
            Self::DiskFull => "no space left on the node's file system, or only what is kept in reserve",
            Self::OverBudget => "the versions on the node would take more than the configured bytes together",
            Self::SourceUnavailable => "the source cannot be reached or is not there",
            Self::SourceDenied => "the server of the source refuses what it is asked, or wants credentials",
            Self::SourceTimeout => "the server of the source is silent or too slow",
            Self::SourceTruncated => "the source ended before its end, again and again",
            Self::SourceRedirects => "the server of the source redirects without end",
            Self::SourceChanged => {
                "the source has another content than the one that the version was built from"
            }
            Self::CredentialsUnusable => {
                "the files with the credentials of the source are not there or cannot be used"
            }
            Self::WaitingForStage => "the stage of the version's runner image has not finished on this node",
            Self::StageImageMismatch => {
                "what is staged comes from another image than the one that is configured"
            }
            Self::NoSourceForArch => "the configuration names no source for this node's architecture",
            Self::DigestMismatch => "the archive does not have the pinned digest",
            Self::ArchiveCorrupt => "the archive is truncated or not of its format",
            Self::PathEscape => "a path of the source leaves the tree, or is absolute",
            Self::LinkEscape => "a link of the source leaves the tree",
            Self::HardlinkEscape => "a hard link of the source leads to something that is not kept",
            Self::SpecialFile => "the source holds a device, a socket or a pipe",
            Self::SetuidFile => "the source holds a setuid or setgid file",
            Self::PathConflict => "a file lies where the tree needs a folder, or the reverse",
            Self::BadName => "a name in the source cannot be kept: not UTF-8, or with control characters",
            Self::TooLarge => "the source is larger than the configured limit",
            Self::TooManyFiles => "the source holds more files than the configured limit",
            Self::UnnamedEntry => "the source has a `node*` entry that the profile neither keeps nor omits",
            Self::MissingFile => {
                "the source lacks a file that the profile keeps, or an entry lacks an executable `bin/node`"
            }
            Self::CheckFailed => "what is on disk is not what was written",
            Self::CanaryFailed => "Node.js does not run as it should",
            Self::CanaryNotVisible => "the canary does not see the build",
            Self::NoExec => "the node's file system forbids execution",
            Self::SelinuxCategories => {
                "what the agent writes carries SELinux categories, so that no other pod may read it"
            }
            Self::WrongArch => "the programs are for another architecture",
            Self::Cancelled => "the install was stopped, since the configuration changed",
            Self::Io => "any other error of the operating system",
            Self::Unknown => "a reason that only a newer program knows; read, never written",
        }
    }

    /// What the administrator can do about it.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::RootNotWritable => {
                "make the root folder writable for the agent, in a cluster by mounting the configuration's hostRoot there, or choose another with --root"
            }
            Self::RootUnsafe => "give the root folders to the agent's user, mode 0755, no links",
            Self::RootLocked => "stop the other agent, or give this one a root of its own",
            Self::RootReplaced => {
                "nothing if the agent's pod is started anew by itself; else delete the agent's pod on this node"
            }
            Self::DiskFull => {
                "free space on the file system of the root folder, or lower limits.reserveBytes"
            }
            Self::OverBudget => "raise limits.cacheBytes, or let the rollout retire older versions",
            Self::SourceUnavailable => "check the source's path or URL and that this node can reach it",
            Self::SourceDenied => "check the credentials of the source, and that they may read it",
            Self::SourceTimeout | Self::SourceTruncated => {
                "check the source's server and the way to it, or name a mirror; it is tried again"
            }
            Self::SourceRedirects => "check the source's address; its server leads in circles",
            Self::SourceChanged => "give the changed source a new revision; a version never changes",
            Self::CredentialsUnusable => {
                "mount the Secret below --credentials, with `token`, or `username` and `password`"
            }
            Self::WaitingForStage => {
                "run the stage DaemonSet of this revision on this node; its init container says what holds it up"
            }
            Self::StageImageMismatch => {
                "give the stage DaemonSet and `source.runnerImage.image` the same image, letter by letter"
            }
            Self::NoSourceForArch => "add a source for this architecture to the profile's revision",
            Self::DigestMismatch => {
                "check the URL and the sha256 in the configuration against the publisher's"
            }
            Self::ArchiveCorrupt => "make the archive anew; supported are tar.gz, tar.xz and tar.zst",
            Self::PathEscape
            | Self::LinkEscape
            | Self::HardlinkEscape
            | Self::SpecialFile
            | Self::SetuidFile => "do not trust this source; make it anew from the runner's release",
            Self::PathConflict | Self::BadName => "repair the source: this path cannot be kept as it is",
            Self::TooLarge | Self::TooManyFiles => {
                "raise the limits in the configuration if the source is right"
            }
            Self::UnnamedEntry => "name the entry under `entries` to keep it or under `omit` to leave it out",
            Self::MissingFile => "take a complete source, or leave the path out of the profile's entries",
            Self::CheckFailed => "look at the node's disk and memory; the install is tried again",
            Self::CanaryFailed => "check that the source's Node.js runs on such a node",
            Self::CanaryNotVisible => "check --canary-root: it must show the same folder as --root",
            Self::Cancelled => "nothing; it is tried again with the new configuration",
            Self::NoExec => "choose a root on a file system that is not mounted noexec",
            Self::SelinuxCategories => {
                "give the agent's container `seLinuxOptions: {level: s0}`, and relabel the root with chcon -R -l s0"
            }
            Self::WrongArch => "check the profile's source for this architecture",
            Self::Io | Self::Unknown => "see the message; the install is tried again",
        }
    }
}

impl fmt::Display for FaultReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

//! A failed step of the agent: reason code for programs, message for people.

use std::io;
use std::path::Path;

use headstart_externals::fault::FaultReason;
use serde::Serialize;

/// What went wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Fault {
    /// The reason code.
    pub reason: FaultReason,
    /// The path or address, and the cause.
    pub message: String,
    /// What to do about it.
    pub remedy: &'static str,
    /// Whether only another run of the stage can end it, so that trying again by the clock is of no use.
    #[serde(skip)]
    pub awaits_stage: bool,
    /// How many files it is about; 1 where that is not said.
    #[serde(skip)]
    pub files: usize,
}

/// The result of a step.
pub type Outcome<T> = Result<T, Fault>;

impl Fault {
    /// A fault with its message.
    pub fn new(reason: FaultReason, message: impl Into<String>) -> Self {
        let awaits_stage = reason.awaits_stage();
        Self { reason, message: message.into(), remedy: reason.remedy(), awaits_stage, files: 1 }
    }

    /// It is about so many files.
    pub fn of_files(self, files: usize) -> Self {
        Self { files, ..self }
    }

    /// It is what a stage run left behind: only another run can end it, whatever the reason.
    pub fn until_staged(self) -> Self {
        Self { awaits_stage: true, ..self }
    }

    /// Tells of the paths in `folder` as seen from there: a folder with a random name would make each fault another one.
    pub fn seen_from(self, folder: &Path) -> Self {
        let inside = format!("{}/", folder.display());
        Self { message: self.message.replace(&inside, ""), ..self }
    }

    /// An error of the operating system while doing `what` to `path`; some errors have reasons of their own.
    pub fn io(what: &str, path: &Path, error: &io::Error) -> Self {
        let reason = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FaultReason::DiskFull,
            io::ErrorKind::ReadOnlyFilesystem => FaultReason::RootNotWritable,
            _ => FaultReason::Io,
        };
        Self::new(reason, format!("failed to {what} {}: {error}", path.display()))
    }
}

/// Gives errors of the operating system their path.
pub trait IoContext<T> {
    /// Names what was done to which path.
    fn doing(self, what: &str, path: impl AsRef<Path>) -> Outcome<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn doing(self, what: &str, path: impl AsRef<Path>) -> Outcome<T> {
        self.map_err(|error| Fault::io(what, path.as_ref(), &error))
    }
}

impl<T> IoContext<T> for Result<T, rustix::io::Errno> {
    fn doing(self, what: &str, path: impl AsRef<Path>) -> Outcome<T> {
        self.map_err(|errno| Fault::io(what, path.as_ref(), &errno.into()))
    }
}

//! The gate between a source and the tree, without I/O: counts, bounds, and what no source may hold.

use std::collections::BTreeSet;

use headstart_externals::arch::Arch;
use headstart_externals::config::Limits;
use headstart_externals::fault::FaultReason;
use headstart_externals::relpath::{RelPath, RelPathError};
use headstart_externals::selection::{Selection, Verdict};

use crate::fault::{Fault, Outcome};

/// setuid and setgid.
const SET_ID: u32 = 0o6000;

/// Any execute bit.
const EXECUTE: u32 = 0o111;

/// Something in a source, below its externals folder.
pub(super) enum Item<'a> {
    /// A folder.
    Folder,
    /// A regular file.
    File {
        /// Permission bits.
        mode: u32,
    },
    /// A symbolic link with its text; `None` if that is not UTF-8.
    Link(Option<&'a str>),
    /// A device, socket or pipe.
    Special,
}

/// Judges the items of one source, one after another.
pub struct Intake<'a> {
    selection: &'a Selection,
    arch: Arch,
    limits: Limits,
    /// Where the tree needs folders, so that nothing else may lie there.
    folders: BTreeSet<RelPath>,
    files: u64,
    bytes: u64,
}

impl<'a> Intake<'a> {
    /// Nothing judged yet.
    pub fn new(selection: &'a Selection, arch: Arch, limits: Limits) -> Self {
        let folders =
            selection.required(arch).iter().flat_map(|path| path.ancestors().collect::<Vec<_>>()).collect();
        Self { selection, arch, limits, folders, files: 0, bytes: 0 }
    }

    /// Counts one item, kept or not, inside the externals folder or beside it.
    pub fn count(&mut self, size: u64) -> Outcome<()> {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(size);
        let Limits { files, unpacked_bytes, .. } = self.limits;
        if self.files > files {
            let message = format!("the source holds more than {files} files (limits.files)");
            return Err(Fault::new(FaultReason::TooManyFiles, message));
        }
        if self.bytes > unpacked_bytes {
            let message =
                format!("the source unpacks to more than {unpacked_bytes} bytes (limits.unpackedBytes)");
            return Err(Fault::new(FaultReason::TooLarge, message));
        }
        Ok(())
    }

    /// Whether anything in this folder may belong into the tree.
    pub(super) fn wants_of(&self, folder: &RelPath) -> bool {
        self.folders.contains(folder) || self.selection.judge(folder, self.arch) == Verdict::Keep
    }

    /// Whether the item belongs into the tree; refused is what no source may hold, kept or not.
    pub(super) fn admits(&self, path: &RelPath, item: &Item<'_>) -> Outcome<bool> {
        match item {
            Item::Special => {
                let message = format!("{path} is neither a file, a folder nor a link");
                return Err(Fault::new(FaultReason::SpecialFile, message));
            }
            Item::File { .. } | Item::Link(_) if self.folders.contains(path) => {
                let message = format!("{path} must be a folder, but is a file or a link");
                return Err(Fault::new(FaultReason::PathConflict, message));
            }
            Item::File { mode, .. } if mode & SET_ID != 0 => {
                return Err(Fault::new(FaultReason::SetuidFile, format!("{path} has mode {mode:04o}")));
            }
            Item::Link(target) if target.and_then(|target| path.resolve_link(target)).is_none() => {
                let target = target.unwrap_or("something that is not UTF-8");
                return Err(Fault::new(FaultReason::LinkEscape, format!("{path} links to {target}")));
            }
            _ => {}
        }
        match self.selection.judge(path, self.arch) {
            Verdict::Keep => Ok(true),
            Verdict::Skip => Ok(false),
            Verdict::Unnamed => {
                let entry = path.entry();
                let message = format!("the source has {entry}, which the profile neither keeps nor omits");
                Err(Fault::new(FaultReason::UnnamedEntry, message))
            }
        }
    }
}

/// Whether a file with these permission bits is executable in the tree.
pub(super) fn is_executable(mode: u32) -> bool {
    mode & EXECUTE != 0
}

/// The path of an item as the source spells it, which may begin with `./`; `None` for the top folder itself.
pub(super) fn item_path(spelled: &[u8]) -> Outcome<Option<RelPath>> {
    let lossy = || String::from_utf8_lossy(spelled).into_owned();
    let Ok(text) = std::str::from_utf8(spelled) else {
        return Err(Fault::new(FaultReason::BadName, format!("{} is not UTF-8", lossy())));
    };
    let mut text = text;
    while let Some(rest) = text.strip_prefix("./") {
        text = rest.trim_start_matches('/');
    }
    if matches!(text, "" | ".") {
        return Ok(None);
    }
    match RelPath::new(text) {
        Ok(path) => Ok(Some(path)),
        Err(error @ (RelPathError::Absolute | RelPathError::Parent)) => {
            Err(Fault::new(FaultReason::PathEscape, format!("{:?} {error}", lossy())))
        }
        Err(error) => Err(Fault::new(FaultReason::BadName, format!("{:?} {error}", lossy()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(spelled: &str) -> Option<FaultReason> {
        item_path(spelled.as_bytes()).err().map(|fault| fault.reason)
    }

    #[test]
    fn paths_are_taken_as_spelled_or_refused() {
        assert_eq!(item_path(b"./externals/").unwrap().unwrap().as_str(), "externals");
        assert_eq!(item_path(b"./").unwrap(), None);
        assert_eq!(reason("../x"), Some(FaultReason::PathEscape));
        assert_eq!(reason("/x"), Some(FaultReason::PathEscape));
        assert_eq!(reason("a\u{1}b"), Some(FaultReason::BadName));
        assert_eq!(item_path(b"\xff").unwrap_err().reason, FaultReason::BadName);
    }
}

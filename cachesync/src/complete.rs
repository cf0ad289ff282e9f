//! Whether what was written is a whole tree, and the one that is expected; judged over lists of files alone.

use std::collections::{BTreeMap, BTreeSet};

use headstart_externals::arch::Arch;
use headstart_externals::fault::FaultReason;
use headstart_externals::manifest::FileRecord;
use headstart_externals::relpath::RelPath;
use headstart_externals::selection::{NODE, Selection};

use crate::fault::{Fault, Outcome};

/// By path, what a tree holds.
pub(crate) type Files = BTreeMap<RelPath, FileRecord>;

/// Whether a source gave everything that the recipe needs here.
pub(crate) fn check(selection: &Selection, arch: Arch, files: &Files) -> Outcome<()> {
    let missing = |path: &str| Fault::new(FaultReason::MissingFile, format!("the source has no {path}"));
    for path in selection.required(arch) {
        let is_file = matches!(files.get(&path), Some(FileRecord::File { .. }));
        let present = is_file || files.keys().any(|file| file.below(&path).is_some());
        if !present {
            return Err(missing(path.as_str()));
        }
    }
    let entries = files.keys().map(RelPath::entry).filter(|entry| entry.starts_with("node"));
    for entry in entries.collect::<BTreeSet<_>>() {
        let node = format!("{entry}/{NODE}");
        match files.get(node.as_str()) {
            Some(FileRecord::File { executable: true, .. }) => {}
            Some(_) => {
                let message = format!("{node} of the source is not an executable file");
                return Err(Fault::new(FaultReason::MissingFile, message));
            }
            None => return Err(missing(&node)),
        }
    }
    if files.keys().any(|path| path.inside_entry() == Some(NODE)) {
        return Ok(());
    }
    let message =
        format!("the source has no entry with {NODE}; check the folder inside the archive or image (`path`)");
    Err(Fault::new(FaultReason::MissingFile, message))
}

/// A fault if two trees are not the same.
pub(crate) fn compare(expected: &Files, found: &Files) -> Outcome<()> {
    let all: BTreeSet<&RelPath> = expected.keys().chain(found.keys()).collect();
    let differing: Vec<&RelPath> =
        all.into_iter().filter(|path| expected.get(*path) != found.get(*path)).collect();
    let Some(first) = differing.first() else { return Ok(()) };
    let what = if !found.contains_key(*first) {
        "is missing"
    } else if !expected.contains_key(*first) {
        "does not belong there"
    } else {
        "has other content, mode or size than it should"
    };
    let others = match differing.len() - 1 {
        0 => String::new(),
        others => format!(", and {others} more"),
    };
    let fault = Fault::new(FaultReason::CheckFailed, format!("{first} {what}{others}"));
    Err(fault.of_files(differing.len()))
}

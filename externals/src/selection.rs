//! Which files of a source belong into the tree, decided by path alone.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::arch::Arch;
use crate::glob;
use crate::relpath::RelPath;

/// Suffix of the entries that hold a musl build of Node.js.
const ALPINE: &str = "_alpine";

/// The only file of an entry that the runner and the hooks ever execute.
pub const NODE: &str = "bin/node";

/// The recipe of a tree: what is kept of each entry, and which entries are knowingly left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Selection {
    /// What is kept.
    pub entries: Entries,
    /// Patterns of entries that are left out on purpose.
    pub omit: Vec<String>,
}

/// What is kept of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Entries {
    /// Every file of every entry that is not omitted.
    #[default]
    All,
    /// By entry name, the files and folders that are kept of it.
    Named(BTreeMap<String, BTreeSet<RelPath>>),
}

/// What happens to one path of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Belongs into the tree.
    Keep,
    /// Left out, as the recipe says.
    Skip,
    /// Lies in a `node*` entry that the recipe neither keeps nor omits: a job might need it, so nothing is published.
    Unnamed,
}

impl Selection {
    /// The verdict over `path`, which is relative to the externals folder.
    pub fn judge(&self, path: &RelPath, arch: Arch) -> Verdict {
        let entry = path.entry();
        if self.omits(entry) {
            return Verdict::Skip;
        }
        match &self.entries {
            Entries::All => Verdict::Keep,
            Entries::Named(entries) => match entries.get(entry) {
                Some(_) if !entry_exists_on(entry, arch) => Verdict::Skip,
                Some(kept) => path.inside_entry().map_or(Verdict::Skip, |inside| judge_inside(kept, inside)),
                None if entry.starts_with("node") => Verdict::Unnamed,
                None => Verdict::Skip,
            },
        }
    }

    /// Whether `entry` is left out on purpose.
    pub fn omits(&self, entry: &str) -> bool {
        self.omit.iter().any(|pattern| glob::matches(pattern, entry))
    }

    /// The paths that a tree for `arch` must hold, each a file or a folder; empty for [`Entries::All`].
    pub fn required(&self, arch: Arch) -> Vec<RelPath> {
        let Entries::Named(entries) = &self.entries else { return Vec::new() };
        let here = entries.iter().filter(|(entry, _)| entry_exists_on(entry, arch));
        here.flat_map(|(entry, kept)| kept.iter().map(move |path| format!("{entry}/{path}")))
            .filter_map(|path| RelPath::new(&path).ok())
            .collect()
    }
}

fn judge_inside(kept: &BTreeSet<RelPath>, inside: &str) -> Verdict {
    let below = |keep: &RelPath| inside.strip_prefix(keep.as_str()).is_some_and(|rest| rest.starts_with('/'));
    if kept.contains(inside) || kept.iter().any(below) { Verdict::Keep } else { Verdict::Skip }
}

/// No `_alpine` build of Node.js exists but for x86-64.
fn entry_exists_on(entry: &str, arch: Arch) -> bool {
    arch.has_alpine() || !entry.ends_with(ALPINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node16() -> Selection {
        let keep = |paths: &[&str]| paths.iter().map(|p| RelPath::new(p).unwrap()).collect();
        Selection {
            entries: Entries::Named(BTreeMap::from([
                ("node16".to_owned(), keep(&["bin/node", "share/doc"])),
                ("node16_alpine".to_owned(), keep(&["bin/node"])),
            ])),
            omit: vec!["node12*".to_owned()],
        }
    }

    fn judge(path: &str, arch: Arch) -> Verdict {
        node16().judge(&RelPath::new(path).unwrap(), arch)
    }

    #[test]
    fn keeps_named_files_and_everything_below_named_folders() {
        assert_eq!(judge("node16/bin/node", Arch::Amd64), Verdict::Keep);
        assert_eq!(judge("node16/share/doc/a/b", Arch::Amd64), Verdict::Keep);
        assert_eq!(judge("node16/bin/npm", Arch::Amd64), Verdict::Skip);
        assert_eq!(judge("node16/share/documents", Arch::Amd64), Verdict::Skip);
    }

    #[test]
    fn an_unnamed_node_entry_is_neither_kept_nor_skipped() {
        assert_eq!(judge("node20/bin/node", Arch::Amd64), Verdict::Unnamed);
        assert_eq!(judge("node12_alpine/bin/node", Arch::Amd64), Verdict::Skip);
        assert_eq!(judge("vswhere/vswhere.exe", Arch::Amd64), Verdict::Skip);
    }

    #[test]
    fn alpine_twins_are_required_on_amd64_only() {
        let required = |arch| node16().required(arch).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(required(Arch::Amd64), ["node16/bin/node", "node16/share/doc", "node16_alpine/bin/node"]);
        assert_eq!(required(Arch::Arm64), ["node16/bin/node", "node16/share/doc"]);
        assert_eq!(judge("node16_alpine/bin/node", Arch::Arm64), Verdict::Skip);
    }
}

//! An externals folder of the size that users have: real Node.js programs amid thousands of small files.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use headstart_externals::selection::NODE;
use headstart_runtime::shutdown::Shutdown;

/// The entries of runner releases 2.285 to 2.307, with the files beside `bin/node` that each is given here. With
/// them the folder has as many files as a user measured in the field: 6,715.
const ENTRIES: [(&str, usize); 4] =
    [("node12", 4224), ("node12_alpine", 1), ("node16", 2485), ("node16_alpine", 1)];

/// Where a Node.js distribution keeps its small files.
const FOLDERS: [&str; 4] =
    ["include/node/openssl", "lib/node_modules/npm/lib", "lib/node_modules/corepack", "share/doc"];

/// Files per folder, so that folders are as full as in a distribution.
const FILES_PER_FOLDER: usize = 8;

/// The source of the demo.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The externals folder.
    pub(crate) path: PathBuf,
    /// The Node.js that it is made from; absent for a folder of the user's own.
    node: Option<PathBuf>,
    /// What is in it, once it is built.
    pub(crate) size: Size,
    /// Its entries, once it is built.
    pub(crate) entries: Vec<String>,
}

/// Files and bytes of a folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// Regular files and links.
    pub(crate) files: u64,
    /// Bytes in regular files.
    pub(crate) bytes: u64,
}

impl Source {
    /// The user's own folder, or one to be built below `folder`.
    pub(crate) fn choose(externals: Option<&Path>, folder: &Path) -> anyhow::Result<Self> {
        let (path, node) = match externals {
            Some(path) => {
                let path = path
                    .canonicalize()
                    .with_context(|| format!("{} is not there; give an externals folder", path.display()))?;
                (path, None)
            }
            None => (folder.join("externals"), Some(node_of_this_machine()?)),
        };
        Ok(Self { path, node, size: Size::default(), entries: Vec::new() })
    }

    /// Builds the folder, if it is not the user's own, and measures it.
    pub(crate) fn build(mut self, shutdown: &Shutdown) -> anyhow::Result<Self> {
        if let Some(node) = &self.node {
            for (entry, files) in ENTRIES {
                build_entry(&self.path.join(entry), node, files, shutdown)?;
            }
        }
        self.entries = entries(&self.path)?;
        self.size = measure(&self.path)?;
        Ok(self)
    }

    /// Whether these are the entries of the built-in profile.
    pub(crate) fn fits_builtin(&self) -> bool {
        let known = |entry: &String| ENTRIES.iter().any(|(known, _)| known == entry);
        self.entries.iter().all(known) && self.entries.iter().any(|entry| entry == "node16")
    }
}

/// The real program behind `node`, which may be a wrapper.
fn node_of_this_machine() -> anyhow::Result<PathBuf> {
    let help = "install Node.js, or give a runner's externals folder with --externals";
    let output = Command::new("node")
        .args(["-p", "process.execPath"])
        .output()
        .with_context(|| format!("failed to run node; {help}"))?;
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    anyhow::ensure!(output.status.success() && path.is_file(), "node does not say where it is; {help}");
    Ok(path)
}

fn build_entry(entry: &Path, node: &Path, files: usize, shutdown: &Shutdown) -> anyhow::Result<()> {
    let program = entry.join(NODE);
    fs::create_dir_all(program.parent().unwrap_or(entry))?;
    fs::copy(node, &program).with_context(|| format!("failed to copy {}", node.display()))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    fs::write(entry.join("LICENSE"), filler(0))?;
    for at in 1..files {
        anyhow::ensure!(!shutdown.has_begun(), "interrupted");
        let folder = FOLDERS[at % FOLDERS.len()];
        let folder = entry.join(format!("{folder}/{}", at / FOLDERS.len() / FILES_PER_FOLDER));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("file{at}.js")), filler(at))?;
    }
    Ok(())
}

/// Text of half to twenty-four KiB, about eight on average, as small files of a distribution are.
fn filler(at: usize) -> Vec<u8> {
    let length = 512 + (at * 7919 % 97) * (at * 104_729 % 89) * 3;
    b"// a small file of a Node.js distribution\n".iter().copied().cycle().take(length).collect()
}

fn entries(folder: &Path) -> anyhow::Result<Vec<String>> {
    let list = fs::read_dir(folder).with_context(|| format!("failed to list {}", folder.display()))?;
    let names = list.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| folder.join(name).join(NODE).is_file()).collect();
    names.sort();
    anyhow::ensure!(
        !names.is_empty(),
        "{} has no entry with {NODE}; give a runner's externals folder",
        folder.display()
    );
    Ok(names)
}

/// Counts a folder.
pub(crate) fn measure(folder: &Path) -> anyhow::Result<Size> {
    let mut size = Size::default();
    for entry in fs::read_dir(folder).with_context(|| format!("failed to list {}", folder.display()))? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            let below = measure(&entry.path())?;
            size = Size { files: size.files + below.files, bytes: size.bytes + below.bytes };
        } else {
            size.files += 1;
            size.bytes += if metadata.is_file() { metadata.len() } else { 0 };
        }
    }
    Ok(size)
}

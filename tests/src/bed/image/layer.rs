//! One layer: what lies where, owned by whom, written in one order and without times.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tar::{Builder, EntryType, Header};

/// Who owns a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u64,
    /// Group id.
    pub gid: u64,
}

/// Root and its group.
pub const ROOT: Owner = Owner { uid: 0, gid: 0 };

/// Where the bytes of a file come from.
#[derive(Clone, Debug)]
pub enum Content {
    /// Given here.
    Bytes(Vec<u8>),
    /// A file of this machine, read when the layer is written.
    Host(PathBuf),
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Self::Bytes(text.into())
    }
}

impl From<&Path> for Content {
    fn from(path: &Path) -> Self {
        Self::Host(path.to_owned())
    }
}

#[derive(Clone, Debug)]
enum Kind {
    Folder,
    File(Content),
    Link(String),
}

#[derive(Clone, Debug)]
struct Member {
    kind: Kind,
    mode: u32,
    owner: Owner,
}

/// A layer under construction. Paths may begin with a slash; missing parents are made, 0755 and root's.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    /// Sorted, so that a folder comes before what is in it.
    members: BTreeMap<String, Member>,
}

impl Layer {
    /// Adds a folder, or sets mode and owner of one that is there.
    pub fn folder(self, path: &str, mode: u32, owner: Owner) -> Self {
        self.with(path, Member { kind: Kind::Folder, mode, owner })
    }

    /// Adds a file.
    pub fn file(self, path: &str, content: impl Into<Content>, mode: u32, owner: Owner) -> Self {
        self.with(path, Member { kind: Kind::File(content.into()), mode, owner })
    }

    /// Adds a symbolic link.
    pub fn link(self, path: &str, target: &str, owner: Owner) -> Self {
        self.with(path, Member { kind: Kind::Link(target.to_owned()), mode: 0o777, owner })
    }

    /// Adds a folder of this machine with all that is in it. Executables and folders get 0755, other files 0644,
    /// whatever the umask was when they were made.
    pub fn tree(mut self, path: &str, folder: &Path, owner: Owner) -> anyhow::Result<Self> {
        for entry in walkdir::WalkDir::new(folder) {
            let entry = entry.with_context(|| format!("failed to read {}", folder.display()))?;
            let below = entry.path().strip_prefix(folder).unwrap_or(entry.path());
            let below = below.to_str().with_context(|| format!("{} is not UTF-8", entry.path().display()))?;
            let member = Member::of_host(entry.path(), owner)?;
            self = self.with(&format!("{path}/{below}"), member);
        }
        Ok(self)
    }

    fn with(mut self, path: &str, member: Member) -> Self {
        let path = path.trim_matches('/');
        if path.is_empty() {
            // The root is there in any case.
            return self;
        }
        for (at, _) in path.match_indices('/') {
            let parent = Member { kind: Kind::Folder, mode: 0o755, owner: ROOT };
            self.members.entry(path[..at].to_owned()).or_insert(parent);
        }
        self.members.insert(path.to_owned(), member);
        self
    }

    /// Writes the layer as a tar file.
    pub(super) fn write(&self, sink: &mut dyn Write) -> anyhow::Result<()> {
        let mut tar = Builder::new(sink);
        for (path, member) in &self.members {
            self.check(path)?;
            member.write(&mut tar, path).with_context(|| format!("/{path}"))?;
        }
        tar.finish()?;
        Ok(())
    }

    /// Runtimes resolve such paths differently, so no layer has them.
    fn check(&self, path: &str) -> anyhow::Result<()> {
        let odd = path.split('/').any(|part| matches!(part, "" | "." | ".."));
        anyhow::ensure!(!odd, "the path /{path} of a layer is not in its plain form");
        let parent = path.rsplit_once('/').and_then(|(parent, _)| self.members.get(parent));
        let in_folder = parent.is_none_or(|parent| matches!(parent.kind, Kind::Folder));
        anyhow::ensure!(in_folder, "/{path} lies in something that is not a folder of this layer");
        Ok(())
    }
}

impl Member {
    fn of_host(path: &Path, owner: Owner) -> anyhow::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        let executable = metadata.is_dir() || metadata.permissions().mode() & 0o111 != 0;
        let mode = if executable { 0o755 } else { 0o644 };
        if metadata.is_symlink() {
            let target = fs::read_link(path)?.into_os_string().into_string();
            let target =
                target.ok().with_context(|| format!("the target of {} is not UTF-8", path.display()))?;
            return Ok(Self { kind: Kind::Link(target), mode: 0o777, owner });
        }
        let kind = if metadata.is_dir() {
            Kind::Folder
        } else {
            anyhow::ensure!(metadata.is_file(), "{} is neither file, folder nor link", path.display());
            Kind::File(Content::Host(path.to_owned()))
        };
        Ok(Self { kind, mode, owner })
    }

    fn write(&self, tar: &mut Builder<&mut dyn Write>, path: &str) -> anyhow::Result<()> {
        let mut header = Header::new_gnu();
        // Said in any case: without it, readers take a name for a folder's that is cut at a slash.
        header.set_entry_type(EntryType::Regular);
        header.set_mode(self.mode);
        header.set_uid(self.owner.uid);
        header.set_gid(self.owner.gid);
        header.set_mtime(0);
        header.set_size(0);
        match &self.kind {
            Kind::Folder => {
                header.set_entry_type(EntryType::Directory);
                tar.append_data(&mut header, path, std::io::empty())?;
            }
            Kind::Link(target) => {
                header.set_entry_type(EntryType::Symlink);
                tar.append_link(&mut header, path, target)?;
            }
            Kind::File(Content::Bytes(bytes)) => {
                header.set_size(bytes.len() as u64);
                tar.append_data(&mut header, path, bytes.as_slice())?;
            }
            Kind::File(Content::Host(host)) => {
                append_host(tar, &mut header, path, host)
                    .with_context(|| format!("failed to read {}", host.display()))?;
            }
        }
        Ok(())
    }
}

fn append_host(
    tar: &mut Builder<&mut dyn Write>,
    header: &mut Header,
    path: &str,
    host: &Path,
) -> anyhow::Result<()> {
    let file = File::open(host)?;
    let size = file.metadata()?.len();
    header.set_size(size);
    let mut content = file.take(size);
    tar.append_data(header, path, &mut content)?;
    // A file that shrinks while it is read would shift all that follows.
    anyhow::ensure!(content.limit() == 0, "it changed while it was read");
    Ok(())
}

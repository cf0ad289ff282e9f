//! The root folder under its lock: what is there, staging folders, and the rename that publishes a version.

use std::fs::{self, File, Metadata, Permissions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use headstart_externals::fault::FaultReason;
use headstart_externals::layout::{Root, VersionDir};
use headstart_externals::manifest::{MODE_EXECUTABLE, Manifest};
use headstart_externals::version::VersionName;
use rustix::fs::{RenameFlags, renameat_with};

use crate::durable::sync_folder;
use crate::fault::{Fault, IoContext, Outcome};
use crate::progress::{Progress, Step};
use crate::trash::remove;

/// The root while this process is its only writer.
pub struct Store {
    root: Root,
    /// Held as long as the store lives.
    lock: File,
    /// The folders as they were when it was opened.
    folders: Vec<(PathBuf, Option<FileId>)>,
}

/// Device and inode.
type FileId = (u64, u64);

/// A version folder as it was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// It has a sound manifest for its own name; the tree was not looked at.
    Complete(Box<Manifest>),
    /// It has none, or a bad one: something foreign, or damage.
    Foreign(String),
}

/// A folder in staging; removed when dropped.
pub struct Staging {
    path: PathBuf,
}

impl Store {
    /// Makes the root ready and locks it, then removes what a crash left behind in staging and trash.
    pub fn open(root: Root) -> Outcome<Self> {
        for folder in std::iter::once(root.path().to_owned()).chain(root.folders()) {
            make_folder(&folder)?;
        }
        let lock = lock(&root)?;
        let folders = root.folders().map(|folder| {
            let id = id(fs::symlink_metadata(&folder));
            (folder, id)
        });
        // What is published below them later is lost with their names.
        sync_folder(root.path())?;
        let store = Self { root, lock, folders: folders.into() };
        if let Err(fault) = store.end_exchanges() {
            tracing::warn!(%fault, "left what an interrupted exchange left behind");
        }
        for folder in [store.root.staging(), store.root.trash()] {
            // What cannot be removed now is in nobody's way.
            if let Err(fault) = sweep(&folder) {
                tracing::warn!(%fault, "left what an interrupted run left behind");
            }
        }
        Ok(store)
    }

    /// The root.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Whether the lock that is held is still the root's, and its folders are those that it had; else somebody removed
    /// them, and another agent may own what is there now.
    pub fn is_intact(&self) -> bool {
        let held = id(self.lock.metadata());
        let is_held = held.is_some() && held == id(fs::symlink_metadata(self.root.lock()));
        let is_same =
            |(folder, known): &(PathBuf, Option<FileId>)| id(fs::symlink_metadata(folder)) == *known;
        is_held && self.folders.iter().all(is_same)
    }

    /// What lies under a version's name; `None` if nothing does, or nothing but empty folders, which container
    /// runtimes make where a mount's source is missing.
    pub fn find(&self, version: &VersionName) -> Outcome<Option<Found>> {
        let dir = self.root.version(version);
        match fs::read(dir.manifest()) {
            Ok(text) => Ok(Some(match Manifest::parse(&text) {
                Ok(manifest) if manifest.version == *version => Found::Complete(Box::new(manifest)),
                Ok(manifest) => Found::Foreign(format!("its manifest is that of {}", manifest.version)),
                Err(cause) => Found::Foreign(format!("its manifest {cause}")),
            })),
            Err(_) if only_empty_folders(dir.path()) => Ok(None),
            Err(error) if is_absent(&error) => Ok(Some(Found::Foreign("it has no manifest".to_owned()))),
            Err(error) if is_exhausted(&error) => Err(Fault::io("read", &dir.manifest(), &error)),
            Err(error) => Ok(Some(Found::Foreign(format!("its manifest cannot be read: {error}")))),
        }
    }

    /// A new folder in staging.
    pub fn staging(&self) -> Outcome<Staging> {
        Staging::create(&self.root.staging())
    }

    /// Publishes a finished build under its name: the one moment from which pods can see it.
    ///
    /// What lies under the name already is exchanged with the build, so that the name never goes missing, and kept
    /// in `replaced/`, since running pods may use it. Only empty folders are removed.
    pub fn publish(&self, staging: Staging, version: &VersionName, progress: &Progress) -> Outcome<()> {
        let target = self.root.version(version);
        if fs::symlink_metadata(target.path()).is_err_and(|error| is_absent(&error)) {
            rename(&staging.path, target.path(), RenameFlags::NOREPLACE)?;
            progress.reached(Step::Published);
        } else {
            self.exchange(&staging, version, progress)?;
        }
        for folder in [self.root.versions(), self.root.staging()] {
            sync_folder(&folder)?;
        }
        progress.reached(Step::NameSynced);
        Ok(())
    }

    /// The build goes into `replaced/` first, so that a crash after the exchange leaves the old folder there and not in
    /// staging, which is swept; it is marked meanwhile, so that a crash before leaves nothing that is kept.
    fn exchange(&self, staging: &Staging, version: &VersionName, progress: &Progress) -> Outcome<()> {
        let target = self.root.version(version);
        // Pods use what gives way; with a mark it would pass for a build that never came to its name.
        unmark(&target)?;
        let marked = staging.dir().unpublished();
        File::create_new(&marked).doing("create", &marked)?;
        sync_folder(&staging.path)?;
        let beside = self.free_replaced_name(version)?;
        rename(&staging.path, &beside, RenameFlags::NOREPLACE)?;
        progress.reached(Step::MovedBeside);
        if let Err(fault) = rename(&beside, target.path(), RenameFlags::EXCHANGE) {
            // Back to where it is removed, or each retry would leave a build behind.
            let _ = rename(&beside, &staging.path, RenameFlags::NOREPLACE);
            return Err(fault);
        }
        progress.reached(Step::Published);
        // In this order, so that what gave way has a place on the disk before it loses its own, and the build loses its
        // mark after both have theirs.
        for folder in [self.root.replaced(), self.root.versions()] {
            sync_folder(&folder)?;
        }
        unmark(&target)?;
        if only_empty_folders(&beside) {
            return remove_empty_folders(&beside);
        }
        tracing::warn!(%version, kept = %beside.display(), "replaced a folder that was not this version");
        Ok(())
    }

    /// Takes the mark away that an exchange left on a version when it could not be ended: what has its name is published.
    pub(crate) fn end_exchange(&self, version: &VersionName) -> Outcome<()> {
        unmark(&self.root.version(version))
    }

    /// Ends exchanges that a crash interrupted: builds that did not come to their name go, those that did lose their mark.
    /// What cannot be ended holds up nothing else.
    fn end_exchanges(&self) -> Outcome<()> {
        let unfinished = each_folder(&self.root.replaced(), |dir| {
            if !is_marked(dir) {
                return Ok(());
            }
            tracing::info!(path = %dir.path().display(), "removing a build that an interrupted run left behind");
            rename(dir.path(), &self.root.trash().join(random_name()), RenameFlags::NOREPLACE)
        });
        let published = each_folder(&self.root.versions(), unmark);
        unfinished.and(published)
    }

    fn free_replaced_name(&self, version: &VersionName) -> Outcome<PathBuf> {
        let replaced = self.root.replaced();
        let mut names = (1u32..).map(|n| replaced.join(format!("{version}-{n}")));
        let free = names.find(|path| fs::symlink_metadata(path).is_err_and(|error| is_absent(&error)));
        free.ok_or_else(|| Fault::new(FaultReason::Io, format!("no free name in {}", replaced.display())))
    }
}

impl Staging {
    /// A new folder with a random name in `parent`.
    pub(crate) fn create(parent: &Path) -> Outcome<Self> {
        let path = parent.join(random_name());
        fs::create_dir(&path).doing("create", &path)?;
        let staging = Self { path };
        crate::tree::writer::set_folder_mode(&staging.path)?;
        Ok(staging)
    }

    /// The folder itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder, laid out like a version.
    pub fn dir(&self) -> VersionDir {
        VersionDir::new(&self.path)
    }

    /// A path beside the build, for a downloaded archive; it is on the same file system and swept the same way.
    pub fn download(&self) -> PathBuf {
        self.path.with_extension("download")
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After a rename nothing is there any more; after a failure this frees the space at once, and the sweep at
        // the next start removes what cannot be removed now.
        let _ = fs::remove_dir_all(&self.path);
        let _ = fs::remove_file(self.download());
    }
}

fn id(metadata: io::Result<Metadata>) -> Option<FileId> {
    metadata.ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn lock(root: &Root) -> Outcome<File> {
    let path = root.lock();
    // Nobody else may open it: to hold a lock, reading is enough.
    let mut options = File::options();
    let opened = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = opened.map_err(|error| not_writable("open", &path, &error))?;
    match file.try_lock() {
        Ok(()) => {
            file.set_permissions(Permissions::from_mode(0o600)).doing("set the mode of", &path)?;
            // Only for people to read; on a full disk the lock is as good without it.
            let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            let message = format!("{} is held by another agent (process {})", path.display(), holder.trim());
            Err(Fault::new(FaultReason::RootLocked, message))
        }
        Err(TryLockError::Error(error)) => Err(Fault::io("lock", &path, &error)),
    }
}

pub(crate) fn not_writable(what: &str, path: &Path, error: &io::Error) -> Fault {
    let message = format!("failed to {what} {}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Fault::new(FaultReason::DiskFull, message)
        }
        _ => Fault::new(FaultReason::RootNotWritable, message),
    }
}

/// Makes a folder of the root, or judges the one that is there: whoever may write it decides what pods run.
pub(crate) fn make_folder(folder: &Path) -> Outcome<()> {
    if let Err(error) = fs::DirBuilder::new().recursive(true).mode(MODE_EXECUTABLE).create(folder) {
        return Err(not_writable("create", folder, &error));
    }
    let metadata = fs::symlink_metadata(folder).doing("look at", folder)?;
    let unsafe_for =
        |what: &str| Err(Fault::new(FaultReason::RootUnsafe, format!("{} {what}", folder.display())));
    let mode = metadata.permissions().mode() & 0o7777;
    if !metadata.is_dir() {
        return unsafe_for("is not a folder");
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return unsafe_for(&format!("belongs to user {}", metadata.uid()));
    }
    if mode & 0o022 != 0 {
        return unsafe_for(&format!("has mode {mode:04o}, so that others may write it"));
    }
    Ok(())
}

/// Removes everything in a folder; what cannot be removed holds up nothing else.
pub(crate) fn sweep(folder: &Path) -> Outcome<()> {
    let mut first = Ok(());
    for entry in fs::read_dir(folder).doing("list", folder)? {
        let path = entry.doing("list", folder)?.path();
        tracing::info!(path = %path.display(), "removing what an interrupted run left behind");
        first = first.and(remove(&path));
    }
    first
}

/// Does something to each folder in `parent`, also where it failed for another; the first fault.
fn each_folder(parent: &Path, act: impl Fn(&VersionDir) -> Outcome<()>) -> Outcome<()> {
    let mut first = Ok(());
    for entry in fs::read_dir(parent).doing("list", parent)? {
        first = first.and(act(&VersionDir::new(entry.doing("list", parent)?.path())));
    }
    first
}

/// Whether it passes for a build that has not come to its name.
fn is_marked(dir: &VersionDir) -> bool {
    fs::symlink_metadata(dir.unpublished()).is_ok_and(|metadata| metadata.is_file())
}

/// Takes the mark of an unfinished build away, if there is one.
fn unmark(dir: &VersionDir) -> Outcome<()> {
    if !is_marked(dir) {
        return Ok(());
    }
    let marked = dir.unpublished();
    fs::remove_file(&marked).doing("remove", &marked)?;
    sync_folder(dir.path())
}

/// Moves a finished build to its name, or exchanges the two.
pub(crate) fn rename(from: &Path, to: &Path, flags: RenameFlags) -> Outcome<()> {
    renameat_with(rustix::fs::CWD, from, rustix::fs::CWD, to, flags).doing("move something to", to)
}

/// Free bytes on the file system of `path`; `None` where that cannot be told.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Whether it is this process that lacks something, so that nothing is said of the file.
pub(crate) fn is_exhausted(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
}

pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Whether nothing but folders lies at `path`, or nothing at all.
pub(crate) fn only_empty_folders(path: &Path) -> bool {
    let mut walk = walkdir::WalkDir::new(path).into_iter();
    walk.all(|entry| match entry {
        Ok(entry) => entry.file_type().is_dir(),
        Err(error) => error.io_error().is_some_and(|error| error.kind() == io::ErrorKind::NotFound),
    })
}

/// Removes folders from the inside out; anything else stops it, so that no content is ever removed.
fn remove_empty_folders(path: &Path) -> Outcome<()> {
    for entry in walkdir::WalkDir::new(path).contents_first(true).into_iter().flatten() {
        fs::remove_dir(entry.path()).doing("remove", entry.path())?;
    }
    Ok(())
}

pub(crate) fn random_name() -> String {
    format!("{:016x}", fastrand::u64(..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_had_its_name_is_kept_whatever_mark_it_carries() {
        let folder = tempfile::tempdir().unwrap();
        let version: VersionName = "node16-0123456789ab".parse().unwrap();
        let open = || Store::open(Root::new(folder.path().join("root"))).unwrap();
        let store = open();
        let build = |content: &str| {
            let staging = store.staging().unwrap();
            fs::write(staging.path.join("content"), content).unwrap();
            store.publish(staging, &version, &Progress::new(std::sync::Arc::new(|_| {}))).unwrap();
        };
        build("old");
        let published = store.root().version(&version);
        fs::write(published.unpublished(), "").unwrap();
        build("new");
        let read = |path: PathBuf| fs::read_to_string(path.join("content")).unwrap();
        assert_eq!(read(published.path().to_owned()), "new");
        drop(store);
        let store = open();
        assert_eq!(read(store.root().replaced().join(format!("{version}-1"))), "old", "pods may use it");
    }
}

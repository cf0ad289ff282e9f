//! Removing a version that nobody needs: first it loses its name, then its bytes. A crash between the two leaves only
//! nameless folders, which the next start removes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use headstart_externals::fault::FaultReason;
use headstart_externals::version::VersionName;
use rustix::fs::RenameFlags;

use crate::disk::replaced_version;
use crate::durable::sync_folder;
use crate::fault::{Fault, IoContext as _, Outcome};
use crate::progress::{Progress, Step};
use crate::store::{Store, is_absent, random_name, rename};

impl Store {
    /// Takes the names of a version and of all that belongs to it away: damaged trees and the staged copy first, the
    /// version last, so that it stays known until everything has gone. The staged copy stays where `keep_copy` says so.
    pub fn trash(&self, version: &VersionName, keep_copy: bool, progress: &Progress) -> Outcome<()> {
        self.check_intact()?;
        let root = self.root();
        let mut doomed = self.replaced_of(version)?;
        if !keep_copy {
            doomed.push(root.staged_source(version).path().to_owned());
        }
        doomed.push(root.version(version).path().to_owned());
        for folder in doomed {
            if fs::symlink_metadata(&folder).is_err_and(|error| is_absent(&error)) {
                continue;
            }
            rename(&folder, &root.trash().join(random_name()), RenameFlags::NOREPLACE)?;
            progress.reached(Step::Trashed);
        }
        // The new place is certain before the old one is given up.
        for folder in [root.trash(), root.replaced(), root.staged(), root.versions()] {
            sync_folder(&folder)?;
        }
        progress.reached(Step::TrashSynced);
        Ok(())
    }

    /// Removes what has lost its name; what cannot be removed holds up nothing else.
    pub fn delete(&self, progress: &Progress) -> Outcome<()> {
        self.check_intact()?;
        let trash = self.root().trash();
        let mut first = Ok(());
        for entry in fs::read_dir(&trash).doing("list", &trash)? {
            let removed = remove(&entry.doing("list", &trash)?.path());
            first = first.and(removed);
            progress.reached(Step::Deleted);
        }
        first
    }

    /// Takes the names of everything away.
    pub(crate) fn trash_all(&self, progress: &Progress) -> Outcome<()> {
        self.check_intact()?;
        let root = self.root();
        // A stage that is under way ends with an error, as its folder is gone.
        let folders = [root.versions(), root.replaced(), root.staged(), root.staging()];
        for folder in &folders {
            for entry in fs::read_dir(folder).doing("list", folder)? {
                let path = entry.doing("list", folder)?.path();
                rename(&path, &root.trash().join(random_name()), RenameFlags::NOREPLACE)?;
                progress.reached(Step::Trashed);
            }
        }
        // The new place is certain before the old one is given up.
        for folder in std::iter::once(&root.trash()).chain(&folders) {
            sync_folder(folder)?;
        }
        progress.reached(Step::TrashSynced);
        Ok(())
    }

    /// Removes the folders of the root, which are empty, the lock last, and the root if nothing else lies in it.
    pub(crate) fn remove_folders(self) -> Outcome<()> {
        let root = self.root();
        for folder in root.folders() {
            fs::remove_dir(&folder).doing("remove", &folder)?;
        }
        fs::remove_file(root.lock()).doing("remove", root.lock())?;
        // Something of others may lie there, and a mount point cannot be removed at all.
        match fs::remove_dir(root.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::info!(root = %root.path().display(), %error, "the root folder itself stays");
            }
            _ => {}
        }
        Ok(())
    }

    fn replaced_of(&self, version: &VersionName) -> Outcome<Vec<PathBuf>> {
        let replaced = self.root().replaced();
        let mut found = Vec::new();
        for entry in fs::read_dir(&replaced).doing("list", &replaced)? {
            let entry = entry.doing("list", &replaced)?;
            let of = entry.file_name().to_str().and_then(replaced_version);
            if of.as_ref() == Some(version) {
                found.push(entry.path());
            }
        }
        Ok(found)
    }

    /// A fault if the root is not ours any more.
    pub(crate) fn check_intact(&self) -> Outcome<()> {
        if self.is_intact() {
            return Ok(());
        }
        Err(Fault::new(FaultReason::RootLocked, "the root's lock was taken away; opening it anew"))
    }
}

/// Removes a file or a folder with everything in it; links are not followed.
pub(crate) fn remove(path: &Path) -> Outcome<()> {
    let is_folder = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    let removed = if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.doing("remove", path)
}

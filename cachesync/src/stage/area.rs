//! The folder `staged/` under its own lock: what is there, and how a finished copy gets its name.
//!
//! Nothing else of the root is touched; the agent may be at work beside it, or not have begun.

use std::fs::{self, File, Permissions, TryLockError};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use headstart_externals::layout::{Root, StagedDir};
use headstart_externals::manifest::tree_digest;
use headstart_externals::staged::SourceRecord;
use headstart_externals::version::VersionName;
use rustix::fs::RenameFlags;

use crate::durable::{sync_folder, sync_folders, write_document};
use crate::fault::{Fault, IoContext, Outcome};
use crate::progress::{Progress, Step};
use crate::source::staged;
use crate::store::{Staging, is_absent, make_folder, not_writable, rename, sweep};
use crate::tree::inspect::inspect;

/// How often a lock that somebody else holds is tried.
const LOCK_POLL: Duration = Duration::from_millis(100);

/// How often the log says so.
const WAIT_LOG: Duration = Duration::from_secs(5);

/// The folder while this process is the only stage run on the node.
pub(super) struct Area {
    root: Root,
    /// Held as long as the area lives.
    _lock: File,
}

impl Area {
    /// Makes the folder ready, waits for its lock, and removes what a killed run left behind.
    pub(super) fn open(root: Root, progress: &Progress) -> Outcome<Self> {
        // In a runner image the root belongs to the image; only what lies below it is the node's.
        fs::create_dir_all(root.path()).doing("create", root.path())?;
        for folder in [root.staged(), root.stage_building()] {
            make_folder(&folder)?;
        }
        // What is published there later is lost with its name.
        sync_folder(root.path())?;
        let lock = lock(&root.stage_lock(), progress)?;
        // What cannot be removed now is in nobody's way.
        if let Err(fault) = sweep(&root.stage_building()) {
            tracing::warn!(%fault, "left what an interrupted stage run left behind");
        }
        Ok(Self { root, _lock: lock })
    }

    /// The record for `version`; one that cannot be read is as good as none.
    pub(super) fn record(&self, version: &VersionName) -> Option<SourceRecord> {
        staged::read(&self.root.staged_source(version)).ok().flatten()
    }

    /// Whether `version` was staged from `image` before and is undamaged: all of it is read again.
    pub(super) fn holds(&self, version: &VersionName, image: &str) -> bool {
        let Some(record) = self.record(version) else { return false };
        let Some((digest, _)) = record.staged_from(image, version) else { return false };
        match inspect(&self.root.staged_source(version).tree()) {
            Ok(found) if tree_digest(&found) == digest => true,
            found => {
                let cause =
                    found.map_or_else(|fault| fault.message, |_| "its digest is another one".to_owned());
                tracing::warn!(%version, cause, "what is staged is damaged; staging it anew");
                false
            }
        }
    }

    /// A new folder to stage in, on the same file system.
    pub(super) fn building(&self) -> Outcome<Staging> {
        Staging::create(&self.root.stage_building())
    }

    /// Writes the record last, makes everything durable, and gives it its name in one step.
    pub(super) fn publish(
        &self,
        building: Staging,
        record: &SourceRecord,
        progress: &Progress,
    ) -> Outcome<()> {
        write_document(&StagedDir::new(building.path()).record(), record)?;
        progress.reached(Step::ManifestWritten);
        sync_folders(building.path())?;
        progress.reached(Step::Synced);
        let target = self.root.staged_source(&record.version);
        let absent = fs::symlink_metadata(target.path()).is_err_and(|error| is_absent(&error));
        let how = if absent { RenameFlags::NOREPLACE } else { RenameFlags::EXCHANGE };
        rename(building.path(), target.path(), how)?;
        progress.reached(Step::Published);
        sync_folder(&self.root.staged())?;
        progress.reached(Step::NameSynced);
        // Dropped with `building`: what was there before. Only the agent reads here, and it checks what it has read.
        Ok(())
    }
}

fn lock(path: &Path, progress: &Progress) -> Outcome<File> {
    let mut options = File::options();
    let opened = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = opened.map_err(|error| not_writable("open", path, &error))?;
    let mut said: Option<Instant> = None;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(error)) => return Err(Fault::io("lock", path, &error)),
            Err(TryLockError::WouldBlock) => {}
        }
        progress.check()?;
        if said.is_none_or(|said| said.elapsed() >= WAIT_LOG) {
            tracing::info!(lock = %path.display(), "waiting for another stage run on this node");
            said = Some(Instant::now());
        }
        thread::sleep(LOCK_POLL);
    }
    file.set_permissions(Permissions::from_mode(0o600)).doing("set the mode of", path)?;
    Ok(file)
}

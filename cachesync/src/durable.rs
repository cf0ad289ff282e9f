//! What must survive a power cut: documents and folders are on the disk before anything is visible under its name.

use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use headstart_externals::fault::FaultReason;
use headstart_externals::manifest::MODE_PLAIN;
use serde::Serialize;

use crate::fault::{Fault, IoContext, Outcome};

/// Writes a new JSON document, readable for everyone.
pub(crate) fn write_document(path: &Path, document: &impl Serialize) -> Outcome<()> {
    let mut text = serde_json::to_vec_pretty(document).map_err(|error| {
        Fault::new(FaultReason::Io, format!("failed to write {}: {error}", path.display()))
    })?;
    text.push(b'\n');
    let mut file = File::create_new(path).doing("create", path)?;
    file.set_permissions(Permissions::from_mode(MODE_PLAIN)).doing("set the mode of", path)?;
    file.write_all(&text).and_then(|()| file.sync_all()).doing("write", path)
}

/// Makes the entries of a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Outcome<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).doing("sync", folder)
}

/// Makes the entries of a folder and of all folders in it durable; files are synced as they are written.
pub(crate) fn sync_folders(folder: &Path) -> Outcome<()> {
    for entry in walkdir::WalkDir::new(folder).contents_first(true) {
        let entry = entry.map_err(|error| Fault::new(FaultReason::Io, error.to_string()))?;
        if entry.file_type().is_dir() {
            sync_folder(entry.path())?;
        }
    }
    Ok(())
}

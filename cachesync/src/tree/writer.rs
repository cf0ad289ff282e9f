//! Writing a tree into staging: inside a sandbox, modes exact, every file hashed as it is written and then flushed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, Permissions};
use headstart_externals::fault::FaultReason;
use headstart_externals::manifest::{FileRecord, MODE_EXECUTABLE, MODE_PLAIN};
use headstart_externals::relpath::RelPath;
use headstart_externals::version::hex;
use sha2::{Digest, Sha256};

use crate::fault::{Fault, IoContext, Outcome};
use crate::parallel;
use crate::progress::Progress;
use crate::tree::flush::Flusher;

/// Bytes per read.
const CHUNK: usize = 256 << 10;

/// A tree under construction; it writes nothing outside its folder, whatever the paths say.
pub struct TreeWriter {
    dir: Dir,
    path: PathBuf,
    folders: BTreeSet<RelPath>,
    files: BTreeMap<RelPath, FileRecord>,
    flusher: Flusher,
    progress: Progress,
}

/// A file that is to be written.
pub struct NewFile<T> {
    /// Where.
    pub path: RelPath,
    /// Whether it is a program.
    pub executable: bool,
    /// Where its content comes from.
    pub from: T,
}

impl TreeWriter {
    /// Creates the folder of the tree.
    pub fn create(path: &Path, progress: Progress) -> Outcome<Self> {
        fs::create_dir(path).doing("create", path)?;
        set_folder_mode(path)?;
        let dir = Dir::open_ambient_dir(path, ambient_authority()).doing("open", path)?;
        Ok(Self {
            dir,
            path: path.to_owned(),
            folders: BTreeSet::new(),
            files: BTreeMap::new(),
            flusher: Flusher::begin()?,
            progress,
        })
    }

    /// Writes one file.
    pub fn file(&mut self, path: &RelPath, executable: bool, content: &mut dyn Read) -> Outcome<()> {
        self.prepare(path)?;
        let record = self.write(path, executable, content)?;
        self.files.insert(path.clone(), record);
        Ok(())
    }

    /// Writes several files, some at a time; `content` opens what goes into one.
    pub fn files<T: Sync, R: Read>(
        &mut self,
        files: &[NewFile<T>],
        content: impl Fn(&T) -> Outcome<R> + Sync,
    ) -> Outcome<()> {
        for file in files {
            self.prepare(&file.path)?;
        }
        let records =
            parallel::each(files, |file| self.write(&file.path, file.executable, &mut content(&file.from)?))?;
        let paths = files.iter().map(|file| file.path.clone());
        self.files.extend(paths.zip(records));
        Ok(())
    }

    fn write(&self, path: &RelPath, executable: bool, content: &mut dyn Read) -> Outcome<FileRecord> {
        let full = self.path.join(path);
        let mut options = OpenOptions::new();
        let mut file =
            self.dir.open_with(path, options.write(true).create_new(true)).doing("create", &full)?;
        let (size, sha256) = self.copy(content, &mut file, &full)?;
        let mode = if executable { MODE_EXECUTABLE } else { MODE_PLAIN };
        let permissions = Permissions::from_std(fs::Permissions::from_mode(mode));
        file.set_permissions(permissions).doing("set the mode of", &full)?;
        drop(file);
        self.flusher.add(&full)?;
        self.progress.add_file();
        Ok(FileRecord::File { size, executable, sha256 })
    }

    /// Makes one symbolic link; its target was checked to stay inside the tree.
    pub fn link(&mut self, path: &RelPath, target: &str) -> Outcome<()> {
        self.prepare(path)?;
        self.dir.symlink(target, path).doing("link", self.path.join(path))?;
        self.files.insert(path.clone(), FileRecord::Link { target: target.to_owned() });
        self.progress.add_file();
        Ok(())
    }

    /// Bytes in a file that was written before; 0 for anything else.
    pub fn size_of(&self, path: &RelPath) -> u64 {
        self.files.get(path).map_or(0, FileRecord::bytes)
    }

    /// Writes a file with the content of another one that was written before.
    pub fn copy_of(&mut self, path: &RelPath, other: &RelPath) -> Outcome<()> {
        let Some(FileRecord::File { executable, .. }) = self.files.get(other) else {
            let message = format!("{path} is a hard link to {other}, which is not kept before it");
            return Err(Fault::new(FaultReason::HardlinkEscape, message));
        };
        let executable = *executable;
        let mut content = self.dir.open(other).doing("open", self.path.join(other))?;
        self.file(path, executable, &mut content)
    }

    /// Everything that was written, and its way to the disk, which has to be waited for before anybody may see it.
    pub(crate) fn finish(self) -> (BTreeMap<RelPath, FileRecord>, Flusher) {
        (self.files, self.flusher)
    }

    /// Makes the folders above `path` and refuses what lies where something else must be.
    fn prepare(&mut self, path: &RelPath) -> Outcome<()> {
        let conflict = |message: String| Err(Fault::new(FaultReason::PathConflict, message));
        if self.files.contains_key(path) || self.folders.contains(path) {
            return conflict(format!("{path} is in the source twice, or is a file and a folder"));
        }
        for folder in path.ancestors() {
            if self.files.contains_key(&folder) {
                return conflict(format!("{folder} is a file or a link, but {path} lies below it"));
            }
            if self.folders.insert(folder.clone()) {
                let full = self.path.join(&folder);
                self.dir.create_dir(&folder).doing("create", &full)?;
                set_folder_mode(&full)?;
            }
        }
        Ok(())
    }

    /// Size and digest of what was copied.
    fn copy(&self, from: &mut dyn Read, to: &mut impl Write, path: &Path) -> Outcome<(u64, String)> {
        let mut hasher = Sha256::new();
        let mut size = 0;
        let mut chunk = vec![0; CHUNK];
        loop {
            let length = match from.read(&mut chunk) {
                Ok(0) => return Ok((size, hex(&hasher.finalize()))),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(Fault::new(FaultReason::ArchiveCorrupt, format!("reading failed: {error}")));
                }
            };
            self.progress.write(length as u64)?;
            hasher.update(&chunk[..length]);
            to.write_all(&chunk[..length]).doing("write", path)?;
            size += length as u64;
        }
    }
}

/// Modes must be exact, whatever the umask or a setgid parent says.
pub(crate) fn set_folder_mode(path: &Path) -> Outcome<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(MODE_EXECUTABLE)).doing("set the mode of", path)
}

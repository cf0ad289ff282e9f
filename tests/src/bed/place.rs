//! The place of one bed on this machine: its number, the lock that keeps others out, and its folder.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::leftovers;
use super::network::Network;

/// Locks lie where every user and every `TMPDIR` finds them: addresses and cgroups are the whole machine's.
const LOCKS: &str = "/tmp";
const NAME: &str = "headstart-bed";
const LAST: u8 = 200;

/// Ports of one bed; below the range from which systems take ports for outgoing connections.
const FIRST_PORT: u16 = 21_000;
const PORTS: u16 = 16;

/// Where a bed lives. Ports and addresses follow from the number, which another bed may have later; the name is never
/// given again.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Place {
    /// Number of the bed.
    pub index: u8,
    /// Name of the bed, also that of its cgroup.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// The process that wanted it.
    pub owner: i32,
    /// Whether it was made to stay, by `bed up`.
    pub kept: bool,
}

/// A place that is taken as long as this lives.
pub struct Claim {
    /// The place.
    pub place: Place,
    lock: File,
}

impl Place {
    /// One of its ports on loopback.
    pub fn port(&self, number: u16) -> u16 {
        FIRST_PORT + u16::from(self.index) * PORTS + number
    }

    /// A path in its folder.
    pub fn path(&self, below: &str) -> PathBuf {
        self.folder.join(below)
    }

    /// The file whose lock says that the bed is in use.
    pub fn lock_file(&self) -> PathBuf {
        lock_file(self.index)
    }

    /// Whether another bed has this one's number by now.
    pub fn is_succeeded(&self) -> bool {
        let text = fs::read(self.lock_file()).unwrap_or_default();
        serde_json::from_slice::<Self>(&text).is_ok_and(|place| place != *self)
    }

    fn is_free(&self) -> bool {
        let ports = (0..PORTS).all(|number| TcpListener::bind(("127.0.0.1", self.port(number))).is_ok());
        ports && Network::new(self.index).is_free()
    }
}

impl Claim {
    /// Takes the first free place. What a bed without an owner left behind anywhere is removed on the way.
    pub fn take(owner: i32, kept: bool) -> Result<Self> {
        sweep()?;
        for index in 1..=LAST {
            let Some(lock) = lock(index) else { continue };
            let name = format!("{NAME}-{index}-{}", std::process::id());
            let folder = fs::canonicalize(std::env::temp_dir())?.join(&name);
            let mut claim = Self { place: Place { index, name, folder, owner, kept }, lock };
            if !claim.place.is_free() {
                claim.release();
                continue;
            }
            claim.record()?;
            return Ok(claim);
        }
        bail!("no place for another bed: {LAST} are in use ({LOCKS}/{NAME}-*.lock)")
    }

    /// Gives the place up; the bed must be gone.
    pub fn release(self) {
        let _ = fs::remove_file(self.place.lock_file());
    }

    fn record(&mut self) -> Result<()> {
        self.lock.set_len(0)?;
        self.lock.rewind()?;
        Ok(self.lock.write_all(&serde_json::to_vec(&self.place)?)?)
    }
}

/// The beds that are in use, and those that were left behind.
pub fn known() -> Result<Vec<Place>> {
    let entries = fs::read_dir(LOCKS)?.filter_map(Result::ok).map(|entry| entry.path());
    let texts = entries.filter(|path| is_lock(path)).filter_map(|path| fs::read_to_string(path).ok());
    Ok(texts.filter_map(|text| serde_json::from_str(&text).ok()).collect())
}

/// Removes what is left of beds whose supervisor is gone.
pub fn sweep() -> Result<()> {
    for place in known()? {
        let Some(mut lock) = lock(place.index) else { continue };
        let mut text = String::new();
        lock.read_to_string(&mut text)?;
        // Read again under the lock: it may be another bed by now.
        if let Ok(place) = serde_json::from_str::<Place>(&text) {
            leftovers::clear(&place).with_context(|| format!("what is left of {}", place.name))?;
        }
        let _ = fs::remove_file(lock_file(place.index));
    }
    Ok(())
}

/// Takes the lock of a number, unless somebody has it.
fn lock(index: u8) -> Option<File> {
    let path = lock_file(index);
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&path).ok()?;
    file.try_lock().ok()?;
    // The one who had it before may have removed the file meanwhile; then this lock keeps nobody out.
    let (held, there) = (file.metadata().ok()?, fs::metadata(&path).ok()?);
    (held.ino() == there.ino()).then_some(file)
}

fn lock_file(index: u8) -> PathBuf {
    Path::new(LOCKS).join(format!("{NAME}-{index}.lock"))
}

fn is_lock(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with(NAME) && name.ends_with(".lock")
}

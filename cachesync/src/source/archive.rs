//! The `archive` source: a verified tar archive, read as a stream; only wanted paths are ever written.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use headstart_externals::config::ArchiveFormat;
use headstart_externals::fault::FaultReason;
use headstart_externals::relpath::RelPath;
use tar::{Archive, Entry, EntryType};

use super::intake::{Intake, Item, is_executable, item_path};
use crate::fault::{Fault, IoContext, Outcome};
use crate::tree::writer::TreeWriter;

/// Most bytes between two members and after the last: headers, padding, and extensions such as long names, which
/// are held in memory.
const BETWEEN_MEMBERS: u64 = 1 << 20;

/// Zero bytes at the end of every tar archive.
const END_MARKER: u64 = 1024;

/// Most memory that the xz decoder may ask for, in bytes; presets up to -9 need 65 MiB.
const XZ_MEMORY: u64 = 256 << 20;

/// Writes what `intake` admits of the folder `inside` of the archive.
pub(super) fn read(
    file: &Path,
    format: ArchiveFormat,
    inside: Option<&RelPath>,
    intake: Intake<'_>,
    writer: &mut TreeWriter,
) -> Outcome<()> {
    let opened = File::open(file).doing("open", file)?;
    let decoder = decoder(format, BufReader::with_capacity(256 << 10, opened))?;
    let allowance = Cell::new(BETWEEN_MEMBERS);
    let metered = Metered { inner: decoder, allowance: &allowance, read: 0, zeros: 0 };
    let mut unpacking = Unpacking { inside, intake, writer };
    let mut archive = Archive::new(metered);
    let found = read_members(&mut archive, &mut unpacking, &allowance)?;
    // What follows the last member is padding and the packing's own checksums, which tell a cut-off archive.
    allowance.set(BETWEEN_MEMBERS);
    let mut rest = archive.into_inner();
    let members_end = rest.read;
    io::copy(&mut rest, &mut io::sink()).map_err(corrupt)?;
    if rest.read - rest.zeros > members_end || rest.zeros < END_MARKER {
        return Err(Fault::new(
            FaultReason::ArchiveCorrupt,
            "the archive does not end as a tar archive does",
        ));
    }
    match (found, inside) {
        (false, Some(inside)) => {
            Err(Fault::new(FaultReason::MissingFile, format!("the archive has no folder {inside}")))
        }
        _ => Ok(()),
    }
}

/// Takes every member; whether the wanted folder was among them.
fn read_members(
    archive: &mut Archive<impl Read>,
    unpacking: &mut Unpacking<'_, '_>,
    allowance: &Cell<u64>,
) -> Outcome<bool> {
    let mut found = false;
    let mut entries = archive.entries().map_err(corrupt)?;
    loop {
        allowance.set(BETWEEN_MEMBERS);
        let Some(entry) = entries.next() else { return Ok(found) };
        let mut entry = entry.map_err(corrupt)?;
        // What the member holds is counted against the limits before any of it is read.
        unpacking.intake.count(entry.size())?;
        allowance.set(u64::MAX);
        found |= unpacking.member(&mut entry)?;
        io::copy(&mut entry, &mut io::sink()).map_err(corrupt)?;
    }
}

fn decoder(format: ArchiveFormat, file: impl io::BufRead + 'static) -> Outcome<Box<dyn Read>> {
    Ok(match format {
        ArchiveFormat::TarGz => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        ArchiveFormat::TarZst => Box::new(zstd::stream::read::Decoder::with_buffer(file).map_err(corrupt)?),
        ArchiveFormat::TarXz => {
            let stream =
                liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED);
            let stream = stream.map_err(|error| corrupt(error.into()))?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(file, stream))
        }
    })
}

/// Reads no further than it is allowed to at the moment, and counts.
struct Metered<'a, R> {
    inner: R,
    allowance: &'a Cell<u64>,
    /// Bytes so far.
    read: u64,
    /// How many of the last bytes so far were zeros.
    zeros: u64,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        match self.allowance.get().checked_sub(length as u64) {
            Some(left) => self.allowance.set(left),
            None => {
                let message = "a member's name, its extension or the padding is absurdly long";
                return Err(io::Error::other(message));
            }
        }
        self.read += length as u64;
        match buffer[..length].iter().rposition(|byte| *byte != 0) {
            Some(at) => self.zeros = (length - 1 - at) as u64,
            None => self.zeros += length as u64,
        }
        Ok(length)
    }
}

struct Unpacking<'a, 'w> {
    inside: Option<&'a RelPath>,
    intake: Intake<'a>,
    writer: &'w mut TreeWriter,
}

impl Unpacking<'_, '_> {
    /// Takes one member; whether it lies in the folder that is wanted.
    fn member(&mut self, entry: &mut Entry<'_, impl Read>) -> Outcome<bool> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(false);
        }
        let Some(path) = self.below(&entry.path_bytes())? else { return Ok(false) };
        let mode = entry.header().mode().map_err(corrupt)?;
        match kind {
            EntryType::Directory => {
                self.intake.admits(&path, &Item::Folder)?;
            }
            EntryType::Regular | EntryType::Continuous if is_sparse(entry) => {
                self.intake.admits(&path, &Item::Special)?;
            }
            EntryType::Regular | EntryType::Continuous => {
                if self.intake.admits(&path, &Item::File { mode })? {
                    self.writer.file(&path, is_executable(mode), entry)?;
                }
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                let target = std::str::from_utf8(&target).ok();
                if self.intake.admits(&path, &Item::Link(target))? {
                    self.writer.link(&path, target.unwrap_or_default())?;
                }
            }
            EntryType::Link => self.hard_link(&path, &entry.link_name_bytes().unwrap_or_default())?,
            _ => {
                self.intake.admits(&path, &Item::Special)?;
            }
        }
        Ok(true)
    }

    fn hard_link(&mut self, path: &RelPath, target: &[u8]) -> Outcome<()> {
        let target = self.below(target).ok().flatten().ok_or_else(|| {
            let message =
                format!("{path} is a hard link out of the tree, to {}", String::from_utf8_lossy(target));
            Fault::new(FaultReason::HardlinkEscape, message)
        })?;
        if self.intake.admits(path, &Item::File { mode: 0 })? {
            // The archive holds the content once, the tree once more for each such link.
            self.intake.count(self.writer.size_of(&target))?;
            self.writer.copy_of(path, &target)?;
        }
        Ok(())
    }

    /// The path below the wanted folder; `None` for what lies elsewhere.
    fn below(&self, spelled: &[u8]) -> Outcome<Option<RelPath>> {
        let path = item_path(spelled)?;
        Ok(path.and_then(|path| match self.inside {
            Some(inside) => path.below(inside),
            None => Some(path),
        }))
    }
}

/// Whether the member's content is not the file's content but a map of its holes.
fn is_sparse(entry: &mut Entry<'_, impl Read>) -> bool {
    let extensions = entry.pax_extensions().ok().flatten();
    let keys = extensions.into_iter().flatten().flatten();
    keys.into_iter().any(|extension| extension.key_bytes().starts_with(b"GNU.sparse"))
}

fn corrupt(error: io::Error) -> Fault {
    Fault::new(FaultReason::ArchiveCorrupt, format!("the archive cannot be read: {error}"))
}

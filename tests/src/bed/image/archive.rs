//! The OCI layout as a tar file: blobs are hashed while they stream to disk, then named.

use std::io::{Seek, SeekFrom, Write};

use headstart_externals::version::hex;
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

/// Size of a tar record.
const RECORD: u64 = 512;

/// What refers to a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blob {
    /// `sha256:` and the hash.
    pub(super) digest: String,
    /// In bytes.
    pub(super) size: u64,
}

impl Blob {
    /// Where it lies in the layout.
    pub(super) fn path(&self) -> String {
        format!("blobs/{}", self.digest.replace(':', "/"))
    }
}

/// An archive under construction.
pub(super) struct Archive<W>(W);

impl<W: Write + Seek> Archive<W> {
    pub(super) fn new(sink: W) -> Self {
        Self(sink)
    }

    /// Adds what `write` writes, under its own digest.
    pub(super) fn blob(
        &mut self,
        write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>,
    ) -> anyhow::Result<Blob> {
        // Name and size are known at the end only, so the header is filled in afterwards.
        let begin = self.0.stream_position()?;
        self.0.write_all(&[0; RECORD as usize])?;
        let mut hashing = Hashing { sink: &mut self.0, hash: Sha256::new(), size: 0 };
        write(&mut hashing)?;
        let blob = Blob { digest: format!("sha256:{}", hex(&hashing.hash.finalize())), size: hashing.size };
        self.pad(blob.size)?;
        let end = self.0.stream_position()?;
        self.0.seek(SeekFrom::Start(begin))?;
        self.header(&blob.path(), blob.size)?;
        self.0.seek(SeekFrom::Start(end))?;
        Ok(blob)
    }

    /// Adds a blob that is in memory.
    pub(super) fn bytes(&mut self, content: &[u8]) -> anyhow::Result<Blob> {
        self.blob(|sink| Ok(sink.write_all(content)?))
    }

    /// Adds a file under its own name.
    pub(super) fn file(&mut self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let size = content.len() as u64;
        self.header(name, size)?;
        self.0.write_all(content)?;
        self.pad(size)
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        self.0.write_all(&[0; 2 * RECORD as usize])?;
        Ok(self.0.flush()?)
    }

    fn header(&mut self, name: &str, size: u64) -> anyhow::Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_path(name)?;
        header.set_size(size);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        Ok(self.0.write_all(header.as_bytes())?)
    }

    fn pad(&mut self, size: u64) -> anyhow::Result<()> {
        let rest = (RECORD - size % RECORD) % RECORD;
        Ok(self.0.write_all(&[0; RECORD as usize][..rest as usize])?)
    }
}

/// Hashes and counts what passes.
struct Hashing<'a, W> {
    sink: &'a mut W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Write for Hashing<'_, W> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let written = self.sink.write(data)?;
        self.hash.update(&data[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        // The archive is flushed once, at its end.
        Ok(())
    }
}

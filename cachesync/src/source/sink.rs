//! The file that a download is written to: hashed on the way, bounded, and begun anew where a server cannot go on.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};

use headstart_externals::fault::FaultReason;
use headstart_externals::version::hex;
use sha2::{Digest as _, Sha256};

use crate::fault::{Fault, IoContext as _, Outcome};
use crate::progress::Progress;

/// A download under way.
pub(super) struct Sink<'a> {
    file: File,
    path: PathBuf,
    hasher: Sha256,
    length: u64,
    limit: u64,
    progress: &'a Progress,
}

impl<'a> Sink<'a> {
    /// The new, empty file `path`, which may get at most `limit` bytes.
    pub(super) fn create(path: &Path, limit: u64, progress: &'a Progress) -> Outcome<Self> {
        let file = File::create_new(path).doing("create", path)?;
        Ok(Self { file, path: path.to_owned(), hasher: Sha256::new(), length: 0, limit, progress })
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> u64 {
        self.length
    }

    /// Who watches, and may stop it.
    pub(super) fn progress(&self) -> &'a Progress {
        self.progress
    }

    /// Digest of what came so far.
    pub(super) fn digest(&self) -> String {
        hex(&self.hasher.clone().finalize())
    }

    /// The source says how long it is as a whole.
    pub(super) fn expect(&self, total: u64) -> Outcome<()> {
        self.progress.expect_bytes(total);
        if total > self.limit { Err(self.too_large()) } else { Ok(()) }
    }

    /// What comes next.
    pub(super) fn take(&mut self, chunk: &[u8]) -> Outcome<()> {
        self.progress.check()?;
        let length = chunk.len() as u64;
        if length > self.limit - self.length {
            return Err(self.too_large());
        }
        self.file.write_all(chunk).doing("write", &self.path)?;
        self.hasher.update(chunk);
        self.length += length;
        self.progress.add_bytes(length);
        Ok(())
    }

    /// Everything comes anew.
    pub(super) fn restart(&mut self) -> Outcome<()> {
        self.file.set_len(0).and_then(|()| self.file.rewind()).doing("empty", &self.path)?;
        self.hasher = Sha256::new();
        self.length = 0;
        self.progress.restart_bytes();
        Ok(())
    }

    fn too_large(&self) -> Fault {
        let message = format!("the archive is longer than {} bytes (limits.archiveBytes)", self.limit);
        Fault::new(FaultReason::TooLarge, message)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_is_counted_and_hashed_is_what_lies_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("download");
        let progress = Progress::new(Arc::new(|_| {}));
        let mut sink = Sink::create(&path, 6, &progress).unwrap();
        let seen = || (progress.snapshot().bytes_done, std::fs::read(&path).unwrap());
        sink.take(b"wrong").unwrap();
        sink.restart().unwrap();
        assert_eq!(seen(), (0, b"".to_vec()));
        sink.take(b"abc").unwrap();
        sink.take(b"def").unwrap();
        assert_eq!(seen(), (6, b"abcdef".to_vec()));
        assert_eq!(sink.digest(), hex(&Sha256::digest(b"abcdef")));
        assert_eq!(sink.take(b"g").unwrap_err().reason, FaultReason::TooLarge);
        assert_eq!(sink.expect(7).unwrap_err().reason, FaultReason::TooLarge);
        sink.expect(6).unwrap();
        progress.cancel();
        assert_eq!(sink.take(b"").unwrap_err().reason, FaultReason::Cancelled);
    }
}

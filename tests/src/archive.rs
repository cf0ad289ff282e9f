//! Archives as sources, sound and hostile.

use std::io::Write as _;
use std::path::Path;

use headstart_externals::version::hex;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use crate::tree::{NODE16, STAND_IN, node16_config};

/// A tar archive under construction.
pub struct Tar(Builder<Vec<u8>>);

impl Default for Tar {
    fn default() -> Self {
        Self(Builder::new(Vec::new()))
    }
}

impl Tar {
    /// One that the built-in profile accepts.
    pub fn sound() -> Self {
        let mut tar = Self::default();
        for entry in NODE16 {
            tar = tar.file(&format!("externals/{entry}/bin/node"), STAND_IN, 0o755);
            tar = tar.file(&format!("externals/{entry}/LICENSE"), b"licence\n", 0o644);
        }
        tar.link("externals/node16/bin/npm", "../lib/npm-cli.js").file("run.sh", b"#!/bin/sh\n", 0o755)
    }

    /// Adds a file.
    pub fn file(self, path: &str, content: &[u8], mode: u32) -> Self {
        self.member(EntryType::Regular, path, content, mode)
    }

    /// Adds a symbolic link.
    pub fn link(self, path: &str, target: &str) -> Self {
        self.member(EntryType::Symlink, path, target.as_bytes(), 0o777)
    }

    /// Adds a hard link.
    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.member(EntryType::Link, path, target.as_bytes(), 0o644)
    }

    /// Adds any member; paths are written as they are, also hostile ones. The content of a link is its target.
    pub fn member(mut self, kind: EntryType, path: &str, content: &[u8], mode: u32) -> Self {
        let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
        let (link, content) = if is_link { (content, &b""[..]) } else { (&b""[..], content) };
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        let fields = header.as_gnu_mut().unwrap();
        fields.name[..path.len()].copy_from_slice(path.as_bytes());
        fields.linkname[..link.len()].copy_from_slice(link);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    /// The archive, not compressed.
    pub fn plain(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }

    /// The archive, compressed as its name says.
    pub fn packed(self, name: &str) -> Vec<u8> {
        pack(&self.plain(), name)
    }
}

/// Compresses as the end of `name` says.
pub fn pack(plain: &[u8], name: &str) -> Vec<u8> {
    if name.ends_with("gz") {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    } else if name.ends_with("xz") {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    } else {
        zstd::encode_all(plain, 1).unwrap()
    }
}

/// sha256 in hex.
pub fn sha256(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

/// A configuration of the built-in profile from an archive at `url`.
pub fn config(url: &str, sha256: &str) -> String {
    config_of(&format!("{{url: '{url}', sha256: '{sha256}'}}"))
}

/// A configuration of the built-in profile from this download, given as in a file.
pub fn config_of(download: &str) -> String {
    node16_config(&format!("{{archive: {{path: externals, amd64: {download}, arm64: {download}}}}}"))
}

/// Writes `content` and gives a configuration for it with the right digest.
pub fn config_for_file(path: &Path, content: &[u8]) -> String {
    std::fs::write(path, content).unwrap();
    config(&format!("file://{}", path.display()), &sha256(content))
}

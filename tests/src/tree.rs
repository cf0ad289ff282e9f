//! Externals folders, small ones with a stand-in for Node.js and real ones.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program that answers `--version` as Node.js does; enough where nothing but files is tested.
pub const STAND_IN: &[u8] = b"#!/bin/sh\necho v16.20.2\n";

/// The entries of a source that the built-in profile accepts.
pub const NODE16: [&str; 4] = ["node12", "node12_alpine", "node16", "node16_alpine"];

/// Writes an externals folder with a stand-in for Node.js in every entry.
pub fn write(folder: &Path, entries: &[&str]) {
    for entry in entries {
        write_file(&folder.join(entry).join("bin/node"), STAND_IN, 0o755);
        write_file(&folder.join(entry).join("LICENSE"), b"licence\n", 0o644);
        write_file(&folder.join(entry).join("include/node.h"), b"// not kept\n", 0o644);
    }
}

/// Writes one file with its folders.
pub fn write_file(path: &Path, content: &[u8], mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The real Node.js of this machine.
pub fn real_node() -> PathBuf {
    let output =
        Command::new("node").args(["-p", "process.execPath"]).output().expect("Node.js is installed");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// A configuration of the built-in profile with one revision.
pub fn node16_config(source: &str) -> String {
    format!(
        "apiVersion: headstart.dev/v1
limits: {{archiveBytes: 300000000, unpackedBytes: 300000000, files: 1000}}
profiles:
  - name: node16
    preset: node16
    revisions:
      - revision: test
        source: {source}
"
    )
}

/// A configuration of the built-in profile from a folder.
pub fn directory_config(folder: &Path) -> String {
    node16_config(&format!("{{directory: {{path: {}}}}}", folder.display()))
}

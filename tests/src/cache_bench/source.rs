//! The sources that are installed from: whole externals folders as runners bring them, and a release archive of each.

use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest as _, Sha256};

use crate::bed::images::RunnerExternals;

/// A profile with what it is installed from.
pub struct Sources {
    /// Its name, for tables.
    pub profile: &'static str,
    /// The folder that holds all of it.
    pub folder: PathBuf,
    /// Paths below the externals folder that the profile keeps.
    pub kept: Vec<String>,
    omit: &'static str,
    archive_sha256: String,
}

/// Where the content comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder on the node.
    Directory,
    /// An archive like that of a runner release.
    Archive,
    /// What a stage has left.
    Staged,
}

impl Sources {
    /// Makes the sources below `folder`.
    pub fn make(externals: RunnerExternals, folder: &Path) -> Self {
        let (profile, majors, omit): (_, &[&str], _) = match externals {
            RunnerExternals::Node16 => ("node16", &["node16"], "node12*"),
            RunnerExternals::Node20And24 => ("node20+node24", &["node20", "node24"], ""),
        };
        eprintln!("… writing the externals of a runner for {profile}, and their archive");
        let folder = folder.join(profile);
        externals.write(&folder.join("externals")).unwrap();
        let tar =
            Command::new("tar").args(["-czf", "release.tar.gz", "externals"]).current_dir(&folder).status();
        assert!(tar.unwrap().success());
        let digest = Sha256::digest(std::fs::read(folder.join("release.tar.gz")).unwrap());
        let entries = majors.iter().flat_map(|major| [(*major).to_owned(), format!("{major}_alpine")]);
        let kept = entries.flat_map(|entry| ["bin/node", "LICENSE"].map(|file| format!("{entry}/{file}")));
        Self {
            profile,
            kept: kept.collect(),
            folder,
            omit,
            archive_sha256: headstart_externals::version::hex(&digest),
        }
    }

    /// Bytes that are kept, in MB.
    pub fn megabytes(&self) -> f64 {
        let size = |path: &String| self.folder.join("externals").join(path).metadata().unwrap().len();
        self.kept.iter().map(size).sum::<u64>() as f64 / 1e6
    }

    /// The agent's configuration, with so many revisions, and more settings.
    pub fn config(&self, kind: Kind, revisions: usize, more: &str) -> String {
        let folder = self.folder.display();
        let source = match kind {
            Kind::Directory => format!("{{directory: {{path: {folder}/externals}}}}"),
            Kind::Archive => format!(
                "{{archive: {{path: externals, amd64: {{url: 'file://{folder}/release.tar.gz', sha256: {}}}}}}}",
                self.archive_sha256
            ),
            Kind::Staged => "{runnerImage: {image: 'runner:bench'}}".to_owned(),
        };
        let mut entries = std::collections::BTreeMap::<&str, Vec<&str>>::new();
        for path in &self.kept {
            let (entry, file) = path.split_once('/').unwrap();
            entries.entry(entry).or_default().push(file);
        }
        let entries = serde_json::to_string(&entries).unwrap();
        let omit = if self.omit.is_empty() { "[]".to_owned() } else { format!("['{}']", self.omit) };
        let revisions: String =
            (1..=revisions).map(|n| format!("      - {{revision: '{n}', source: {source}}}\n")).collect();
        format!(
            "apiVersion: headstart.dev/v1\n{more}\nprofiles:\n  - name: bench\n    images: ['runner:bench']\n    \
             entries: {entries}\n    omit: {omit}\n    revisions:\n{revisions}"
        )
    }
}

//! The folders of Node.js runtimes that runners bring, from the npm packages of the same releases.

use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Context as _;
use headstart_externals::selection::NODE;

use super::npm::Packages;
use crate::bed::image::{Layer, Owner, ROOT, architecture};

/// One Node.js release with the tools in it.
pub(super) struct Release {
    entry: &'static str,
    node: &'static str,
    /// Package and program files below `lib/node_modules`, by the name of their link in `bin`.
    tools: &'static [Tool],
}

struct Tool {
    package: &'static str,
    links: &'static [(&'static str, &'static str)],
}

const NPM: &[(&str, &str)] = &[("npm", "npm/bin/npm-cli.js"), ("npx", "npm/bin/npx-cli.js")];
const COREPACK: &[(&str, &str)] = &[("corepack", "corepack/dist/corepack.js")];

const NODE12: Release =
    Release { entry: "node12", node: "12.22.12", tools: &[Tool { package: "npm@6.14.16", links: NPM }] };

const NODE16: Release = Release {
    entry: "node16",
    node: "16.20.2",
    tools: &[
        Tool { package: "npm@8.19.4", links: NPM },
        Tool { package: "corepack@0.17.0", links: COREPACK },
    ],
};

const NODE20: Release = Release { entry: "node20", node: "20.20.2", tools: &[] };

const NODE24: Release = Release { entry: "node24", node: "24.21.0", tools: &[] };

/// What runner 2.304 brings: about 6,700 files.
pub(super) const RUNNER: &[Release] = &[NODE12, NODE16];

/// Enough of the same for an image whose start copies it.
pub(super) const OLDER: &[Release] = &[NODE16];

/// What runners from 2.308 bring; of these only the programs are needed.
pub(super) const NEWER: &[Release] = &[NODE16, NODE20];

/// What runners from 2.327 bring.
pub(super) const CURRENT: &[Release] = &[NODE20, NODE24];

/// Where entries go, and what they are made from.
pub(super) struct Externals<'a> {
    /// The folder in the image.
    pub(super) path: &'a str,
    /// Whom everything in it belongs to.
    pub(super) owner: Owner,
    /// Where releases come from.
    pub(super) packages: &'a Packages,
    /// Where they are unpacked.
    pub(super) work: &'a Path,
}

impl Externals<'_> {
    /// Adds whole entries with their twins, as the runner's own releases have them.
    pub(super) fn whole(&self, mut layer: Layer, releases: &[Release]) -> anyhow::Result<Layer> {
        for release in releases {
            // Node 12 for arm64 is not in the registry; the built-in profile leaves it out anyway.
            if !self.packages.has(&release.package()) {
                continue;
            }
            let (entry, folder) = (format!("{}/{}", self.path, release.entry), self.work.join(release.entry));
            release.build(self.packages, &folder)?;
            layer = layer.tree(&entry, &folder, self.owner)?;
            if architecture() == "amd64" {
                // As in the releases: the program and its licence. No musl build of these versions is in a registry,
                // so it is the same program, which an Alpine container could not run.
                layer = program(layer, &format!("{entry}_alpine"), &folder, self.owner);
            }
        }
        Ok(layer)
    }

    /// Adds the programs alone.
    pub(super) fn programs(&self, mut layer: Layer, releases: &[Release]) -> anyhow::Result<Layer> {
        for release in releases {
            let folder = self.work.join(release.entry);
            self.packages.unpack(&release.package(), &folder)?;
            layer = program(layer, &format!("{}/{}", self.path, release.entry), &folder, self.owner);
        }
        Ok(layer)
    }
}

/// Writes an externals folder with whole entries and their twins, as a runner release has it.
pub(super) fn write(packages: &Packages, releases: &[Release], folder: &Path) -> anyhow::Result<()> {
    for release in releases {
        let entry = folder.join(release.entry);
        release.build(packages, &entry)?;
        let twin = folder.join(format!("{}_alpine", release.entry));
        std::fs::create_dir_all(twin.join("bin")).context("failed to create an _alpine entry")?;
        for file in [NODE, "LICENSE"] {
            std::fs::copy(entry.join(file), twin.join(file))
                .with_context(|| format!("{} has no {file}", release.package()))?;
        }
    }
    Ok(())
}

/// What the built-in profile keeps, at the root: an image that pods can mount.
pub(super) fn kept(packages: &Packages, work: &Path) -> anyhow::Result<Layer> {
    let folder = work.join(NODE16.entry);
    packages.unpack(&NODE16.package(), &folder)?;
    let entries: &[&str] = if architecture() == "amd64" { &["node16", "node16_alpine"] } else { &["node16"] };
    Ok(entries.iter().fold(Layer::default(), |layer, entry| program(layer, entry, &folder, ROOT)))
}

/// The program and its licence, as `<entry>/bin/node` and `<entry>/LICENSE`.
fn program(layer: Layer, entry: &str, folder: &Path, owner: Owner) -> Layer {
    layer
        .folder(entry, 0o755, owner)
        .folder(&format!("{entry}/bin"), 0o755, owner)
        .file(&format!("{entry}/{NODE}"), folder.join(NODE).as_path(), 0o755, owner)
        .file(&format!("{entry}/LICENSE"), folder.join("LICENSE").as_path(), 0o644, owner)
}

impl Release {
    fn package(&self) -> String {
        let architecture = if architecture() == "amd64" { "x64" } else { architecture() };
        format!("node-linux-{architecture}@{}", self.node)
    }

    fn build(&self, packages: &Packages, folder: &Path) -> anyhow::Result<()> {
        packages.unpack(&self.package(), folder)?;
        // The registry's own file, which no release has.
        std::fs::remove_file(folder.join("package.json"))
            .with_context(|| format!("{} is not as expected", self.package()))?;
        for tool in self.tools {
            let name = tool.package.split_once('@').map_or(tool.package, |(name, _)| name);
            packages.unpack(tool.package, &folder.join("lib/node_modules").join(name))?;
            for (link, target) in tool.links {
                symlink(format!("../lib/node_modules/{target}"), folder.join("bin").join(link))
                    .with_context(|| format!("failed to link {link} of {}", self.entry))?;
            }
        }
        Ok(())
    }
}

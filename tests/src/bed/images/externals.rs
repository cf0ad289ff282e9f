//! The folder of Node.js runtimes that runner 2.304 brings, from the npm packages of the same releases.

use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Context as _;
use headstart_externals::selection::NODE;

use super::npm::Packages;
use crate::bed::image::{Layer, Owner, ROOT, architecture};

/// One Node.js release with the tools in it.
struct Release {
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

const RELEASES: [Release; 2] = [
    Release { entry: "node12", node: "12.22.12", tools: &[Tool { package: "npm@6.14.16", links: NPM }] },
    Release {
        entry: "node16",
        node: "16.20.2",
        tools: &[
            Tool { package: "npm@8.19.4", links: NPM },
            Tool { package: "corepack@0.17.0", links: COREPACK },
        ],
    },
];

/// Adds all entries to a layer. Their number of files is that of the runner's own releases: about 6,700.
pub(super) fn add(
    mut layer: Layer,
    path: &str,
    owner: Owner,
    packages: &Packages,
    work: &Path,
) -> anyhow::Result<Layer> {
    for release in &RELEASES {
        // Node 12 for arm64 is not in the registry; the built-in profile leaves it out anyway.
        if !packages.has(&release.package()) {
            continue;
        }
        let folder = work.join(release.entry);
        release.build(packages, &folder)?;
        layer = layer.tree(&format!("{path}/{}", release.entry), &folder, owner)?;
        if architecture() == "amd64" {
            // As in the releases: the program and its licence. No musl build of these versions is in a registry, so
            // it is the same program, which an Alpine container could not run.
            layer = program(layer, &format!("{path}/{}_alpine", release.entry), &folder, owner);
        }
    }
    Ok(layer)
}

/// What the built-in profile keeps, at the root: an image that pods can mount.
pub(super) fn kept(packages: &Packages, work: &Path) -> anyhow::Result<Layer> {
    let [_, node16] = &RELEASES;
    let folder = work.join(node16.entry);
    packages.unpack(&node16.package(), &folder)?;
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

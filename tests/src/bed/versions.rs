//! Which programs the test bed needs, in which versions and how they are built; read from `bed/versions.toml`.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Deserialize;

const FILE: &str = include_str!("../../bed/versions.toml");

/// Which Kubernetes a program comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Minor {
    /// The newest supported one; also the version of everything that has one version only.
    Newest,
    /// The oldest supported one.
    Oldest,
}

/// The whole file; other sections belong to others.
#[derive(Deserialize)]
pub struct Versions {
    go: BTreeMap<String, Recipe>,
}

#[derive(Deserialize)]
struct Recipe {
    #[serde(default)]
    module: String,
    #[serde(default)]
    version: String,
    folder: Option<String>,
    oldest: Option<String>,
    programs: BTreeMap<String, String>,
    #[serde(default)]
    siblings: bool,
    #[serde(default)]
    cgo: bool,
    #[serde(default)]
    tags: String,
    #[serde(default)]
    link: String,
}

/// How one program is built.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Build {
    /// File name of the program.
    pub program: String,
    /// Folder in the cache, and the name of the wrapper module: `<name>-<version>`.
    pub folder: String,
    /// Path of the Go module on the proxy.
    pub module: String,
    /// Folder of the Go module in this repository; then module and version mean nothing.
    pub local: Option<String>,
    /// Version without the leading `v`.
    pub version: String,
    /// Import path of the main package.
    pub package: String,
    /// Whether the modules of the same repository must be required too.
    pub siblings: bool,
    /// Whether C code belongs to it.
    pub cgo: bool,
    /// Build tags.
    pub tags: String,
    /// Flags for the linker.
    pub link: String,
}

impl Versions {
    /// What the repository pins.
    pub fn pinned() -> Result<Self> {
        toml::from_str(FILE).context("tests/bed/versions.toml")
    }

    /// How a program is built.
    pub fn build(&self, program: &str, minor: Minor) -> Result<Build> {
        let mut recipes = self.go.iter();
        let (name, recipe) = recipes
            .find(|(_, recipe)| recipe.programs.contains_key(program))
            .with_context(|| format!("tests/bed/versions.toml names no program {program}"))?;
        Ok(recipe.build(name, program, minor))
    }
}

impl Recipe {
    fn build(&self, name: &str, program: &str, minor: Minor) -> Build {
        let oldest = self.oldest.as_ref().filter(|_| minor == Minor::Oldest);
        let version = oldest.unwrap_or(&self.version);
        let minor = version.split('.').nth(1).unwrap_or_default();
        let link = self.link.replace("{version}", version).replace("{minor}", minor);
        let module = if self.folder.is_some() { "." } else { &self.module };
        let package = format!("{module}/{}", self.programs[program]);
        Build {
            program: program.to_owned(),
            folder: format!("{name}-{version}"),
            module: self.module.clone(),
            local: self.folder.clone(),
            version: version.clone(),
            package: package.trim_end_matches('/').to_owned(),
            siblings: self.siblings,
            cgo: self.cgo,
            tags: self.tags.clone(),
            link: format!("-s -w {link}").trim_end().to_owned(),
        }
    }
}

impl Build {
    /// The same in a version that is only known from its files.
    pub fn at(mut self, version: &str) -> Self {
        self.folder = format!("{}{version}", self.folder);
        version.clone_into(&mut self.version);
        self
    }

    /// The version of a module that lives in the same repository: v1.36.3 goes with v0.36.3.
    pub fn sibling_version(&self) -> String {
        let (_, rest) = self.version.split_once('.').unwrap_or(("", &self.version));
        format!("v0.{rest}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_with_its_version_filled_in() {
        let versions = Versions::pinned().unwrap();
        let newest = versions.build("kubelet", Minor::Newest).unwrap();
        let oldest = versions.build("kube-apiserver", Minor::Oldest).unwrap();
        assert!(newest.folder.starts_with("kubernetes-1.") && newest.folder != oldest.folder);
        assert_eq!(newest.package, "k8s.io/kubernetes/cmd/kubelet");
        assert!(
            !newest.link.contains('{') && newest.link.contains(&format!("gitVersion=v{}", newest.version))
        );
        assert_eq!(oldest.sibling_version(), oldest.version.replacen("1.", "v0.", 1));
        let local = versions.build("slowfs", Minor::Newest).unwrap();
        assert_eq!(local.package, ".");
        assert_eq!(local.at("1").folder, "slowfs-1");
        let etcd = versions.build("etcd", Minor::Oldest).unwrap();
        assert_eq!(etcd.package, etcd.module, "a main package at the root of its module");
        assert!(versions.build("kubeadm", Minor::Newest).is_err());
    }
}

//! The programs of the test bed: built from the Go module proxy once, then taken from a cache.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use headstart_externals::version::hex;
use sha2::{Digest as _, Sha256};

use super::command::{is_installed, output, say};
use super::packages::{self, LIBSECCOMP, PKG_CONFIG};
use super::versions::{Build, Minor, Versions};
use crate::programs::repository;

/// Paths of programs that are there.
#[derive(Clone, Debug, Default)]
pub struct Programs(BTreeMap<String, PathBuf>);

impl Programs {
    /// Gives the programs, and builds the ones that the cache lacks.
    pub fn obtain(names: &[&str], minor: Minor) -> Result<Self> {
        Self::obtain_all(names.iter().map(|name| (*name, minor)))
    }

    /// As [`Self::obtain`], of several versions at once, which share what their builds have in common.
    pub fn obtain_all<'n>(wanted: impl IntoIterator<Item = (&'n str, Minor)>) -> Result<Self> {
        let versions = Versions::pinned()?;
        let found =
            wanted.into_iter().map(|(name, minor)| versions.build(name, minor).and_then(with_version));
        let builds: Vec<Build> = found.collect::<Result<_>>()?;
        let cache = Cache::locate()?;
        if builds.iter().any(|build| !cache.holds(build)) {
            cache.fill(&builds)?;
        }
        Ok(Self(builds.iter().map(|build| (build.program.clone(), cache.path(build))).collect()))
    }

    /// These and others; the others win.
    pub fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// The path of a program that was asked for.
    pub fn path(&self, name: &str) -> Result<&Path> {
        self.0.get(name).map(PathBuf::as_path).with_context(|| format!("{name} was not asked for"))
    }

    /// The folder of a program that was asked for.
    pub fn folder(&self, name: &str) -> Result<&Path> {
        self.path(name)?.parent().with_context(|| format!("{name} has no folder"))
    }
}

/// The folder that holds what takes long to make.
pub struct Cache(PathBuf);

impl Cache {
    /// `$HEADSTART_CACHE`, else `~/.cache/headstart`.
    pub fn locate() -> Result<Self> {
        let own = std::env::var_os("HEADSTART_CACHE").map(PathBuf::from);
        let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/headstart"));
        let folder = own.or_else(home).context("neither HEADSTART_CACHE nor HOME is set")?;
        fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
        Ok(Self(fs::canonicalize(&folder)?))
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    fn path(&self, build: &Build) -> PathBuf {
        self.0.join(&build.folder).join(&build.program)
    }

    fn holds(&self, build: &Build) -> bool {
        self.path(build).exists()
    }

    /// Builds what is missing. One builder at a time: a second one would only slow down the first.
    fn fill(&self, builds: &[Build]) -> Result<()> {
        if !is_installed("go") {
            bail!("the test bed builds Kubernetes with Go, which is missing; install Go 1.26 or newer");
        }
        let lock = File::create(self.0.join("build.lock"))?;
        if lock.try_lock().is_err() {
            say("waiting for another build of the test bed's programs");
            lock.lock()?;
        }
        for build in builds {
            if !self.holds(build) {
                self.make(build)?;
            }
        }
        // Gigabytes that are of use only to a build that was interrupted.
        for scratch in ["go-build", "build"] {
            let _ = fs::remove_dir_all(self.0.join(scratch));
        }
        Ok(())
    }

    fn make(&self, build: &Build) -> Result<()> {
        if build.cgo {
            packages::ensure(&[PKG_CONFIG])?;
            packages::ensure(&[LIBSECCOMP])?;
        }
        let begun = Instant::now();
        let what = format!("{} {}", build.program, build.version);
        say(&format!("building {what}"));
        let go = Go { folder: self.0.join("build").join(&build.folder), cache: self.0.join("go-build") };
        let built = go.build(build).with_context(|| format!("building {what}"))?;
        let target = self.path(build);
        fs::create_dir_all(target.parent().context("no folder")?)?;
        fs::rename(built, &target).with_context(|| format!("{}", target.display()))?;
        say(&format!("{what} done in {} s", begun.elapsed().as_secs()));
        Ok(())
    }
}

/// A wrapper module: modules with `replace` lines cannot be built by `go install`.
struct Go {
    folder: PathBuf,
    cache: PathBuf,
}

impl Go {
    fn build(&self, build: &Build) -> Result<PathBuf> {
        fs::create_dir_all(&self.folder)?;
        if build.local.is_none() {
            self.require(build)?;
        }
        let built = self.folder.join(&build.program);
        let mut go =
            self.go(&["build", "-mod=mod", "-trimpath", "-tags", &build.tags, "-ldflags", &build.link]);
        go.arg("-o").arg(&built).arg(&build.package);
        if let Some(folder) = &build.local {
            go.current_dir(repository().join(folder));
        }
        output(go.env("CGO_ENABLED", if build.cgo { "1" } else { "0" }))?;
        Ok(built)
    }

    /// Requires the module, and where it asks for it the modules of the same repository in the version that goes with it.
    fn require(&self, build: &Build) -> Result<()> {
        if self.folder.join("go.mod").exists() {
            return Ok(());
        }
        let mut requires = format!("require {} v{}\n", build.module, build.version);
        for sibling in if build.siblings { self.siblings(build)? } else { vec![] } {
            requires += &format!("require {sibling} {}\n", build.sibling_version());
        }
        let language = output(&mut self.go(&["env", "GOVERSION"]))?;
        let language = language.split_whitespace().next().unwrap_or_default().trim_start_matches("go");
        let text = format!("module headstart.dev/bed\n\ngo {language}\n\n{requires}");
        // Beside and renamed, since its presence says that this step is done.
        fs::write(self.folder.join("go.mod.new"), text)?;
        Ok(fs::rename(self.folder.join("go.mod.new"), self.folder.join("go.mod"))?)
    }

    fn siblings(&self, build: &Build) -> Result<Vec<String>> {
        let module = format!("{}@v{}", build.module, build.version);
        let mut go = self.go(&["mod", "download", "-json", &module]);
        let answer: serde_json::Value = serde_json::from_str(&output(&mut go)?)?;
        let file = answer["GoMod"].as_str().with_context(|| format!("{module}: no go.mod: {answer}"))?;
        let text = fs::read_to_string(file).with_context(|| file.to_owned())?;
        Ok(siblings_in(&text))
    }

    fn go(&self, arguments: &[&str]) -> Command {
        // It must not go on building after this process was killed and its lock is free.
        let mut go = Command::new("setpriv");
        go.args(["--pdeathsig", "KILL", "go"]).args(arguments).current_dir(&self.folder).env("GOWORK", "off");
        if std::env::var_os("GOCACHE").is_none() {
            go.env("GOCACHE", &self.cache);
        }
        go
    }
}

/// A module of this repository has no version but its files.
fn with_version(build: Build) -> Result<Build> {
    let Some(folder) = &build.local else { return Ok(build) };
    let folder = repository().join(folder);
    let mut digest = Sha256::new();
    for entry in walkdir::WalkDir::new(&folder).sort_by_file_name() {
        let entry = entry.with_context(|| format!("{}", folder.display()))?;
        if entry.file_type().is_file() {
            digest.update(entry.path().strip_prefix(&folder)?.as_os_str().as_encoded_bytes());
            digest.update(fs::read(entry.path())?);
        }
    }
    let digest = hex(&digest.finalize());
    Ok(build.at(&digest[..12]))
}

/// Modules that a `go.mod` replaces by a folder of its own repository. Samples are not published and not needed.
fn siblings_in(go_mod: &str) -> Vec<String> {
    let replaced = go_mod.lines().filter_map(|line| line.split_once("=> ./staging/"));
    let names = replaced.filter_map(|(left, _)| left.trim().trim_start_matches("replace ").split(' ').next());
    names.filter(|name| !name.contains("/sample-")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siblings_are_the_modules_of_the_same_repository() {
        let text = "replace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n\tk8s.io/sample-cli-plugin => \
                    ./staging/src/k8s.io/sample-cli-plugin\n\tother => ../other\n)\nreplace k8s.io/cri-api => \
                    ./staging/src/k8s.io/cri-api\n";
        assert_eq!(siblings_in(text), ["k8s.io/api", "k8s.io/cri-api"]);
    }
}

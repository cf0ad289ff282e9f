//! The image that is shipped, without a daemon; the Dockerfile makes the same one with it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use clap::ValueEnum;

use super::cache::lock;
use crate::bed::image::{Config, Image, Layer, ROOT};
use crate::programs::repository;

/// Whom programs run as unless a manifest says otherwise.
const USER: &str = "65532:65532";

/// How much the compiler does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// What is shipped.
    Dist,
    /// The same programs, built in far less time; for the test bed.
    Bed,
}

/// Builds the static programs and the archive of the image `headstart:<version>` from them.
pub fn shipped_image(profile: Profile) -> anyhow::Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let images = repository().join(target).join("images");
    fs::create_dir_all(&images).with_context(|| format!("failed to create {}", images.display()))?;
    let (name, programs, archive) = match profile {
        Profile::Dist => ("dist", repository().join("dist"), images.join("headstart.tar")),
        Profile::Bed => ("bed", images.join("bed"), images.join("headstart-bed.tar")),
    };
    let _lock = lock(&images.join("lock"))?;
    let mut build = Command::new(repository().join("scripts/dist"));
    let status = build.arg(name).arg(&programs).status().context("failed to run scripts/dist")?;
    anyhow::ensure!(status.success(), "scripts/dist {name} failed, see above");
    let image = Image {
        name: format!("headstart:{}", env!("CARGO_PKG_VERSION")),
        layers: vec![Layer::default().tree("/", &programs, ROOT)?],
        config: Config { user: USER.to_owned(), ..Config::default() },
    };
    image.write(&archive)?;
    Ok(archive)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> String {
        fs::read_to_string(repository().join(path)).unwrap()
    }

    #[test]
    fn the_dockerfile_makes_the_same_image() {
        let dockerfile = read("Dockerfile");
        let steps: Vec<&str> = dockerfile.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(steps, ["FROM scratch", "COPY dist/ /", &format!("USER {USER}")]);
    }

    #[test]
    fn every_program_of_the_workspace_is_in_the_image() {
        let script = read("scripts/dist");
        let shipped = script.lines().find_map(|line| line.strip_prefix("programs=(")).unwrap();
        let shipped: Vec<&str> = shipped.trim_end_matches(')').split(' ').collect();
        for folder in ["webhook", "cachesync", "controller", "cli"] {
            let manifest: toml::Table = read(&format!("{folder}/Cargo.toml")).parse().unwrap();
            let name = manifest["package"]["name"].as_str().unwrap();
            assert!(shipped.contains(&name), "scripts/dist does not build {name}");
        }
    }
}

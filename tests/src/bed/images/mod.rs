//! The images of the test bed: the shipped one and those that play runner, job and sandbox, cached between runs.

mod cache;
mod externals;
mod host;
mod npm;
mod recipes;
mod shipped;

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args as ClapArgs, Subcommand};

pub use cache::archive;
pub use recipes::TestImage;
pub use shipped::{Profile, shipped_image};

use super::image::digest;

/// The words behind `bed images`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the image that is shipped, from static programs
    Shipped {
        /// Cargo's profile: `bed` builds faster, `dist` is what is shipped
        #[arg(long, value_enum, default_value_t = Profile::Dist)]
        profile: Profile,
    },
    /// Build the images that tests run, where they are not in the cache yet
    Test {
        /// Which ones; all if none is named
        images: Vec<TestImage>,
    },
}

/// The externals of a runner release, whole: by what they are like, from the packages of Node.js.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunnerExternals {
    /// Node.js 12 and 16, as runner 2.304 has them.
    Node16,
    /// Node.js 20 and 24, as current runners have them.
    Node20And24,
}

impl RunnerExternals {
    /// Writes them into `folder`.
    pub fn write(self, folder: &std::path::Path) -> anyhow::Result<()> {
        let packages = npm::Packages::new(crate::bed::programs::Cache::locate()?.folder().join("npm"))?;
        let releases = match self {
            Self::Node16 => externals::RUNNER,
            Self::Node20And24 => externals::CURRENT,
        };
        externals::write(&packages, releases, folder)
    }
}

/// Builds what was asked for and prints path, size, digest and seconds of each.
pub fn main(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Shipped { profile } => report(|| shipped_image(profile)),
        Command::Test { images } => {
            let images = if images.is_empty() { TestImage::ALL.to_vec() } else { images };
            images.into_iter().try_for_each(|image| report(|| archive(image)))
        }
    }
}

fn report(build: impl FnOnce() -> anyhow::Result<PathBuf>) -> anyhow::Result<()> {
    let begun = Instant::now();
    let path = build()?;
    let megabytes = std::fs::metadata(&path)?.len() as f64 / 1e6;
    let seconds = begun.elapsed().as_secs_f64();
    println!("{} {megabytes:.1} MB {} {seconds:.1} s", path.display(), digest(&path)?);
    Ok(())
}

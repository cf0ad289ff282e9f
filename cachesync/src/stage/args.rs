//! The flags of `stage`, and what they mean against the configuration.

use std::path::PathBuf;

use anyhow::Context as _;
use headstart_externals::arch::Arch;

use super::Order;
use super::choose::{Wanted, choose};
use crate::args::read_config;

/// Flags of `stage`. They have no environment twins: the environment is that of the image, which must not choose.
#[derive(Clone, Debug, clap::Args)]
pub struct StageArgs {
    /// The runner image that this runs in, spelled as in the `image` field of its container
    #[arg(long, value_name = "IMAGE")]
    pub image: String,

    /// The profile to stage for
    #[arg(long, value_name = "NAME")]
    pub profile: String,

    /// The revision of the profile; by default the one whose source is exactly this image
    #[arg(long, value_name = "NAME")]
    pub revision: Option<String>,

    /// The externals folder as this process sees it; by default the path in the configuration
    #[arg(long, value_name = "DIR")]
    pub externals: Option<PathBuf>,

    /// Root folder of the cache as this process sees it, created if it is not there; by default `hostRoot` of the
    /// configuration
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,

    /// Configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

impl StageArgs {
    /// Looks up in the configuration what is to be staged.
    pub(super) fn order(self) -> anyhow::Result<Order> {
        let Self { image, profile, revision, externals, root, config: file } = self;
        let arch = Arch::host().context("this architecture is not supported; use amd64 or arm64")?;
        let config = read_config(&file)?;
        let wanted = Wanted { profile: &profile, revision: revision.as_deref(), image: &image };
        let choice = choose(&config, wanted)
            .map_err(|problem| anyhow::anyhow!("{problem} (configuration {})", file.display()))?;
        Ok(Order {
            externals: externals.unwrap_or_else(|| PathBuf::from(choice.path)),
            configured_image: choice.image.to_owned(),
            selection: choice.profile.selection.clone(),
            version: choice.revision.version.clone(),
            root: root.unwrap_or_else(|| PathBuf::from(&config.host_root)),
            limits: config.limits,
            image,
            arch,
        })
    }
}

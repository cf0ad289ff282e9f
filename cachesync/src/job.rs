//! What one install is to make.

use headstart_externals::arch::Arch;
use headstart_externals::config::{Limits, Profile, Revision};

/// What to install, and within which bounds.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// The recipe.
    pub profile: &'a Profile,
    /// The revision with its source.
    pub revision: &'a Revision,
    /// Bounds of the source.
    pub limits: Limits,
    /// The architecture to install for.
    pub arch: Arch,
}

//! What one install is to make.

use headstart_externals::arch::Arch;
use headstart_externals::config::Limits;
use headstart_externals::recipe::Wanted;

/// What to install, and within which bounds.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// The version and its recipe.
    pub wanted: &'a Wanted,
    /// Bounds of the source.
    pub limits: Limits,
    /// The architecture to install for.
    pub arch: Arch,
    /// The digest that its tree must have, where it was there before.
    pub digest: Option<&'a str>,
}

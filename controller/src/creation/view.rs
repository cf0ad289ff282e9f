//! Runner sets and runners as decisions see them: the few fields that count.

use headstart_externals::pin::Stored;

/// Annotation of an EphemeralRunner: the generation that it was made for.
pub const PATCH_ID: &str = "actions.github.com/patch-id";

/// An EphemeralRunnerSet as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetView {
    /// Its UID.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Name of the AutoscalingRunnerSet that owns it.
    pub owner: String,
    /// What it asks for.
    pub stored: Stored,
    /// `metadata.generation`: grows with every change of the spec.
    pub generation: i64,
    /// How many runners ARC has counted; 0 while it has not.
    pub counted: usize,
    /// Whether it is being deleted.
    pub is_deleting: bool,
    /// Whether ARC has given it up.
    pub is_outdated: bool,
}

/// An EphemeralRunner as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerView {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// UID of the set that it belongs to.
    pub set: String,
    /// The generation that it was made for; `None` where that cannot be read, as ARC reads it.
    pub stamp: Option<i64>,
    /// Whether ARC counts it: neither being deleted, nor succeeded, nor outdated.
    pub is_live: bool,
}

//! The words between the decision and the rules: what a rule may offer, the plan it makes, or why it refuses.

use headstart_externals::state::{MountKind, PublishedState, PublishedVersion};

use crate::edit::Edit;
use crate::reason::{Reason, Rule, Unpaired};
use crate::volume::Tree;

/// Why a rule leaves a pod alone.
pub(crate) struct Refusal {
    pub(crate) rule: Option<Rule>,
    pub(crate) reason: Reason,
}

impl Refusal {
    pub(crate) fn new(rule: Rule, reason: Reason) -> Self {
        Self { rule: Some(rule), reason }
    }

    pub(crate) fn general(reason: Reason) -> Self {
        Self { rule: None, reason }
    }
}

/// What a rule wants done to a pod.
pub(crate) struct Plan {
    pub(crate) rule: Rule,
    pub(crate) reason: Reason,
    /// Why a runner is lean, where it could have been paired.
    pub(crate) unpaired: Option<Unpaired>,
    pub(crate) version: String,
    pub(crate) edits: Vec<Edit>,
}

impl Plan {
    /// Gives a pod `tree` by `edits`.
    pub(crate) fn new(rule: Rule, reason: Reason, tree: &Tree<'_>, edits: Vec<Edit>) -> Self {
        Self { rule, reason, unpaired: None, version: tree.version.name.to_string(), edits }
    }

    /// Says why it is not a better one.
    pub(crate) fn because(self, why: Unpaired) -> Self {
        Self { unpaired: Some(why), ..self }
    }
}

/// What rules need to know.
#[derive(Clone, Copy)]
pub(crate) struct Offer<'a> {
    pub(crate) state: &'a PublishedState,
    pub(crate) kind: MountKind,
    pub(crate) assumed: Option<&'a PublishedVersion>,
}

impl<'a> Offer<'a> {
    /// The one tree that may stand for `image`.
    pub(crate) fn tree_for_image(self, rule: Rule, image: &str) -> Result<Tree<'a>, Refusal> {
        if let Some(version) = self.assumed {
            return self.tree(rule, version);
        }
        let mut offered = self.state.offered_for(image);
        match (offered.next(), offered.next()) {
            (None, _) => Err(Refusal::new(rule, Reason::ImageUnknown)),
            (Some(_), Some(_)) => Err(Refusal::new(rule, Reason::ImageAmbiguous)),
            (Some(version), None) => self.tree(rule, version),
        }
    }

    /// The tree that the pod's own label names.
    pub(crate) fn tree_for_label(self, rule: Rule, label: Option<&str>) -> Result<Tree<'a>, Refusal> {
        let version = match label {
            Some(label) => self.state.named(label).ok_or(Refusal::new(rule, Reason::VersionNotOffered))?,
            None => self.assumed.ok_or(Refusal::new(rule, Reason::VersionUnknown))?,
        };
        self.tree(rule, version)
    }

    fn tree(self, rule: Rule, version: &'a PublishedVersion) -> Result<Tree<'a>, Refusal> {
        Tree::new(self.state, version, self.kind).ok_or(Refusal::new(rule, Reason::NoVolumeImage))
    }
}

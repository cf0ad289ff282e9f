//! What to do next about the certificates, decided from what is there. Times are seconds since the Unix epoch.

use super::issue::{BACKDATED, Window};

/// How long a new CA is trusted before it signs: every API server must have seen the bundle.
const TRUSTED_FIRST: i64 = 3600;

/// What is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The CA that signs.
    pub signing: Option<Window>,
    /// The CA that will sign next, trusted already.
    pub next: Option<Window>,
    /// The CA that signed before, still trusted.
    pub previous: Option<Window>,
    /// The webhook's certificate.
    pub leaf: Option<HeldLeaf>,
    /// Whether the webhook configuration trusts exactly these.
    pub bundle_is_published: bool,
}

/// The webhook's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldLeaf {
    /// When it counts.
    pub window: Window,
    /// Whether the CA that signs now signed it, for the names that it must have.
    pub is_current: bool,
}

/// One step; after it everything is looked at anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make a CA that signs at once.
    CreateSigning,
    /// Make the CA that will sign next.
    CreateNext,
    /// The next CA signs from now on; the old one becomes the previous one.
    Promote,
    /// The previous CA is over.
    DropPrevious,
    /// Write all CAs into the webhook configuration.
    PublishBundle,
    /// Issue the webhook's certificate.
    IssueLeaf,
}

/// The step to take at `now`; `None` when all is well. The bundle always goes before what needs it.
pub fn plan(held: &Held, now: i64) -> Option<Step> {
    // One of the future is as good as none: clocks that were far ahead make such.
    let Some(signing) = held.signing.filter(|signing| signing.from <= now) else {
        return Some(Step::CreateSigning);
    };
    if held.previous.is_some_and(|previous| previous.is_over(now)) {
        return Some(Step::DropPrevious);
    }
    match held.next {
        None if signing.is_over(now) => return Some(Step::CreateSigning),
        None if signing.is_due(now) => return Some(Step::CreateNext),
        Some(_) if signing.is_over(now) => return Some(Step::Promote),
        _ if !held.bundle_is_published => return Some(Step::PublishBundle),
        Some(next) if now >= next.from + BACKDATED + TRUSTED_FIRST => return Some(Step::Promote),
        _ => {}
    }
    let leaf_is_fine = held.leaf.is_some_and(|leaf| leaf.is_current && !leaf.window.is_due(now));
    (!leaf_is_fine).then_some(Step::IssueLeaf)
}

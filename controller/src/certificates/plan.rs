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
    let Some(signing) = held.signing else { return Some(Step::CreateSigning) };
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

#[cfg(test)]
mod tests {
    use super::super::issue::{AUTHORITY_LIFE, LEAF_LIFE};
    use super::*;

    const START: i64 = 1_800_000_000;

    fn made(at: i64, life: i64) -> Window {
        Window { from: at - BACKDATED, until: at + life }
    }

    /// Carries a step out as the keeper would.
    fn carry_out(held: &mut Held, step: Step, now: i64) {
        match step {
            Step::CreateSigning => {
                *held = Held { signing: Some(made(now, AUTHORITY_LIFE)), next: None, ..*held };
                held.bundle_is_published = false;
                held.leaf = held.leaf.map(|leaf| HeldLeaf { is_current: false, ..leaf });
            }
            Step::CreateNext => {
                held.next = Some(made(now, AUTHORITY_LIFE));
                held.bundle_is_published = false;
            }
            Step::Promote => {
                held.previous = held.signing;
                held.signing = held.next.take();
                held.leaf = held.leaf.map(|leaf| HeldLeaf { is_current: false, ..leaf });
            }
            Step::DropPrevious => {
                held.previous = None;
                held.bundle_is_published = false;
            }
            Step::PublishBundle => held.bundle_is_published = true,
            Step::IssueLeaf => {
                held.leaf = Some(HeldLeaf { window: made(now, LEAF_LIFE), is_current: true });
            }
        }
    }

    /// All steps until nothing is to do.
    fn settle(held: &mut Held, now: i64) -> Vec<Step> {
        let mut steps = Vec::new();
        while let Some(step) = plan(held, now) {
            carry_out(held, step, now);
            steps.push(step);
            assert!(steps.len() < 10, "never ends: {steps:?}");
        }
        steps
    }

    #[test]
    fn a_new_cluster_trusts_first_and_serves_then() {
        let mut held = Held::default();
        assert_eq!(settle(&mut held, START), [Step::CreateSigning, Step::PublishBundle, Step::IssueLeaf]);
        assert_eq!(settle(&mut held, START + 60), []);
    }

    #[test]
    fn a_bundle_that_was_lost_is_published_again_and_a_lost_leaf_issued_again() {
        let mut held = Held::default();
        settle(&mut held, START);
        held.bundle_is_published = false;
        held.leaf = None;
        assert_eq!(settle(&mut held, START), [Step::PublishBundle, Step::IssueLeaf]);
    }

    #[test]
    fn over_ten_years_the_leaf_in_use_is_always_valid_and_trusted() {
        let mut held = Held::default();
        settle(&mut held, START);
        let mut rotations = 0;
        for hour in 1..10 * 365 * 24 {
            let now = START + hour * 3600;
            let leaf = held.leaf.unwrap();
            assert!(!leaf.window.is_over(now) && leaf.is_current && held.bundle_is_published);
            let steps = settle(&mut held, now);
            if let Some(promoted) = steps.iter().position(|step| *step == Step::Promote) {
                rotations += 1;
                assert_eq!(steps[promoted..], [Step::Promote, Step::IssueLeaf], "trusted before it signs");
            }
        }
        assert!((13..=16).contains(&rotations), "{rotations}");
    }

    #[test]
    fn an_authority_that_ran_out_while_nobody_looked_is_replaced_at_once() {
        let mut held = Held::default();
        settle(&mut held, START);
        let late = START + AUTHORITY_LIFE + 1;
        assert_eq!(settle(&mut held, late), [Step::CreateSigning, Step::PublishBundle, Step::IssueLeaf]);
    }
}

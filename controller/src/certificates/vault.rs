//! All that is held of certificates, as a value: what the plan sees of it, and what each step makes of it. Secrets and
//! webhook configuration are only where it is kept.

use anyhow::Context as _;

use super::issue::{Certified, Window, authority, leaf, window};
use super::plan::{Held, HeldLeaf, Step};

/// CAs, leaf and what is published of them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Vault {
    /// The CA that signs.
    pub signing: Option<Certified>,
    /// The CA that signs next.
    pub next: Option<Certified>,
    /// The CA that signed before: a certificate alone, it never signs again.
    pub previous: Option<String>,
    /// The webhook's certificate.
    pub leaf: Option<Leaf>,
    /// What the webhook configuration trusts; empty where its entries differ.
    pub published: String,
}

/// The webhook's certificate, and the CA that signed it.
#[derive(Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Certificate and key.
    pub certified: Certified,
    /// The CA's certificate.
    pub signed_by: String,
}

impl Vault {
    /// What the plan has to know.
    pub fn held(&self, names: &[String]) -> Held {
        let counts =
            |certified: &Option<Certified>| window_of(certified.as_ref().map(|known| &*known.certificate));
        Held {
            signing: counts(&self.signing),
            next: counts(&self.next),
            previous: window_of(self.previous.as_deref()),
            leaf: self.leaf.as_ref().and_then(|leaf| self.held_leaf(leaf, names)),
            bundle_is_published: self.published == self.bundle(),
        }
    }

    fn held_leaf(&self, leaf: &Leaf, names: &[String]) -> Option<HeldLeaf> {
        let (window, found) = window(&leaf.certified.certificate)?;
        let by_signing = self.signing.as_ref().is_some_and(|signing| signing.certificate == leaf.signed_by);
        let is_sound = leaf.certified.is_pair() && leaf.certified.is_signed_by(&leaf.signed_by);
        Some(HeldLeaf { window, is_current: by_signing && is_sound && found == names })
    }

    /// What the API server is to trust, in an order that never changes by itself.
    pub fn bundle(&self) -> String {
        let certificate =
            |certified: &Option<Certified>| certified.as_ref().map(|known| known.certificate.clone());
        let all = [self.previous.clone(), certificate(&self.signing), certificate(&self.next)];
        all.into_iter().flatten().collect()
    }

    /// The vault after a step.
    pub fn after(mut self, step: Step, names: &[String], now: i64) -> anyhow::Result<Self> {
        match step {
            Step::CreateSigning => {
                // The webhook serves its old leaf until it has read the new one.
                self.previous =
                    self.leaf.as_ref().map(|leaf| leaf.signed_by.clone()).filter(|pem| counts(pem, now));
                (self.signing, self.next) = (Some(authority(now)?), None);
            }
            Step::CreateNext => self.next = Some(authority(now)?),
            Step::Promote => {
                self.previous = self.signing.take().map(|old| old.certificate);
                self.signing = self.next.take();
            }
            Step::DropPrevious => self.previous = None,
            Step::PublishBundle => self.published = self.bundle(),
            Step::IssueLeaf => {
                let signing = self.signing.as_ref().context("there is no CA")?;
                let certified = leaf(signing, names, now)?;
                self.leaf = Some(Leaf { certified, signed_by: signing.certificate.clone() });
            }
        }
        Ok(self)
    }
}

fn counts(pem: &str, now: i64) -> bool {
    window_of(Some(pem)).is_some_and(|window| !window.is_over(now))
}

fn window_of(certificate: Option<&str>) -> Option<Window> {
    window(certificate?).map(|(window, _)| window)
}

#[cfg(test)]
mod tests {
    use super::super::issue::{AUTHORITY_LIFE, LEAF_LIFE};
    use super::super::plan::plan;
    use super::*;

    const START: i64 = 1_800_000_000;
    const HOUR: i64 = 3600;

    fn names() -> Vec<String> {
        vec!["headstart-webhook.headstart-system.svc".to_owned()]
    }

    /// All steps until nothing is to do.
    fn settle(vault: &mut Vault, now: i64) -> Vec<Step> {
        let mut steps = Vec::new();
        while let Some(step) = plan(&vault.held(&names()), now) {
            *vault = vault.clone().after(step, &names(), now).unwrap();
            steps.push(step);
            assert!(steps.len() < 10, "never ends: {steps:?}");
        }
        steps
    }

    fn settled(now: i64) -> Vault {
        let mut vault = Vault::default();
        settle(&mut vault, now);
        vault
    }

    #[test]
    fn a_new_cluster_trusts_first_and_serves_then() {
        let mut vault = Vault::default();
        assert_eq!(settle(&mut vault, START), [Step::CreateSigning, Step::PublishBundle, Step::IssueLeaf]);
        assert_eq!(settle(&mut vault, START + 60), []);
    }

    #[test]
    fn a_bundle_that_was_lost_is_published_again_and_a_lost_leaf_issued_again() {
        let mut vault = settled(START);
        vault.published.clear();
        vault.leaf = None;
        assert_eq!(settle(&mut vault, START), [Step::PublishBundle, Step::IssueLeaf]);
    }

    #[test]
    fn over_ten_years_the_leaf_in_use_is_always_valid_and_trusted() {
        let mut vault = settled(START);
        let mut rotations = 0;
        // Once in six hours is enough to pass every phase, and keeps the test short.
        for hour in (1..10 * 365 * 24).step_by(6) {
            let now = START + hour * HOUR;
            let leaf = vault.leaf.clone().unwrap();
            assert!(counts(&leaf.certified.certificate, now), "at hour {hour}");
            assert!(vault.published.contains(&leaf.signed_by), "at hour {hour}");
            let steps = settle(&mut vault, now);
            // The webhook serves the old leaf a little longer: it is still trusted.
            assert!(vault.published.contains(&leaf.signed_by), "{steps:?} at hour {hour}");
            if let Some(promoted) = steps.iter().position(|step| *step == Step::Promote) {
                rotations += 1;
                assert_eq!(steps[promoted..], [Step::Promote, Step::IssueLeaf], "trusted before it signs");
            }
        }
        assert!((13..=16).contains(&rotations), "{rotations}");
    }

    #[test]
    fn a_lost_authority_is_replaced_and_what_it_signed_stays_trusted() {
        let mut vault = settled(START);
        let served = vault.leaf.clone().unwrap();
        (vault.signing, vault.next, vault.previous) = (None, None, None);
        let steps = settle(&mut vault, START + HOUR);
        assert_eq!(steps, [Step::CreateSigning, Step::PublishBundle, Step::IssueLeaf]);
        assert!(vault.published.contains(&served.signed_by), "the webhook still serves the old leaf");
        assert_ne!(vault.leaf.unwrap().signed_by, served.signed_by);
    }

    #[test]
    fn an_authority_that_ran_out_while_nobody_looked_is_replaced_at_once() {
        let mut vault = settled(START);
        let late = START + AUTHORITY_LIFE + 1;
        assert_eq!(settle(&mut vault, late), [Step::CreateSigning, Step::PublishBundle, Step::IssueLeaf]);
        assert_eq!(vault.published.matches("BEGIN CERTIFICATE").count(), 1, "what is over is not trusted");
    }

    #[test]
    fn a_clock_that_was_far_ahead_is_got_over_at_once() {
        let mut vault = settled(START + AUTHORITY_LIFE);
        let steps = settle(&mut vault, START);
        assert_eq!(steps[0], Step::CreateSigning, "nobody accepts a CA of the future");
        assert!(counts(&vault.leaf.clone().unwrap().certified.certificate, START));
        assert!(vault.held(&names()).leaf.unwrap().window.from <= START);
    }

    #[test]
    fn a_leaf_that_does_not_belong_is_issued_again() {
        let vault = settled(START);
        let other = settled(START + 1);
        let key = Certified {
            key: other.leaf.clone().unwrap().certified.key,
            ..vault.leaf.clone().unwrap().certified
        };
        let foreign = Leaf { certified: key, ..vault.leaf.clone().unwrap() };
        let unsigned = Leaf { signed_by: vault.leaf.clone().unwrap().signed_by, ..other.leaf.unwrap() };
        for leaf in [foreign, unsigned] {
            let mut broken = Vault { leaf: Some(leaf), ..vault.clone() };
            assert_eq!(settle(&mut broken, START + HOUR), [Step::IssueLeaf]);
        }
        let mut renamed = vault.clone();
        let elsewhere = ["elsewhere.svc".to_owned()];
        assert_eq!(plan(&renamed.held(&elsewhere), START), Some(Step::IssueLeaf));
        assert_eq!(settle(&mut renamed, START + LEAF_LIFE / 3 * 2), [Step::IssueLeaf], "renewed in time");
    }
}

//! What is known of the leader and its runner sets, as requests get it: in one atomic load, without waiting.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arc_swap::ArcSwap;
use headstart_externals::names::RUNNER_SETS_KEY;
use headstart_externals::runner_sets::PublishedRunnerSets;
use headstart_runtime::age::Age;
use headstart_runtime::trouble::Trouble;
use tokio::time::Instant;

use super::decide::{PinDecision, PinRequest, decide};
use super::known::{Known, Sign};
use super::reason::PinReason;

/// What is known of runner sets.
#[derive(Clone, Debug)]
pub struct RunnerSets(Source);

#[derive(Clone, Debug)]
enum Source {
    /// No set is pinned, for this reason.
    Unused(PinReason),
    Watched(Arc<Watched>),
}

#[derive(Debug)]
struct Watched {
    known: ArcSwap<Known>,
    origin: Instant,
    leader_seen: Age,
}

impl RunnerSets {
    /// No set is ever pinned, for this reason.
    pub fn unused(reason: PinReason) -> Self {
        Self(Source::Unused(reason))
    }

    /// Nothing is known yet; it is read again and again.
    pub fn watched() -> Self {
        let known = ArcSwap::from_pointee(Known::default());
        let watched = Watched { known, origin: Instant::now(), leader_seen: Age::default() };
        Self(Source::Watched(Arc::new(watched)))
    }

    /// Why no set is ever pinned.
    pub fn why_unused(&self) -> Option<PinReason> {
        match &self.0 {
            Source::Unused(reason) => Some(*reason),
            Source::Watched(_) => None,
        }
    }

    /// How long ago the leader was seen renewing its Lease; `None` where nobody looks.
    pub fn leader_seen(&self) -> Option<&Age> {
        match &self.0 {
            Source::Unused(_) => None,
            Source::Watched(watched) => Some(&watched.leader_seen),
        }
    }

    /// Decides over one write, by what is known now.
    pub fn decide(&self, request: &PinRequest<'_>) -> PinDecision {
        let watched = match &self.0 {
            Source::Unused(reason) => return PinDecision::unchanged(*reason),
            Source::Watched(watched) => watched,
        };
        let known = watched.known.load();
        let trust = known.trust(watched.origin.elapsed());
        // A panic would be a bug, and no reason to answer with anything but "unchanged".
        let decided = std::panic::catch_unwind(AssertUnwindSafe(|| decide(request, &trust)));
        decided.unwrap_or_else(|_| PinDecision::unchanged(PinReason::Internal))
    }

    /// The published sets were read now; `None` if there are none.
    pub fn read_list(&self, sets: Option<Arc<PublishedRunnerSets>>) {
        let Source::Watched(watched) = &self.0 else { return };
        let now = watched.origin.elapsed();
        watched.known.rcu(|known| {
            let mut known = Known::clone(known);
            known.read_list(sets.clone(), now);
            known
        });
    }

    /// The leader's Lease was read by a call that began then; `None` if there is none.
    pub fn read_lease(&self, sign: Option<&Sign>, begun: Instant) {
        let Source::Watched(watched) = &self.0 else { return };
        let then = begun.saturating_duration_since(watched.origin);
        let mut is_alive = false;
        watched.known.rcu(|known| {
            let mut known = Known::clone(known);
            is_alive = known.read_lease(sign.cloned(), then);
            known
        });
        if is_alive {
            watched.leader_seen.renew();
        }
    }
}

/// Takes over the published sets as they are read.
pub(crate) struct ListReader {
    sets: RunnerSets,
    /// The last text that could be understood, with what it said.
    seen: Option<(String, Arc<PublishedRunnerSets>)>,
    trouble: Trouble,
}

impl ListReader {
    pub(crate) fn new(sets: RunnerSets) -> Self {
        Self { sets, seen: None, trouble: Trouble::default() }
    }

    /// The text was read now; `None` if there is none. What cannot be understood pins nothing: that is always right.
    pub(crate) fn take(&mut self, text: Option<&str>) {
        if self.sets.why_unused().is_some() {
            return;
        }
        let sets = text.and_then(|text| self.understand(text));
        self.sets.read_list(sets);
    }

    fn understand(&mut self, text: &str) -> Option<Arc<PublishedRunnerSets>> {
        if let Some((seen, sets)) = &self.seen
            && seen == text
        {
            return Some(sets.clone());
        }
        match PublishedRunnerSets::parse(text) {
            Ok(sets) => {
                tracing::info!(sets = sets.sets.len(), leader = %sets.leader, "published runner sets taken over");
                self.trouble.is_over();
                let sets = Arc::new(sets);
                self.seen = Some((text.to_owned(), sets.clone()));
                Some(sets)
            }
            Err(problem) => {
                if self.trouble.is_news(&problem) {
                    tracing::warn!(problem, "{RUNNER_SETS_KEY} cannot be read; no scale-up is pinned");
                }
                None
            }
        }
    }
}

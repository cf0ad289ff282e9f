//! What is known of the leader: which runner sets it published, when that was last read, and when it last renewed its
//! Lease. Pure: times are durations since a moment of the caller's choice, and the clocks of others are never looked at.

use std::sync::Arc;
use std::time::Duration;

use headstart_externals::runner_sets::PublishedRunnerSets;

/// How long a list may be used without being read again.
pub const LIST_STALE_AFTER: Duration = Duration::from_secs(60);

/// How long ago the leader may have been seen renewing its Lease at most. Nobody creates the runners of a generation that is
/// pinned while there is no leader, until the listener writes again.
pub const LEADER_SILENT_AFTER: Duration = Duration::from_secs(10);

/// Everything that has been read.
#[derive(Clone, Debug, Default)]
pub struct Known {
    list: Option<List>,
    lease: Option<Lease>,
}

#[derive(Clone, Debug)]
struct List {
    sets: Arc<PublishedRunnerSets>,
    read: Duration,
}

/// The leader's Lease as last read.
#[derive(Clone, Debug)]
struct Lease {
    sign: Sign,
    /// When it was first seen to say so, if it said something else before.
    changed: Option<Duration>,
}

/// What a Lease says, and what changes with every renewal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sign {
    /// Who holds it; empty if nobody does.
    pub holder: String,
    /// Its time of renewal as written; only ever compared for being another one.
    pub renewal: String,
}

/// What a decision may trust in at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'a> {
    /// What the leader published; `None` where there is nothing, or nothing that can be read.
    pub sets: Option<&'a PublishedRunnerSets>,
    /// Whether that was read lately.
    pub is_list_fresh: bool,
    /// What is known of whoever published it.
    pub leader: Leader,
}

/// Whether the publisher of the list leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leader {
    /// It was seen renewing its Lease lately.
    Renewing,
    /// It was not.
    Silent,
    /// Another process holds the Lease.
    Other,
}

impl Known {
    /// The published sets were read at `now`; `None` if there are none.
    pub fn read_list(&mut self, sets: Option<Arc<PublishedRunnerSets>>, now: Duration) {
        self.list = sets.map(|sets| List { sets, read: now });
    }

    /// The Lease was read, by a call that began at `now`; `None` if there is none. Gives whether somebody was seen renewing
    /// it. The first look shows nothing, since what it sees may be as old as it likes.
    pub fn read_lease(&mut self, sign: Option<Sign>, now: Duration) -> bool {
        let (before, Some(sign)) = (self.lease.take(), sign) else { return false };
        let is_renewed = before.as_ref().is_some_and(|before| before.sign != sign);
        let changed = if is_renewed { Some(now) } else { before.and_then(|before| before.changed) };
        self.lease = Some(Lease { sign, changed });
        is_renewed
    }

    /// What a decision at `now` may trust in.
    pub fn trust(&self, now: Duration) -> Trust<'_> {
        let Some(List { sets, read }) = &self.list else {
            return Trust { sets: None, is_list_fresh: false, leader: Leader::Silent };
        };
        let leader = match &self.lease {
            Some(lease) if lease.sign.holder != sets.leader => Leader::Other,
            Some(Lease { changed: Some(changed), .. })
                if now.saturating_sub(*changed) <= LEADER_SILENT_AFTER =>
            {
                Leader::Renewing
            }
            _ => Leader::Silent,
        };
        Trust { sets: Some(sets), is_list_fresh: now.saturating_sub(*read) <= LIST_STALE_AFTER, leader }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn sign(holder: &str, renewal: &str) -> Option<Sign> {
        Some(Sign { holder: holder.to_owned(), renewal: renewal.to_owned() })
    }

    fn published_by(leader: &str) -> Known {
        let mut known = Known::default();
        known.read_list(Some(Arc::new(PublishedRunnerSets::new(leader, vec![]))), at(0));
        known
    }

    #[test]
    fn only_a_change_shows_that_the_leader_lives() {
        let mut known = published_by("a");
        assert_eq!(known.trust(at(0)).leader, Leader::Silent, "no Lease was read");
        known.read_lease(sign("a", "1"), at(1));
        assert_eq!(known.trust(at(1)).leader, Leader::Silent, "it may be from yesterday");
        known.read_lease(sign("a", "2"), at(3));
        assert_eq!(known.trust(at(13)).leader, Leader::Renewing);
        for later in [5, 7, 9] {
            known.read_lease(sign("a", "2"), at(later));
        }
        assert_eq!(known.trust(at(13)).leader, Leader::Renewing, "looking again does no harm");
        let late = at(13) + Duration::from_nanos(1);
        assert_eq!(known.trust(late).leader, Leader::Silent, "looking again is no sign of life");
        known.read_lease(sign("a", "3"), late);
        assert_eq!(known.trust(late).leader, Leader::Renewing);
    }

    #[test]
    fn renewals_of_others_do_not_count() {
        let mut known = published_by("a");
        known.read_lease(sign("a", "1"), at(1));
        known.read_lease(sign("a", "2"), at(2));
        known.read_lease(sign("b", "3"), at(4));
        assert_eq!(known.trust(at(4)).leader, Leader::Other);
        known.read_list(Some(Arc::new(PublishedRunnerSets::new("b", vec![]))), at(5));
        assert_eq!(known.trust(at(5)).leader, Leader::Renewing, "the new leader has published");
        known.read_lease(sign("", "3"), at(6));
        assert_eq!(known.trust(at(6)).leader, Leader::Other, "it gave the Lease back");
        known.read_lease(None, at(7));
        assert_eq!(known.trust(at(7)).leader, Leader::Silent);
        known.read_lease(sign("b", "9"), at(8));
        assert_eq!(known.trust(at(8)).leader, Leader::Silent, "the first look after that shows nothing");
    }

    #[test]
    fn a_list_is_stale_a_minute_after_it_was_read_and_gone_at_once() {
        let mut known = published_by("a");
        assert!(known.trust(at(60)).is_list_fresh);
        assert!(!known.trust(at(60) + Duration::from_nanos(1)).is_list_fresh);
        known.read_list(None, at(1));
        assert!(known.trust(at(1)).sets.is_none());
    }
}

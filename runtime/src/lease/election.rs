//! Who leads: the decision of one candidate, from what it has seen and when by its own monotonic clock. Pure.
//!
//! Times are durations since a moment of the caller's choice. The clocks of others are never looked at: a Lease is
//! expired when it has not *changed* for its duration since this candidate saw it change. That is later than the
//! holder's own count, which begins before the write was sent, so the holder has stepped down by then.

use std::time::Duration;

/// The three times of an election; each must be clearly longer than the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long others wait for a sign of life before they take over.
    pub lease: Duration,
    /// How long a leader goes on without a successful renewal.
    pub renew_deadline: Duration,
    /// How often a leader renews and a candidate looks.
    pub retry: Duration,
}

/// What a Lease said when it was last read or written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Its resource version.
    pub version: String,
    /// Who holds it; empty if nobody does.
    pub holder: String,
    /// How long the holder asked to be waited for; absent if it does not say.
    pub duration: Option<Duration>,
}

/// What a candidate should do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write the own name into the Lease and, once that succeeded, lead.
    Acquire,
    /// Write the Lease again, to go on leading.
    Renew,
    /// Do nothing; another one leads.
    Wait,
    /// Stop leading at once.
    StepDown,
}

/// One candidate's view of an election.
#[derive(Clone, Debug)]
pub struct Election {
    identity: String,
    timing: Timing,
    seen: Option<Seen>,
    renewed: Option<Duration>,
}

#[derive(Clone, Debug)]
struct Seen {
    record: Record,
    changed: Duration,
}

impl Default for Timing {
    /// The times that Kubernetes' own components use.
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

impl Timing {
    /// What is wrong with these times, in words.
    pub fn check(&self) -> Result<(), String> {
        let Self { lease, renew_deadline, retry } = *self;
        if lease.subsec_nanos() != 0 {
            return Err(format!("the lease ({lease:?}) must be whole seconds, as it is written"));
        }
        if lease <= renew_deadline {
            return Err(format!(
                "the lease ({lease:?}) must be longer than the renew deadline ({renew_deadline:?})"
            ));
        }
        if renew_deadline < retry * 2 || retry.is_zero() {
            return Err(format!("the renew deadline ({renew_deadline:?}) must fit two tries ({retry:?})"));
        }
        Ok(())
    }

    /// Longest time for one call to the API server: shorter than `retry`, so that one slow answer is not the end.
    pub fn call(&self) -> Duration {
        self.retry.mul_f64(0.75)
    }
}

impl Election {
    /// A candidate that has seen nothing yet.
    pub fn new(identity: String, timing: Timing) -> Self {
        Self { identity, timing, seen: None, renewed: None }
    }

    /// Takes note of the Lease as read at `now`; `None` if there is none.
    pub fn observe(&mut self, record: Option<Record>, now: Duration) {
        let changed = |seen: &Seen, record: &Record| seen.record.version != record.version;
        match (&self.seen, record) {
            (Some(seen), Some(record)) if !changed(seen, &record) => {}
            (_, record) => self.seen = record.map(|record| Seen { record, changed: now }),
        }
    }

    /// Takes note of the own successful write, which was *sent* at `sent`: whoever sees it, sees it later.
    pub fn written(&mut self, record: Record, sent: Duration) {
        self.seen = Some(Seen { record, changed: sent });
        self.renewed = Some(sent);
    }

    /// The term is over.
    pub fn step_down(&mut self) {
        self.renewed = None;
    }

    /// When the term ends unless it is renewed; `None` while this candidate does not lead.
    pub fn deadline(&self) -> Option<Duration> {
        self.renewed.map(|sent| sent + self.timing.renew_deadline)
    }

    /// Who holds the Lease, as far as this candidate knows; empty if nobody does.
    pub fn holder(&self) -> &str {
        self.seen.as_ref().map_or("", |seen| &seen.record.holder)
    }

    /// What to do at `now`.
    pub fn decide(&self, now: Duration) -> Step {
        let ours = self.holder() == self.identity;
        match self.deadline() {
            Some(deadline) if now >= deadline || !ours => Step::StepDown,
            Some(_) => Step::Renew,
            // The own name without a term: a write whose answer was lost, or a term that could not be released.
            None if ours || self.is_free(now) => Step::Acquire,
            None => Step::Wait,
        }
    }

    fn is_free(&self, now: Duration) -> bool {
        let Some(Seen { record, changed }) = &self.seen else { return true };
        let duration = record.duration.unwrap_or(self.timing.lease);
        record.holder.is_empty() || now >= changed.saturating_add(duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn record(version: &str, holder: &str) -> Record {
        Record { version: version.to_owned(), holder: holder.to_owned(), duration: Some(s(15)) }
    }

    fn candidate() -> Election {
        Election::new("me".to_owned(), Timing::default())
    }

    #[test]
    fn a_candidate_takes_what_is_free_and_waits_for_the_rest() {
        // What was read at second 100, and what to do at which second.
        let cases = [
            (None, 100, Step::Acquire),
            (Some(record("1", "")), 100, Step::Acquire),
            (Some(record("1", "me")), 100, Step::Acquire),
            (Some(record("1", "other")), 100, Step::Wait),
            (Some(record("1", "other")), 114, Step::Wait),
            (Some(record("1", "other")), 115, Step::Acquire),
            (Some(Record { duration: Some(s(40)), ..record("1", "other") }), 139, Step::Wait),
            (Some(Record { duration: Some(s(40)), ..record("1", "other") }), 140, Step::Acquire),
            (Some(Record { duration: None, ..record("1", "other") }), 114, Step::Wait),
            (Some(Record { duration: None, ..record("1", "other") }), 115, Step::Acquire),
        ];
        for (read, at, step) in cases {
            let mut election = candidate();
            election.observe(read.clone(), s(100));
            assert_eq!(election.decide(s(at)), step, "{read:?} at {at}");
        }
    }

    #[test]
    fn only_changes_count_as_signs_of_life() {
        let mut election = candidate();
        for at in 0..15 {
            election.observe(Some(record("1", "other")), s(at));
            assert_eq!(election.decide(s(at)), Step::Wait, "at {at}");
        }
        election.observe(Some(record("2", "other")), s(14));
        assert_eq!(election.decide(s(28)), Step::Wait);
        election.observe(Some(record("2", "other")), s(29));
        assert_eq!(election.decide(s(29)), Step::Acquire);
    }

    #[test]
    fn a_leader_renews_until_its_deadline() {
        // What was read at second 5 of a term, and what to do at which second.
        let cases = [
            (Some(record("1", "me")), 5, Step::Renew),
            (Some(record("1", "me")), 9, Step::Renew),
            (Some(record("1", "me")), 10, Step::StepDown),
            (Some(record("2", "me")), 9, Step::Renew),
            (Some(record("2", "other")), 5, Step::StepDown),
            (Some(record("2", "")), 5, Step::StepDown),
            (None, 5, Step::StepDown),
        ];
        for (read, at, step) in cases {
            let mut election = candidate();
            election.written(record("1", "me"), s(0));
            election.observe(read.clone(), s(5));
            assert_eq!(election.decide(s(at)), step, "{read:?} at {at}");
        }
    }

    #[test]
    fn a_leader_is_gone_before_anybody_can_follow() {
        let timing = Timing::default();
        let mut leader = Election::new("leader".to_owned(), timing);
        leader.written(record("1", "leader"), s(0));
        let mut follower = candidate();
        // At the earliest, the write is seen the moment it was sent.
        follower.observe(Some(record("1", "leader")), s(0));
        let first = |election: &Election, step| (0..60).find(|at| election.decide(s(*at)) == step);
        assert_eq!(first(&leader, Step::StepDown), Some(10));
        assert_eq!(first(&follower, Step::Acquire), Some(15));
    }

    #[test]
    fn a_term_that_ended_can_begin_anew() {
        let mut election = candidate();
        election.written(record("1", "me"), s(0));
        election.step_down();
        assert_eq!(election.deadline(), None);
        assert_eq!(election.decide(s(11)), Step::Acquire, "the Lease still bears the own name");
        election.observe(Some(record("2", "other")), s(12));
        assert_eq!(election.decide(s(12)), Step::Wait);
    }

    #[test]
    fn times_that_allow_two_leaders_are_refused() {
        let good = Timing::default();
        assert_eq!(good.check(), Ok(()));
        assert!(
            Timing { lease: Duration::from_millis(15_500), ..good }.check().unwrap_err().contains("whole")
        );
        assert!(Timing { lease: good.renew_deadline, ..good }.check().unwrap_err().contains("longer"));
        assert!(Timing { retry: s(9), ..good }.check().unwrap_err().contains("two tries"));
        // A renewal without an answer, then a read and another renewal, each after a pause.
        assert!((good.retry + good.call()) + (good.retry + good.call() * 2) < good.renew_deadline);
    }
}

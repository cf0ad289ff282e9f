//! Since when what lasts, by the leader's own monotonic clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use headstart_externals::config::Config;
use headstart_externals::state::{Phase, PublishedVersion};
use headstart_externals::version::VersionName;

use super::phases::{Ages, phase_of};

/// The clocks of one term.
#[derive(Default)]
pub struct Clocks {
    waiting: HashMap<VersionName, Instant>,
    resting: HashMap<VersionName, Instant>,
}

impl Clocks {
    /// Starts and stops clocks by what is published, and reads them.
    pub fn read(&mut self, config: &Config, published: &[PublishedVersion], now: Instant) -> Ages {
        let targets = config.profiles.iter().map(|profile| &profile.revisions[profile.target()].version);
        let waiting = targets.filter(|version| phase_of(published, version) != Some(Phase::Offered));
        keep(&mut self.waiting, waiting, now);
        let resting = published.iter().filter(|version| version.phase == Phase::Retiring);
        keep(&mut self.resting, resting.map(|version| &version.name), now);
        Ages { waited: ages(&self.waiting, now), rested: ages(&self.resting, now) }
    }

    /// How long until one of them has run as long as the configuration asks for; `None` if all have.
    pub fn next(&self, config: &Config, now: Instant) -> Option<Duration> {
        let ends = |clocks: &HashMap<VersionName, Instant>, after: Duration| {
            clocks.values().filter_map(|begun| begun.checked_add(after)).filter(|end| *end > now).min()
        };
        let (patience, grace) = (config.rollout.wait, config.rollout.grace);
        let end = [ends(&self.waiting, patience), ends(&self.resting, grace)].into_iter().flatten().min();
        end.map(|end| end - now)
    }
}

fn keep<'v>(
    clocks: &mut HashMap<VersionName, Instant>,
    running: impl Iterator<Item = &'v VersionName>,
    now: Instant,
) {
    let before = std::mem::take(clocks);
    clocks.extend(running.map(|version| {
        let begun = before.get(version).copied().unwrap_or(now);
        (version.clone(), begun)
    }));
}

fn ages(clocks: &HashMap<VersionName, Instant>, now: Instant) -> HashMap<VersionName, Duration> {
    clocks.iter().map(|(version, begun)| (version.clone(), now - *begun)).collect()
}

#[cfg(test)]
mod tests {
    use headstart_externals::state::PublishedState;

    use super::*;

    #[test]
    fn a_version_rests_from_when_it_is_published_as_retiring_and_anew_after_it_was_offered() {
        let config = Config::embedded().unwrap();
        let mut versions = PublishedState::immediate(&config).versions;
        let name = versions[0].name.clone();
        let (mut clocks, begun) = (Clocks::default(), Instant::now());
        let mut at = |seconds: u64, phase: Option<Phase>| {
            versions[0].phase = phase.unwrap_or(Phase::Retired);
            let published = if phase.is_some() { &versions[..] } else { &[] };
            clocks.read(&config, published, begun + Duration::from_secs(seconds))
        };
        let waited = at(0, None).waited;
        assert_eq!(waited[&name], Duration::ZERO);
        assert_eq!(at(7, None).waited[&name].as_secs(), 7);
        let offered = at(8, Some(Phase::Offered));
        assert!(offered.waited.is_empty() && offered.rested.is_empty());
        assert_eq!(at(10, Some(Phase::Retiring)).rested[&name].as_secs(), 0);
        assert_eq!(at(13, Some(Phase::Retiring)).rested[&name].as_secs(), 3);
        at(14, Some(Phase::Offered));
        assert_eq!(at(20, Some(Phase::Retiring)).rested[&name].as_secs(), 0);
    }

    #[test]
    fn the_next_end_is_the_earliest_that_is_still_to_come() {
        let config = Config::embedded().unwrap();
        let (mut clocks, begun) = (Clocks::default(), Instant::now());
        clocks.read(&config, &[], begun);
        assert_eq!(clocks.next(&config, begun), Some(config.rollout.wait));
        assert_eq!(clocks.next(&config, begun + config.rollout.wait), None);
    }
}

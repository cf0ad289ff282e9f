//! Secrets of ours without a runner: what no journal tells of any more, as after a journal was deleted by hand. Pure.

use std::time::Duration;

use headstart_externals::names::RUNNER_SET_LABEL;
use jiff::Timestamp;
use serde_json::Value;

use super::execute::{runner_id, runner_name};

/// How often a leader looks for them.
pub const EVERY: Duration = Duration::from_secs(300);

/// How old a Secret must be before it counts as left over; a runner follows its Secret within seconds.
pub const OLD: Duration = Duration::from_secs(600);

/// A Secret that carries our label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OurSecret {
    /// Its name, which is its runner's.
    pub name: String,
    /// UID of the set that it was made for.
    pub set: String,
    /// The registration that it belongs to, if that can be read.
    pub runner_id: Option<i64>,
    /// How old it is.
    pub age: Duration,
}

impl OurSecret {
    /// A Secret that carries our label, if it is one that we make for a runner.
    pub fn read(secret: &Value, now: Timestamp) -> Option<Self> {
        let metadata = &secret["metadata"];
        // Whatever else carries our label is not what we make for a runner.
        runner_name(secret).filter(|name| metadata["name"] == name.as_str())?;
        let created: Timestamp = metadata["creationTimestamp"].as_str()?.parse().ok()?;
        Some(Self {
            name: metadata["name"].as_str()?.to_owned(),
            set: metadata["labels"][RUNNER_SET_LABEL].as_str()?.to_owned(),
            runner_id: runner_id(secret),
            age: Duration::from_secs(now.duration_since(created).as_secs().max(0).unsigned_abs()),
        })
    }

    /// The registration that goes with it, given which one was found by its name. The name is random, while the number alone
    /// may be somebody else's at another service.
    pub fn registration(&self, found: Option<i64>) -> Option<i64> {
        found.filter(|id| Some(*id) == self.runner_id)
    }
}

/// Those that are left over: old, no runner has their name, and no journal tells of them.
pub fn left_over(
    secrets: Vec<OurSecret>,
    has_runner: impl Fn(&OurSecret) -> bool,
    is_known: impl Fn(&OurSecret) -> bool,
) -> Vec<OurSecret> {
    secrets
        .into_iter()
        .filter(|secret| secret.age >= OLD && !has_runner(secret) && !is_known(secret))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_old_and_nobodys_is_left_over() {
        let secret = |name: &str, age| OurSecret {
            name: name.to_owned(),
            set: "u".to_owned(),
            runner_id: Some(1),
            age,
        };
        let all =
            vec![secret("live", OLD), secret("journaled", OLD), secret("new", OLD / 2), secret("left", OLD)];
        let left = left_over(all, |secret| secret.name == "live", |secret| secret.name == "journaled");
        assert_eq!(left.iter().map(|secret| secret.name.as_str()).collect::<Vec<_>>(), ["left"]);
    }

    #[test]
    fn what_carries_our_label_is_ours_if_it_is_made_for_a_runner() {
        let of = |runner: &str| {
            use base64::Engine as _;
            let encoded = |text: &str| base64::prelude::BASE64_STANDARD.encode(text);
            let secret = serde_json::json!({
                "metadata": {
                    "name": "r", "labels": { RUNNER_SET_LABEL: "u" }, "creationTimestamp": "2026-01-01T00:00:00Z",
                },
                "data": { "runnerName": encoded(runner), "runnerId": encoded("7") },
            });
            OurSecret::read(&secret, "2026-01-01T00:11:00Z".parse().unwrap())
        };
        let secret = of("r").unwrap();
        assert_eq!((secret.set.as_str(), secret.age), ("u", Duration::from_secs(660)));
        assert_eq!((secret.registration(Some(7)), secret.registration(Some(8))), (Some(7), None));
        assert_eq!(of("another"), None);
    }
}

//! Who may be pinned: rights are asked for, everything that is known is put together, and the webhook is told.

use std::time::Duration;

use futures::FutureExt as _;
use headstart_externals::config::Level;
use headstart_externals::runner_sets::PublishedRunnerSet;
use headstart_runtime::cluster::CallError;
use headstart_runtime::trouble::Trouble;
use tokio::task::{JoinError, JoinSet};

use super::{TICK, Term};
use crate::creation::census::Place;
use crate::creation::rights;
use crate::creation::tell;
use crate::creation::verdict::{self, Given, Verdict};
use crate::metrics::PUBLISHED;

/// How often rights are asked for again where all are there: each is a question of its own. After a batch that a
/// refusal ended they are asked for at once.
const RIGHTS: Duration = Duration::from_secs(600);

/// How often the list is written although nothing changed: others may have taken it away.
const PUBLISH: Duration = Duration::from_secs(30);

/// How soon rights are asked for again where some are missing or the API server did not answer; each time twice as late, up
/// to [`RIGHTS_PATIENCE`]. A binding may come right after the label, and authorizers follow it with a delay.
const RIGHTS_RETRY: Duration = Duration::from_secs(2);

const RIGHTS_PATIENCE: Duration = Duration::from_secs(120);

/// Namespaces whose rights are asked for at a time: in a large cluster all are due at once.
const ASKED_AT_ONCE: usize = 4;

/// What was asked for of a namespace.
pub(super) struct Answered {
    /// Which rights are missing, or why nobody knows.
    missing: Result<Vec<String>, CallError>,
    /// Whether it was deleted.
    is_gone: bool,
}

/// When the rights in a namespace are asked for.
#[derive(Debug, Default)]
pub(super) struct Inquiry {
    due: Duration,
    /// Until the next one after a failure.
    pause: Duration,
    trouble: Trouble,
}

impl Inquiry {
    fn ended(&mut self, missing: Option<&[String]>, now: Duration) {
        if missing.is_some_and(<[String]>::is_empty) {
            self.pause = Duration::ZERO;
            self.due = now + RIGHTS;
        } else {
            self.pause = (self.pause * 2).clamp(RIGHTS_RETRY, RIGHTS_PATIENCE);
            self.due = now + self.pause;
        }
    }
}

impl Term {
    pub(super) fn ask_for_rights(&mut self, now: Duration) {
        let with_pods = self.means.config.borrow().runner_creation.level == Level::Pods;
        for namespace in self.places.namespaces.keys() {
            let inquiry = self.inquiries.entry(namespace.clone()).or_default();
            if now < inquiry.due {
                continue;
            }
            if self.rights.len() >= ASKED_AT_ONCE {
                break;
            }
            inquiry.due = now + RIGHTS;
            let (client, namespace) = (self.means.client.clone(), namespace.clone());
            let ask = async move {
                let missing = rights::missing(&client, &namespace, with_pods).await;
                // With a namespace its RoleBindings go, so that nothing there can be listed any more.
                let is_gone = match &missing {
                    Ok(missing) if !missing.is_empty() => {
                        rights::is_there(&client, &namespace).await.is_ok_and(|is_there| !is_there)
                    }
                    _ => false,
                };
                (namespace, Answered { missing, is_gone })
            };
            self.rights.push(ask.boxed());
        }
    }

    /// What was asked for is known; where the API server did not answer, what was known stays.
    pub(super) fn learned(&mut self, namespace: &str, answered: Answered) {
        let Answered { missing, is_gone } = answered;
        let now = self.now();
        let inquiry = self.inquiries.entry(namespace.to_owned()).or_default();
        inquiry.ended(missing.as_deref().ok(), now);
        let missing = match missing {
            Ok(missing) => missing,
            Err(error) => {
                if inquiry.trouble.is_news(&error) {
                    tracing::warn!(namespace, %error, "failed to ask for our rights; trying again");
                }
                return;
            }
        };
        inquiry.trouble.is_over();
        // Where nobody asks for it any more, the rights may well be gone.
        let is_asked = self.places.place(namespace).wish == Some(true);
        let Some(place) = self.places.namespaces.get_mut(namespace) else { return };
        place.is_gone = is_gone;
        if is_asked && !is_gone && !missing.is_empty() && place.missing.as_ref() != Some(&missing) {
            tracing::warn!(
                namespace,
                missing = missing.join(", "),
                "runners here are left to ARC, since rights are missing; bind the ClusterRole headstart-runner-creation there"
            );
        }
        place.missing = Some(missing);
        self.judged = None;
    }

    /// Decides which sets may be pinned, and publishes that.
    pub(super) fn judge(&mut self, now: Duration) {
        if self.judged.is_some_and(|judged| now < judged + TICK) {
            return;
        }
        self.judged = Some(now);
        let mut published = Vec::new();
        let mut states = Vec::new();
        for (uid, set) in &self.sets {
            let Some(view) = set.view() else { continue };
            let tools = self.toolbox.get(uid);
            let given = Given {
                place: self.place(&view.namespace),
                is_usable: tools.template.is_ok() && tools.service.is_ok(),
                is_switched_on: self.means.settings.is_switched_on,
                service: self.toolbox.upstream(uid),
            };
            let Verdict { standing, outcome } = verdict::judge(&self.census, &self.engine, &view, given, now);
            self.engine.stands(uid, standing);
            states.push(outcome.as_ref().map_or_else(|refusal| refusal.code(), |_| PUBLISHED));
            match outcome {
                Ok(set) => {
                    self.refused.remove(uid);
                    published.push(set);
                }
                Err(refusal) => {
                    if self.refused.insert(uid.clone(), refusal) != Some(refusal) {
                        tell::left(&view, refusal, &tools);
                    }
                }
            }
        }
        self.means.metrics.creation().sets(&states);
        published.sort_by(|one: &PublishedRunnerSet, other| one.uid.cmp(&other.uid));
        self.publish(published);
    }

    /// What is known of a namespace. Where a watch is broken, nobody knows what is there now.
    fn place(&self, namespace: &str) -> Place {
        let place = self.places.place(namespace);
        Place { is_listed: place.is_listed && self.watches.is_sound(namespace), ..place }
    }

    fn publish(&mut self, sets: Vec<PublishedRunnerSet>) {
        let is_due = self.now() >= self.publish_due;
        if (self.published.as_ref() == Some(&sets) && !is_due) || self.publishing.is_some() {
            return;
        }
        self.publish_due = self.now() + PUBLISH;
        let publisher = self.publisher.clone();
        let mut task = JoinSet::new();
        task.spawn(async move { publisher.publish(sets.clone()).await.map(|()| sets) });
        self.publishing = Some(task);
    }

    pub(super) fn has_published(
        &mut self,
        done: Result<anyhow::Result<Vec<PublishedRunnerSet>>, JoinError>,
    ) -> anyhow::Result<()> {
        self.publishing = None;
        match done? {
            Ok(sets) => {
                self.publish_trouble.is_over();
                if self.published.as_ref() != Some(&sets) {
                    tracing::info!(
                        sets = sets.len(),
                        "published the runner sets whose runners are created at once"
                    );
                }
                self.published = Some(sets);
            }
            Err(error) => {
                let error = format!("{error:#}");
                if self.publish_trouble.is_news(&error) {
                    tracing::warn!(error, "failed to publish the runner sets; trying again");
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_that_are_missing_are_asked_for_soon_and_then_ever_more_rarely() {
        let mut inquiry = Inquiry::default();
        let missing = ["get secrets".to_owned()];
        let due = [2, 4, 8, 16, 32, 64, 120, 120].map(|seconds| {
            inquiry.ended(Some(&missing), Duration::ZERO);
            (inquiry.due.as_secs(), seconds)
        });
        assert!(due.iter().all(|(due, expected)| due == expected), "{due:?}");
        inquiry.ended(Some(&[]), Duration::ZERO);
        assert_eq!(inquiry.due, RIGHTS);
        inquiry.ended(None, Duration::ZERO);
        assert_eq!(inquiry.due, RIGHTS_RETRY, "no answer");
    }
}

//! Tells how a rollout goes: as log lines, metrics and Events on the configuration's ConfigMap.

use std::collections::{BTreeMap, BTreeSet};

use headstart_externals::arch::Arch;
use headstart_externals::config::Config;
use headstart_externals::state::{Phase, PublishedState, PublishedVersion};
use headstart_externals::version::VersionName;

use super::changes::{changes, keeps_root};
use super::forgotten::{is_configured, is_leftover, taken_out_early};
use super::nodes::Made;
use super::phases::{Cluster, phase_of};
use super::progress::{Progress, Trees, progress};
use crate::metrics::Metrics;
use crate::news::News;

/// What was told in this term; each is told once, and again after it was over.
pub struct Announcer {
    metrics: Metrics,
    is_paused: bool,
    keeps_root: bool,
    counted: BTreeMap<VersionName, (usize, usize)>,
    late: BTreeSet<VersionName>,
    differing: BTreeSet<VersionName>,
    early: BTreeSet<VersionName>,
}

impl Announcer {
    /// One that has told nothing.
    pub fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            is_paused: false,
            keeps_root: false,
            counted: BTreeMap::new(),
            late: BTreeSet::new(),
            differing: BTreeSet::new(),
            early: BTreeSet::new(),
        }
    }

    /// Tells what became of `before`; returns what is to become Events.
    pub fn tell(
        &mut self,
        cluster: Cluster<'_>,
        before: Option<&PublishedState>,
        after: &PublishedState,
    ) -> Vec<News> {
        let config = cluster.config;
        let mut news = changes(config, before.map_or(&[], |state| &state.versions), &after.versions);
        news.extend(self.pause(config));
        news.extend(self.root(config, before));
        news.extend(self.early(config, after));
        let all = followed(cluster, before.map_or(&[], |state| &state.versions), after);
        let numbers: Vec<_> = all.iter().map(|followed| (&followed.version, &followed.progress)).collect();
        self.metrics.rollout().progress(self.counted.keys(), &numbers);
        let is_known = |version: &VersionName| all.iter().any(|followed| followed.version == *version);
        self.counted.retain(|version, _| is_known(version));
        self.late.retain(is_known);
        self.differing.retain(is_known);
        for followed in &all {
            self.count(followed);
            news.extend(self.late(followed, config));
            news.extend(self.differing(&followed.version, &followed.progress));
        }
        self.metrics.rollout().phases(&after.versions);
        self.metrics.rollout().exceptions(self.differing.len(), self.early.len());
        for News { is_warning, reason, note } in &news {
            if *is_warning {
                tracing::warn!(reason, "{note}");
            } else {
                tracing::info!(reason, "{note}");
            }
        }
        news
    }

    fn pause(&mut self, config: &Config) -> Option<News> {
        let is_paused = config.rollout.paused;
        let turned = std::mem::replace(&mut self.is_paused, is_paused) != is_paused;
        turned.then(|| {
            if is_paused {
                News::normal(
                    "RolloutPaused",
                    "nothing new is offered and nothing is retired: rollout.paused is set",
                )
            } else {
                News::normal("RolloutResumed", "versions are offered and retired again")
            }
        })
    }

    fn root(&mut self, config: &Config, before: Option<&PublishedState>) -> Option<News> {
        let keeps = keeps_root(config, before);
        let is_new = !std::mem::replace(&mut self.keeps_root, keeps) && keeps;
        let published = before.filter(|_| is_new)?;
        Some(News::warning(
            "HostRootKept",
            format!(
                "hostRoot {} is not published: pods may still be given what lies below {}. Set it back, or take the \
                 labels off all namespaces and delete the ConfigMap with the published state to begin anew",
                config.host_root, published.host_root
            ),
        ))
    }

    fn early(&mut self, config: &Config, after: &PublishedState) -> Vec<News> {
        let early: BTreeSet<VersionName> =
            taken_out_early(config, &after.versions).into_iter().cloned().collect();
        let news = early.difference(&self.early).map(|version| {
            let is_offered = phase_of(&after.versions, version) == Some(Phase::Offered);
            let stays = if is_offered { "offered until another revision is ready, and " } else { "" };
            News::warning(
                "RevisionTakenOutEarly",
                format!(
                    "{version} is not configured any more although it is not retired; it is {stays}kept until no pod \
                     carries it. Next time wait until it is retired"
                ),
            )
        });
        let news = news.collect();
        self.early = early;
        news
    }

    /// A line of the log for every change of the numbers, while people wait for them.
    fn count(&mut self, Followed { version, progress, was_awaited, .. }: &Followed) {
        let (ready, all) = (progress.ready, progress.ready + progress.missing);
        let before = self.counted.insert(version.clone(), (ready, all));
        if *was_awaited && before != Some((ready, all)) {
            let Progress { given_up, waits_for, .. } = progress;
            tracing::info!(%version, ready, all, given_up, ?waits_for, "version {version} ready on {ready}/{all} nodes");
        }
    }

    fn late(&mut self, followed: &Followed, config: &Config) -> Option<News> {
        let Followed { version, progress, was_awaited, is_offered } = followed;
        let waits = *was_awaited && !is_offered && !config.rollout.paused;
        if !(waits && progress.patience_is_over && progress.differs_on.is_empty()) {
            self.late.remove(version);
            return None;
        }
        let Progress { ready, missing, would_lose, given_up, waits_for, .. } = progress;
        let lost = match would_lose {
            0 => String::new(),
            count => {
                format!("; {count} of the others gave it up, and serve pods as long as it is not offered")
            }
        };
        self.late.insert(version.clone()).then(|| {
            News::warning(
                "RolloutWaiting",
                format!(
                    "{version} is ready on {ready} of {} nodes ({given_up} more gave it up) and is not offered yet; \
                     waiting for {}{lost}",
                    ready + missing,
                    if waits_for.is_empty() { "any node".to_owned() } else { waits_for.join(", ") }
                ),
            )
        })
    }

    fn differing(&mut self, version: &VersionName, progress: &Progress) -> Option<News> {
        if progress.differs_on.is_empty() {
            self.differing.remove(version);
            return None;
        }
        let on_arch = |(arch, trees): (&Arch, &Trees)| {
            let held = trees.iter().map(|(tree, nodes)| format!("{tree} on {nodes}"));
            format!("{arch}: {}", held.collect::<Vec<_>>().join("; "))
        };
        let differing: Vec<String> = progress.differs_on.iter().map(on_arch).collect();
        self.differing.insert(version.clone()).then(|| {
            News::warning(
                "TreesDiffer",
                format!(
                    "nodes of one architecture have different trees of {version}, so it is not offered anew. Its \
                     source is not the same everywhere; give the revision another name, and a source that is pinned \
                     by digest. {}",
                    differing.join(". ")
                ),
            )
        })
    }
}

/// A version that is worth following.
struct Followed {
    version: VersionName,
    progress: Progress,
    /// Whether it was still to be offered when the round began.
    was_awaited: bool,
    is_offered: bool,
}

/// All that are configured, and all that are published and not only left over; as they were when the round decided.
fn followed(cluster: Cluster<'_>, before: &[PublishedVersion], after: &PublishedState) -> Vec<Followed> {
    let every: BTreeSet<Arch> = Arch::ALL.into();
    let follow = |version: &VersionName, arches: &BTreeSet<Arch>| Followed {
        version: version.clone(),
        progress: progress(cluster, Made::new(version, arches, before)),
        was_awaited: cluster.ages.waited.contains_key(version),
        is_offered: phase_of(&after.versions, version) == Some(Phase::Offered),
    };
    let configured =
        cluster.config.revisions().map(|(_, revision)| follow(&revision.version, &revision.source.arches()));
    let is_forgotten =
        |version: &&PublishedVersion| !is_leftover(version) && !is_configured(cluster.config, &version.name);
    let forgotten =
        after.versions.iter().filter(is_forgotten).map(|PublishedVersion { name, arches, .. }| {
            follow(name, if arches.is_empty() { &every } else { arches })
        });
    configured.chain(forgotten).collect()
}

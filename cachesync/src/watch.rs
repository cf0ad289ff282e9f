//! Foreign writes below the published versions, as the kernel tells of them: a hint where to look at once. Writes through
//! hard links and by other means go untold, which is what the scrub is for.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use headstart_externals::layout::VersionDir;
use headstart_externals::version::VersionName;
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// How long not to read everything again because events were lost: a busy node loses some all the time.
const DOUBT_AGAIN: Duration = Duration::from_secs(3600);

/// What the kernel told since the last look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hints {
    /// Versions in which something was changed.
    pub(crate) changed: BTreeSet<VersionName>,
    /// Something went untold.
    pub(crate) overflow: bool,
}

/// When everything is to be read again because events were lost.
#[derive(Debug, Default)]
pub(crate) struct Doubt {
    is_pending: bool,
    not_before: Duration,
}

impl Doubt {
    /// Whether that is at `now`; what was lost too early for it counts later.
    pub(crate) fn is_due(&mut self, overflow: bool, now: Duration) -> bool {
        self.is_pending |= overflow;
        let is_due = self.is_pending && now >= self.not_before;
        if is_due {
            *self = Self { is_pending: false, not_before: now + DOUBT_AGAIN };
        }
        is_due
    }
}

/// Watches one folder of versions as long as it lives.
pub(crate) struct TreeWatch {
    _watcher: RecommendedWatcher,
    hints: Arc<Mutex<Hints>>,
}

impl TreeWatch {
    /// Begins to watch; `wake` is told when there is a hint.
    pub(crate) fn begin(versions: &Path, wake: Arc<Notify>) -> notify::Result<Self> {
        let hints = Arc::new(Mutex::new(Hints::default()));
        let (sink, root) = (hints.clone(), versions.to_owned());
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let mut hints = sink.lock().unwrap_or_else(PoisonError::into_inner);
            if note(&mut hints, &root, event) {
                wake.notify_one();
            }
        })?;
        watcher.watch(versions, RecursiveMode::Recursive)?;
        Ok(Self { _watcher: watcher, hints })
    }

    /// Takes what was told.
    pub(crate) fn take(&self) -> Hints {
        std::mem::take(&mut *self.hints.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Notes what an event says; whether that is a hint.
fn note(hints: &mut Hints, root: &Path, event: notify::Result<Event>) -> bool {
    let Ok(event) = event else {
        hints.overflow = true;
        return true;
    };
    if event.need_rescan() {
        hints.overflow = true;
        return true;
    }
    if !is_change(event.kind) {
        return false;
    }
    let changed: Vec<VersionName> = event.paths.iter().filter_map(|path| version_of(root, path)).collect();
    let is_hint = !changed.is_empty();
    hints.changed.extend(changed);
    is_hint
}

/// Pods open and close the files all the time.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

/// The version inside which `path` lies; versions themselves and their marks come and go by the agent's own hand.
fn version_of(root: &Path, path: &Path) -> Option<VersionName> {
    let mut parts = path.strip_prefix(root).ok()?.components();
    let version = parts.next()?.as_os_str().to_str()?;
    let is_mark = path == VersionDir::new(root.join(version)).unpublished();
    parts.next().filter(|_| !is_mark).and_then(|_| version.parse().ok())
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, Flag, ModifyKind, RemoveKind};

    use super::*;

    const FILE: &str = "/r/versions/node16-0123456789ab/tree/node16/bin/node";

    fn told(event: Event) -> Hints {
        let mut hints = Hints::default();
        note(&mut hints, Path::new("/r/versions"), Ok(event));
        hints
    }

    #[test]
    fn writes_inside_a_version_are_told_and_reads_are_not() {
        let at = |kind, path: &str| told(Event::new(kind).add_path(path.into())).changed.len();
        assert_eq!(at(EventKind::Modify(ModifyKind::Any), FILE), 1);
        assert_eq!(at(EventKind::Create(CreateKind::File), FILE), 1);
        assert_eq!(at(EventKind::Access(AccessKind::Close(AccessMode::Write)), FILE), 1);
        assert_eq!(at(EventKind::Access(AccessKind::Open(AccessMode::Any)), FILE), 0);
        assert_eq!(at(EventKind::Access(AccessKind::Close(AccessMode::Read)), FILE), 0);
        assert_eq!(at(EventKind::Modify(ModifyKind::Any), "/r/versions/node16-0123456789ab"), 0);
        assert_eq!(at(EventKind::Modify(ModifyKind::Any), "/r/versions/foreign/file"), 0);
        let in_version = |name: &str| format!("/r/versions/node16-0123456789ab/{name}");
        let removed = EventKind::Remove(RemoveKind::File);
        assert_eq!(at(removed, &in_version("unpublished")), 0, "the agent itself takes the mark away");
        assert_eq!(at(removed, &in_version("manifest.json")), 1);
        assert_eq!(at(removed, &in_version("tree/unpublished")), 1);
    }

    #[test]
    fn what_went_untold_is_known() {
        assert!(told(Event::new(EventKind::Other).set_flag(Flag::Rescan)).overflow);
    }

    #[test]
    fn everything_is_read_again_once_an_hour_at_most_and_no_loss_is_forgotten() {
        let mut doubt = Doubt::default();
        let mut is_due = |overflow, minutes: u64| doubt.is_due(overflow, Duration::from_secs(60 * minutes));
        assert!(!is_due(false, 0));
        assert!(is_due(true, 1));
        assert!(!is_due(true, 30), "that was lately");
        assert!(!is_due(false, 60));
        assert!(is_due(false, 61), "what was lost meanwhile counts");
        assert!(!is_due(false, 200), "once");
    }
}

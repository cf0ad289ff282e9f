//! Which pairs of namespace and volume kind are to be tried, and for how long a verdict counts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use headstart_externals::state::{Allowed, MountKind, PublishedState};

/// How long a pair that works is believed to.
const GOOD_FOR: Duration = Duration::from_secs(300);

/// How long a pair that was refused is left alone; what refused it may be mended at any time.
const BAD_FOR: Duration = Duration::from_secs(30);

/// A pair to try. It is tried anew at once when the namespace changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// The namespace's name.
    pub namespace: String,
    /// Its resource version: policies often follow its labels.
    pub resource_version: String,
    /// The volume kind.
    pub kind: MountKind,
}

/// The pairs that `wish`, the value of the namespace's label, asks for.
pub fn candidates(namespace: &str, resource_version: &str, wish: &str) -> Vec<Candidate> {
    let kinds: &[MountKind] = match wish {
        "hostpath" => &[MountKind::HostPath],
        "image" => &[MountKind::Image],
        "auto" => &[MountKind::HostPath, MountKind::Image],
        _ => &[],
    };
    let candidate = |kind: &MountKind| Candidate {
        namespace: namespace.to_owned(),
        resource_version: resource_version.to_owned(),
        kind: *kind,
    };
    kinds.iter().map(candidate).collect()
}

/// What was found out, and when.
#[derive(Default)]
pub(super) struct Verdicts(HashMap<Candidate, Verdict>);

struct Verdict {
    works: bool,
    at: Instant,
    /// What was tried: the volume differs by root, and whether there is an image by version.
    tried: Tried,
}

/// What a verdict depends on besides the namespace.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Tried(String);

impl Tried {
    pub(super) fn of(state: &PublishedState) -> Self {
        let images: Vec<_> = state.versions.iter().map(|version| &version.volume_image).collect();
        Self(format!("{} {images:?}", state.host_root))
    }
}

impl Verdicts {
    /// Whether the pair has to be tried now.
    pub(super) fn is_due(&self, candidate: &Candidate, tried: &Tried, now: Instant) -> bool {
        self.0.get(candidate).is_none_or(|verdict| {
            let good_for = if verdict.works { GOOD_FOR } else { BAD_FOR };
            verdict.tried != *tried || now.duration_since(verdict.at) >= good_for
        })
    }

    /// Keeps a verdict; whether it is news.
    pub(super) fn keep(&mut self, candidate: &Candidate, works: bool, tried: Tried, now: Instant) -> bool {
        let before = self.0.insert(candidate.clone(), Verdict { works, at: now, tried });
        before.is_none_or(|before| before.works != works)
    }

    /// Forgets pairs that nobody asks for any more.
    pub(super) fn retain(&mut self, candidates: &[Candidate]) {
        self.0.retain(|known, _| candidates.contains(known));
    }

    /// The pairs that work.
    pub(super) fn allowed(&self) -> Allowed {
        let mut pairs: BTreeMap<String, BTreeSet<MountKind>> = BTreeMap::new();
        for (candidate, _) in self.0.iter().filter(|(_, verdict)| verdict.works) {
            pairs.entry(candidate.namespace.clone()).or_default().insert(candidate.kind);
        }
        Allowed::Namespaces(pairs)
    }
}

#[cfg(test)]
mod tests {
    use headstart_externals::config::Config;

    use super::*;

    #[test]
    fn verdicts_expire_sooner_when_bad_and_at_once_when_something_changed() {
        let mut state = PublishedState::immediate(&Config::embedded().unwrap());
        let tried = Tried::of(&state);
        let pair = candidates("arc", "7", "hostpath").remove(0);
        let mut verdicts = Verdicts::default();
        let now = Instant::now();
        assert!(verdicts.is_due(&pair, &tried, now));
        assert!(verdicts.keep(&pair, true, tried.clone(), now));
        assert!(!verdicts.is_due(&pair, &tried, now + BAD_FOR));
        assert!(verdicts.is_due(&pair, &tried, now + GOOD_FOR));
        assert!(verdicts.keep(&pair, false, tried.clone(), now), "a new verdict is news");
        assert!(!verdicts.keep(&pair, false, tried.clone(), now), "the same one is not");
        assert!(verdicts.is_due(&pair, &tried, now + BAD_FOR));
        state.host_root = "/elsewhere".to_owned();
        assert!(verdicts.is_due(&pair, &Tried::of(&state), now));
        assert!(verdicts.is_due(&Candidate { resource_version: "8".to_owned(), ..pair }, &tried, now));
    }

    #[test]
    fn only_what_works_and_is_asked_for_is_allowed() {
        let tried = Tried::of(&PublishedState::immediate(&Config::embedded().unwrap()));
        let mut verdicts = Verdicts::default();
        let both = candidates("arc", "1", "auto");
        assert_eq!(both.len(), 2);
        verdicts.keep(&both[0], true, tried.clone(), Instant::now());
        verdicts.keep(&both[1], false, tried, Instant::now());
        let only = BTreeMap::from([("arc".to_owned(), BTreeSet::from([MountKind::HostPath]))]);
        assert_eq!(verdicts.allowed(), Allowed::Namespaces(only));
        verdicts.retain(&candidates("arc", "1", "image"));
        assert_eq!(verdicts.allowed(), Allowed::Namespaces(BTreeMap::new()));
        assert!(candidates("arc", "1", "yes please").is_empty());
    }
}

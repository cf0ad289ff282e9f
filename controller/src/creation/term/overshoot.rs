//! How far runners overshot where ARC took a set over while ours were still being posted: both made what was missing. ARC takes
//! idle ones away again; that it happens at all, people should see.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::creation::borrow::Place;
use crate::creation::engine::Engine;
use crate::creation::report::{News, Stop};
use crate::metrics::CreationMetrics;

/// How long after a takeover runners may still appear.
const WATCHED: Duration = Duration::from_secs(15);

/// Sets that were taken over not long ago, by UID: until when they are watched, and the most runners too many so far.
#[derive(Debug, Default)]
pub(super) struct Overshoots(BTreeMap<String, (Duration, usize)>);

impl Overshoots {
    /// Something happened to a set.
    pub(super) fn note(&mut self, place: &Place, news: &News, now: Duration) {
        if let News::Stopped { need: 1.., why: Stop::Raw, .. } = news {
            self.0.insert(place.uid.clone(), (now + WATCHED, 0));
        }
    }

    /// Looks at those sets, and counts those that have come to rest.
    pub(super) fn look(&mut self, engine: &Engine, now: Duration, metrics: &CreationMetrics) {
        for (uid, (_, most)) in &mut self.0 {
            let (live, asked) = engine.count(uid).unwrap_or_default();
            *most = (*most).max(live.saturating_sub(asked));
        }
        self.0.retain(|_, (until, most)| {
            let is_watched = now < *until;
            if !is_watched {
                metrics.overshot(*most);
            }
            is_watched
        });
    }
}

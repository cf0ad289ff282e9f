//! How far runners overshot where ARC took a set over: while ours were still being posted, or before it had counted them. ARC
//! takes idle ones away again; that it happens at all, people should see.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::creation::borrow::Place;
use crate::creation::engine::Engine;
use crate::creation::report::News;
use crate::metrics::CreationMetrics;

/// How long after a takeover runners may still appear.
const WATCHED: Duration = Duration::from_secs(15);

/// Sets that were taken over not long ago, by UID.
#[derive(Debug, Default)]
pub(super) struct Overshoots(BTreeMap<String, Watched>);

/// One of them.
#[derive(Debug)]
struct Watched {
    until: Duration,
    /// The most that was asked for since: a listener asks for fewer as jobs end, before their runners are gone.
    asked: usize,
    /// The most runners too many so far.
    most: usize,
}

impl Overshoots {
    /// Something happened to a set.
    pub(super) fn note(&mut self, place: &Place, news: &News, now: Duration) {
        if let News::Stopped { need: 1.., .. } | News::Finished { .. } = news {
            let until = now + WATCHED;
            let watched = self.0.entry(place.uid.clone()).or_insert(Watched { until, asked: 0, most: 0 });
            watched.until = until;
        }
    }

    /// Looks at those sets, and counts those that have come to rest.
    pub(super) fn look(&mut self, engine: &Engine, now: Duration, metrics: &CreationMetrics) {
        for (uid, watched) in &mut self.0 {
            let (live, asked) = engine.count(uid).unwrap_or_default();
            watched.asked = watched.asked.max(asked);
            watched.most = watched.most.max(live.saturating_sub(watched.asked));
        }
        self.0.retain(|_, watched| {
            let is_watched = now < watched.until;
            if !is_watched {
                metrics.overshot(watched.most);
            }
            is_watched
        });
    }
}

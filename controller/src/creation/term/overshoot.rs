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

/// Sets with a batch that is under way or ended not long ago, by UID.
#[derive(Debug, Default)]
pub(super) struct Overshoots(BTreeMap<String, Watched>);

/// One of them.
#[derive(Debug)]
struct Watched {
    /// Until when, once its batch has ended.
    until: Option<Duration>,
    /// The most that was asked for since the batch began: a listener asks for fewer as jobs end, before their runners are gone.
    asked: usize,
    /// The most runners too many so far.
    most: usize,
}

impl Overshoots {
    /// Something happened to a set.
    pub(super) fn note(&mut self, place: &Place, news: &News, now: Duration, metrics: &CreationMetrics) {
        match news {
            News::Started { generation, .. } => {
                let asked = usize::try_from(generation.replicas).unwrap_or(usize::MAX);
                let batch = Watched { until: None, asked, most: 0 };
                if let Some(before) = self.0.insert(place.uid.clone(), batch) {
                    metrics.overshot(before.most);
                }
            }
            News::Stopped { .. } | News::Finished { .. } => {
                if let Some(watched) = self.0.get_mut(&place.uid) {
                    watched.until = Some(now + WATCHED);
                }
            }
            News::Progress { .. } => {}
        }
    }

    /// Looks at those sets, and counts those that have come to rest.
    pub(super) fn look(&mut self, engine: &Engine, now: Duration, metrics: &CreationMetrics) {
        for (uid, watched) in &mut self.0 {
            let (live, asked) = engine.count(uid).unwrap_or_default();
            watched.asked = watched.asked.max(asked);
            watched.most = watched.most.max(live.saturating_sub(watched.asked));
        }
        self.0.retain(|uid, watched| {
            let is_watched = engine.has_set(uid) && watched.until.is_none_or(|until| now < until);
            if !is_watched {
                metrics.overshot(watched.most);
            }
            is_watched
        });
    }
}

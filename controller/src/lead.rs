//! What the leader does in its term: everything level-triggered, so that a round that failed is simply repeated.

use std::future::Future;
use std::time::{Duration, Instant};

use headstart_runtime::shutdown::Shutdown;
use headstart_runtime::trouble::Trouble;

use crate::certificates::Keeper;
use crate::creation::term::{Means, Term};
use crate::metrics::{Leadership, Metrics};
use crate::round::ClusterDuty;

/// How often everything is looked at without a reason.
pub(crate) const ROUND: Duration = Duration::from_secs(15);

/// The pause after a first failure; it doubles with each further one, up to [`ROUND`].
const RETRY: Duration = Duration::from_secs(1);

/// Longest round; the API server may be slow.
const ROUND_LIMIT: Duration = Duration::from_secs(60);

/// How often the certificates are looked at, by the wall clock.
const CERTIFICATES: Duration = Duration::from_secs(10);

/// The duties of a leader.
pub struct Duties {
    /// Issues certificates; `None` where something else does.
    pub keeper: Option<Keeper>,
    /// How runners are made; `None` for a leader that makes none.
    pub creation: Option<Means>,
    /// The rest.
    pub cluster: ClusterDuty,
}

impl Duties {
    /// Does them until the term is over.
    pub async fn run(self, over: Shutdown) -> anyhow::Result<()> {
        let Self { keeper, creation, mut cluster } = self;
        let metrics = cluster.metrics().clone();
        // Also where the term is cut off.
        let _leading = Leadership::begin(&metrics);
        let certificates = async {
            match keeper {
                Some(keeper) => issue(keeper, metrics.clone()).await,
                None => std::future::pending().await,
            }
        };
        let others = async {
            tokio::select! {
                () = over.begun() => Ok(()),
                ended = certificates => ended,
                ended = cluster.run() => ended,
            }
        };
        // It ends by itself, with the calls that it has under way.
        let runners = async {
            match creation {
                Some(means) => create(means, metrics.clone(), &over).await,
                None => Ok(()),
            }
        };
        tokio::try_join!(others, runners).map(drop)
    }
}

/// Creates runners; a term of it that fails begins anew.
async fn create(means: Means, metrics: Metrics, over: &Shutdown) -> anyhow::Result<()> {
    let mut failing = Failing::new("creation", metrics.clone());
    while !over.has_begun() {
        let begun = Instant::now();
        let ended = Term::new(means.clone()).run(over).await;
        if begun.elapsed() >= ROUND_LIMIT {
            // It worked for long; what happened before has nothing to do with it.
            failing = Failing::new("creation", metrics.clone());
        }
        let Some(pause) = failing.note(ended) else { continue };
        tokio::select! {
            () = over.begun() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    Ok(())
}

/// Keeps the certificates; every step can be cut off.
async fn issue(keeper: Keeper, metrics: Metrics) -> anyhow::Result<()> {
    let mut failing = Failing::new("certificates", metrics);
    loop {
        let pause = failing.note(limited(keeper.settle()).await);
        tokio::time::sleep(pause.unwrap_or(CERTIFICATES)).await;
    }
}

/// A round that ends in time.
pub(crate) async fn limited<T>(round: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    match tokio::time::timeout(ROUND_LIMIT, round).await {
        Ok(done) => done,
        Err(_) => anyhow::bail!("not done within {ROUND_LIMIT:?}; is the API server slow?"),
    }
}

/// A duty whose failures are counted, and logged when they begin, change and end.
pub(crate) struct Failing {
    duty: &'static str,
    metrics: Metrics,
    trouble: Trouble,
    failures: u32,
}

impl Failing {
    pub(crate) fn new(duty: &'static str, metrics: Metrics) -> Self {
        Self { duty, metrics, trouble: Trouble::default(), failures: 0 }
    }

    /// How long to pause after this outcome; `None` after a success.
    pub(crate) fn note(&mut self, outcome: anyhow::Result<()>) -> Option<Duration> {
        let duty = self.duty;
        let Err(error) = outcome else {
            self.failures = 0;
            if self.trouble.is_over() {
                tracing::info!(duty, "works again");
            }
            return None;
        };
        self.metrics.failed(duty);
        let error = format!("{error:#}");
        if self.trouble.is_news(&error) {
            tracing::warn!(duty, error, "a round failed; trying again");
        }
        let pause = RETRY * 2_u32.pow(self.failures.min(4));
        self.failures += 1;
        Some(pause.min(ROUND))
    }
}

//! Leadership by a Kubernetes Lease: at most one process does the work, and a partitioned leader stops in time.
//!
//! This is the algorithm of Kubernetes' own components: [`election`] decides purely, `candidate` calls the API, and
//! [`run`] ties the work to the term. Ready-made crates either compare clocks of different machines or go on leading
//! while the API server cannot be reached.

use std::future::Future;

use anyhow::Context as _;
use kube::Client;
use tokio::task::{JoinError, JoinSet};

use crate::shutdown::Shutdown;
use candidate::Candidate;
use election::Timing;

mod candidate;
pub mod election;

/// Which Lease to stand for, and as whom.
#[derive(Clone, Debug)]
pub struct LeaseConfig {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// This process, unlike any other that ever ran; see [`identity`].
    pub identity: String,
    /// The times; the default suits.
    pub timing: Timing,
}

/// A term of leadership, for the work to be done in it.
#[derive(Clone, Debug)]
pub struct Leading {
    /// Begins when the term is over: lost, or the process shuts down. The work must end soon after.
    pub over: Shutdown,
    /// Grows with every term of any leader.
    pub term: i32,
}

/// A name for this process that no other one has: the host's, which is the pod's, and something random.
pub fn identity() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}_{:016x}", fastrand::u64(..))
}

/// Stands for election until the shutdown, and does `work` in every term.
///
/// Work that does not end in time after a lost term is cut off before anybody else can lead. At a shutdown the term
/// goes on until the work has ended; then the Lease is released, so that the next leader need not wait. Work that
/// fails, or ends while the term lasts, ends this with its reason.
pub async fn run<F>(
    client: Client,
    config: LeaseConfig,
    shutdown: Shutdown,
    mut work: impl FnMut(Leading) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    config.timing.check().map_err(anyhow::Error::msg).context("bad times of an election")?;
    let mut candidate = Candidate::new(client, config);
    while candidate.campaign(&shutdown).await {
        let leading = Leading { over: Shutdown::new(), term: candidate.term() };
        let mut running = JoinSet::new();
        running.spawn(work(leading.clone()));
        let outcome = hold(&mut candidate, &leading.over, &mut running, &shutdown).await;
        candidate.release().await;
        outcome?;
    }
    Ok(())
}

/// Keeps the term until the work has ended.
async fn hold(
    candidate: &mut Candidate,
    over: &Shutdown,
    running: &mut JoinSet<anyhow::Result<()>>,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let grace = candidate.grace();
    {
        let lost = candidate.renew();
        tokio::pin!(lost);
        loop {
            tokio::select! {
                ended = running.join_next() => return judge(ended, over),
                () = &mut lost => break,
                () = shutdown.begun(), if !over.has_begun() => over.begin(),
            }
        }
    }
    over.begin();
    match tokio::time::timeout(grace, running.join_next()).await {
        Ok(ended) => judge(ended, over),
        Err(_) => {
            tracing::warn!(?grace, "cut off the work of a lost term, since it did not end in time");
            running.shutdown().await;
            Ok(())
        }
    }
}

fn judge(ended: Option<Result<anyhow::Result<()>, JoinError>>, over: &Shutdown) -> anyhow::Result<()> {
    match ended {
        Some(Ok(Ok(()))) if !over.has_begun() => anyhow::bail!("the leader's work ended too early"),
        None | Some(Ok(Ok(()))) => Ok(()),
        Some(Ok(Err(error))) => Err(error.context("the leader's work failed")),
        Some(Err(error)) => Err(anyhow::Error::new(error).context("the leader's work panicked")),
    }
}

//! Signs of life of the controller's leader: its Lease, read again and again.
//!
//! Only reads count: a watch may hang without a sign, and then a dead leader would look alive.

use std::time::Duration;

use headstart_runtime::cluster::{CallError, within};
use headstart_runtime::shutdown::Shutdown;
use headstart_runtime::trouble::Trouble;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::api::Api;
use tokio::time::{Instant, MissedTickBehavior};

use super::known::Sign;
use super::sources::RunnerSets;

/// How often the Lease is read; a leader renews it as often.
const PERIOD: Duration = Duration::from_secs(2);

/// Longest time for one read.
const CALL: Duration = Duration::from_secs(2);

/// Reads the Lease, given by its namespace and name, until the shutdown begins.
pub async fn follow(
    client: Client,
    (namespace, name): (String, String),
    sets: RunnerSets,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let api: Api<Lease> = Api::namespaced(client, &namespace);
    let mut trouble = Trouble::default();
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let (begun, read) = tokio::select! {
            () = shutdown.begun() => return Ok(()),
            read = look(&api, &name, &mut ticks) => read,
        };
        match read {
            Ok(lease) => {
                if trouble.is_over() {
                    tracing::info!(namespace, name, "the leader's Lease can be read again");
                }
                sets.read_lease(lease.map(sign).as_ref(), begun);
            }
            Err(error) => {
                if trouble.is_news(&error) {
                    tracing::warn!(
                        namespace, name, %error,
                        "failed to read the leader's Lease; no scale-up is pinned without it"
                    );
                }
            }
        }
    }
}

/// When a read began, and what came of it.
type Look = (Instant, Result<Option<Lease>, CallError>);

async fn look(api: &Api<Lease>, name: &str, ticks: &mut tokio::time::Interval) -> Look {
    ticks.tick().await;
    let begun = Instant::now();
    (begun, within(CALL, api.get_opt(name)).await)
}

fn sign(lease: Lease) -> Sign {
    let spec = lease.spec.unwrap_or_default();
    let renewal = spec.renew_time.map(|time| time.0.to_string());
    Sign { holder: spec.holder_identity.unwrap_or_default(), renewal: renewal.unwrap_or_default() }
}

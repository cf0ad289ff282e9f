//! Looking at something again and again until the shutdown: mounted files are compared by content, since watching
//! them misses the way in which the kubelet swaps them.

use std::time::Duration;

use crate::shutdown::Shutdown;

/// Calls `look` every `period` until the shutdown begins.
pub async fn every(period: Duration, shutdown: Shutdown, mut look: impl FnMut()) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            () = shutdown.begun() => return Ok(()),
            () = tokio::time::sleep(period) => look(),
        }
    }
}

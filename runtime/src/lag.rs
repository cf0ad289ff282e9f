//! How late the process gets to work that is due: what waits in the kernel and in the runtime is seen nowhere else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::shutdown::Shutdown;

/// How often it is looked at.
const TICK: Duration = Duration::from_millis(20);

/// The delay of the last look, for readers that must never wait.
#[derive(Clone, Debug, Default)]
pub struct Lag {
    millis: Arc<AtomicU64>,
}

impl Lag {
    /// How late the last look was.
    pub fn get(&self) -> Duration {
        Duration::from_millis(self.millis.load(Ordering::Relaxed))
    }

    /// Looks until the shutdown begins.
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        loop {
            let due = Instant::now() + TICK;
            tokio::select! {
                () = shutdown.begun() => {
                    self.millis.store(0, Ordering::Relaxed);
                    return Ok(());
                }
                () = sleep_until(due) => {}
            }
            let late = u64::try_from(due.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.millis.store(late, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_that_is_kept_busy_lags_until_it_is_not() {
        let (lag, shutdown) = (Lag::default(), Shutdown::new());
        let looks = tokio::spawn(lag.clone().run(shutdown.clone()));
        tokio::task::yield_now().await;
        let busy = Duration::from_millis(300);
        let begun = std::time::Instant::now();
        while begun.elapsed() < busy {}
        while lag.get().is_zero() {
            tokio::task::yield_now().await;
        }
        assert!(lag.get() > busy / 2, "{lag:?}");
        while lag.get() > busy / 2 {
            tokio::task::yield_now().await;
        }
        shutdown.begin();
        looks.await.unwrap().unwrap();
    }
}

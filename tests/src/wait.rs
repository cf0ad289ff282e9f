//! Waiting for conditions with a deadline, never for a length of time.

use std::future::Future;
use std::time::{Duration, Instant};

/// Longest wait for anything that a healthy system does at once.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Waits until `look` gives a value; panics with `what` after [`DEADLINE`].
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = look().await {
            return value;
        }
        assert!(begun.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain: {what}");
        tokio::time::sleep(POLL).await;
    }
}

//! Waiting for conditions with a deadline, never for a length of time.

use std::future::Future;
use std::time::{Duration, Instant};

/// Longest wait for anything that a healthy system does at once.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Waits until `look` gives a value; panics with `what` after [`DEADLINE`].
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, look: impl FnMut() -> F) -> T {
    match within(DEADLINE, look).await {
        Some(value) => value,
        None => panic!("waited {DEADLINE:?} in vain: {what}"),
    }
}

/// Waits until `look` gives a value, at most as long as said.
pub async fn within<T, F: Future<Output = Option<T>>>(
    patience: Duration,
    mut look: impl FnMut() -> F,
) -> Option<T> {
    let begun = Instant::now();
    loop {
        if let Some(value) = look().await {
            return Some(value);
        }
        if begun.elapsed() >= patience {
            return None;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// As [`within`], for code that may block its thread.
pub fn blocking<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        if let Some(value) = look() {
            return Some(value);
        }
        if begun.elapsed() >= patience {
            return None;
        }
        std::thread::sleep(POLL);
    }
}

/// Lets a while pass, for tests to which any moment is as good as another.
pub fn pass(a_while: Duration) {
    std::thread::sleep(a_while);
}

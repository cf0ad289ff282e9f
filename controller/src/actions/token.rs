//! The token for the Actions service: kept while it is good, and fetched once for all who wait for a new one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::url::Url;
use secrecy::SecretString;

use super::error::ServiceError;

/// A token that has less than this left is not used any more.
const LEFT: Duration = Duration::from_secs(60);

/// Access to the service.
pub(super) struct Admin {
    /// Where the service is.
    pub(super) base: Url,
    /// What it asks for.
    pub(super) token: SecretString,
    /// When the token ends, counted from 1970; `None` if it does not say.
    pub(super) expiry: Option<Duration>,
}

/// The outcome of one fetch, by its number.
#[derive(Clone)]
pub(super) struct Fetched {
    /// 1 for the first.
    pub(super) number: u64,
    /// What it brought.
    pub(super) admin: Arc<Admin>,
}

#[derive(Default)]
struct Last {
    number: u64,
    outcome: Option<Result<Arc<Admin>, ServiceError>>,
}

/// Keeps the token.
#[derive(Default)]
pub(super) struct Tokens {
    /// Held for moments only.
    last: Mutex<Last>,
    /// Held by the one who fetches.
    flight: tokio::sync::Mutex<()>,
}

impl Tokens {
    /// The token, but not that of the fetch with the number `refused`; `fetch` is begun only if a new one is needed and
    /// nobody else fetches it. Whoever waits for another's fetch shares its outcome, also if it is an error: N callers are
    /// one try. If the one who fetches gives up, the next one begins.
    pub(super) async fn get(
        &self,
        refused: Option<u64>,
        now: Duration,
        fetch: impl Future<Output = Result<Admin, ServiceError>>,
    ) -> Result<Fetched, ServiceError> {
        let seen = match self.kept(refused, now) {
            Ok(kept) => return Ok(kept),
            Err(number) => number,
        };
        let _flight = self.flight.lock().await;
        if let Some(shared) = self.since(seen) {
            return shared;
        }
        let outcome = fetch.await.map(Arc::new);
        let mut last = self.last();
        last.number += 1;
        last.outcome = Some(outcome.clone());
        Ok(Fetched { number: last.number, admin: outcome? })
    }

    /// What is kept, if it is good; else the number of the last fetch.
    fn kept(&self, refused: Option<u64>, now: Duration) -> Result<Fetched, u64> {
        let last = self.last();
        match &last.outcome {
            Some(Ok(admin)) if refused != Some(last.number) && is_good(admin, now) => {
                Ok(Fetched { number: last.number, admin: admin.clone() })
            }
            _ => Err(last.number),
        }
    }

    /// What a fetch brought that ended after number `seen`.
    fn since(&self, seen: u64) -> Option<Result<Fetched, ServiceError>> {
        let last = self.last();
        let outcome = last.outcome.clone().filter(|_| last.number > seen)?;
        Some(outcome.map(|admin| Fetched { number: last.number, admin }))
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_good(admin: &Admin, now: Duration) -> bool {
    admin.expiry.is_none_or(|expiry| expiry >= now + LEFT)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::future::join_all;
    use futures::poll;
    use tokio::sync::oneshot;

    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    fn admin(left: u64) -> Admin {
        let base = Url::parse("http://service/").unwrap();
        Admin { base, token: "t".into(), expiry: Some(NOW + Duration::from_secs(left)) }
    }

    async fn number(tokens: &Tokens, refused: Option<u64>, left: u64) -> u64 {
        tokens.get(refused, NOW, async { Ok(admin(left)) }).await.unwrap().number
    }

    #[tokio::test]
    async fn a_token_is_kept_until_it_has_less_than_a_minute_left() {
        for (left, fetches) in [(60, 1), (59, 2), (0, 2)] {
            let tokens = Tokens::default();
            assert_eq!(number(&tokens, None, left).await, 1);
            assert_eq!(number(&tokens, None, left).await, fetches, "{left}");
        }
        let tokens = Tokens::default();
        let endless = || async { Ok(Admin { expiry: None, ..admin(0) }) };
        for _ in 0..2 {
            assert_eq!(tokens.get(None, NOW, endless()).await.unwrap().number, 1);
        }
    }

    #[tokio::test]
    async fn a_refused_token_is_replaced_once() {
        let tokens = Tokens::default();
        assert_eq!(number(&tokens, None, 600).await, 1);
        assert_eq!(number(&tokens, Some(1), 600).await, 2);
        assert_eq!(number(&tokens, Some(1), 600).await, 2, "somebody else has replaced it");
        assert_eq!(number(&tokens, Some(2), 600).await, 3);
    }

    #[tokio::test]
    async fn who_waits_shares_the_outcome_also_of_a_failure() {
        let tokens = Tokens::default();
        let (send, receive) = oneshot::channel();
        let error = || ServiceError::Unavailable { status: 500, retry_after: None };
        let first = tokens.get(None, NOW, async move { receive.await.unwrap() });
        let mut first = pin!(first);
        assert!(poll!(&mut first).is_pending());
        let others = (0..5).map(|_| tokens.get(None, NOW, async { panic!("fetched again") }));
        let mut others = pin!(join_all(others));
        assert!(poll!(&mut others).is_pending());
        send.send(Err(error())).ok().unwrap();
        assert!(first.await.is_err_and(|failure| failure == error()));
        assert!(others.await.into_iter().all(|other| other.is_err_and(|failure| failure == error())));
        assert_eq!(number(&tokens, None, 600).await, 2, "who comes later tries again");
    }

    #[tokio::test]
    async fn if_the_one_who_fetches_gives_up_the_next_one_begins() {
        let tokens = Tokens::default();
        let mut first = Box::pin(tokens.get(None, NOW, std::future::pending()));
        assert!(poll!(&mut first).is_pending());
        let mut second = pin!(number(&tokens, None, 600));
        assert!(poll!(&mut second).is_pending());
        drop(first);
        assert_eq!(second.await, 1);
    }
}

//! Tokens that the service gives out, and until when they are good.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Acting as an installation of an App.
    Installation,
    /// Registering.
    Registration,
    /// Managing scale sets and runners.
    Admin,
    /// Reading the queue of a session.
    Queue,
}

/// All tokens that were given out.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// How long admin tokens are good.
    pub admin_life: Duration,
    /// How long queue tokens are good.
    pub queue_life: Duration,
    /// Seconds since 1970 at the origin of the clock.
    epoch: u64,
    issued: BTreeMap<String, (Scope, Duration)>,
}

impl Tokens {
    /// No tokens yet; all live an hour.
    pub fn new(epoch: u64) -> Self {
        let hour = Duration::from_secs(3600);
        Self { admin_life: hour, queue_life: hour, epoch, issued: BTreeMap::new() }
    }

    /// A new one: a JWT with `exp`, as clients look into it without checking the signature.
    pub fn issue(&mut self, scope: Scope, now: Duration) -> String {
        let life = match scope {
            Scope::Admin => self.admin_life,
            Scope::Queue => self.queue_life,
            Scope::Installation | Scope::Registration => Duration::from_secs(3600),
        };
        let end = now + life;
        let number = self.issued.len() + 1;
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = json!({"exp": self.unix(end), "iat": self.unix(now), "nbf": self.unix(now), "jti": number.to_string()});
        let header = json!({"alg": "RS256", "typ": "JWT"});
        let signature = URL_SAFE_NO_PAD.encode(format!("played {number}"));
        let token = format!("{}.{}.{signature}", part(header), part(claims));
        self.issued.insert(token.clone(), (scope, end));
        token
    }

    /// Whether it is one of ours, for that, and not over.
    pub fn good(&self, token: Option<&str>, scope: Scope, now: Duration) -> bool {
        let found = token.and_then(|token| self.issued.get(token));
        found.is_some_and(|(whose, end)| *whose == scope && now < *end)
    }

    /// Every token of that kind is bad from now on.
    pub fn revoke(&mut self, scope: Scope) {
        self.issued.retain(|_, (whose, _)| *whose != scope);
    }

    /// Seconds since 1970.
    pub fn unix(&self, at: Duration) -> u64 {
        self.epoch + at.as_secs()
    }
}

//! Who asked the service what, how often, and how much of it at once.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::endpoint::Endpoint;

/// Who asks, as its User-Agent says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Caller {
    /// ARC's controller.
    Manager,
    /// ARC's listener.
    Listener,
    /// Our controller.
    Headstart,
    /// Somebody else.
    Other,
}

/// Requests, and when they came.
#[derive(Clone, Debug, Default)]
pub struct Calls {
    arrivals: BTreeMap<(Caller, Endpoint), Vec<Duration>>,
    in_flight: BTreeMap<Endpoint, u64>,
    most: BTreeMap<Endpoint, u64>,
}

impl Caller {
    /// Reads a User-Agent: ARC's are JSON, ours names the product.
    pub fn of(user_agent: &str) -> Self {
        if user_agent.to_ascii_lowercase().contains("headstart") {
            return Self::Headstart;
        }
        let parsed: Value = serde_json::from_str(user_agent).unwrap_or_default();
        match parsed["subsystem"].as_str() {
            Some("gha-scale-set-controller") => Self::Manager,
            Some("ghalistener") => Self::Listener,
            _ => Self::Other,
        }
    }
}

impl Calls {
    /// A request comes in.
    pub fn begin(&mut self, caller: Caller, endpoint: Endpoint, now: Duration) {
        self.arrivals.entry((caller, endpoint)).or_default().push(now);
        let now = self.in_flight.entry(endpoint).or_default();
        *now += 1;
        let most = self.most.entry(endpoint).or_default();
        *most = (*most).max(*now);
    }

    /// It was answered, or given up.
    pub fn end(&mut self, endpoint: Endpoint) {
        if let Some(now) = self.in_flight.get_mut(&endpoint) {
            *now = now.saturating_sub(1);
        }
    }

    /// How often somebody asked for something.
    pub fn of(&self, caller: Caller, endpoint: Endpoint) -> u64 {
        count(self.arrivals(caller, endpoint))
    }

    /// When somebody asked for it, in that order.
    pub fn arrivals(&self, caller: Caller, endpoint: Endpoint) -> &[Duration] {
        self.arrivals.get(&(caller, endpoint)).map_or(&[], Vec::as_slice)
    }

    /// How often anybody did.
    pub fn to(&self, endpoint: Endpoint) -> u64 {
        self.arrivals.iter().filter(|((_, to), _)| *to == endpoint).map(|(_, all)| count(all)).sum()
    }

    /// How many requests one caller made in all.
    pub fn by(&self, caller: Caller) -> u64 {
        self.arrivals.iter().filter(|((by, _), _)| *by == caller).map(|(_, all)| count(all)).sum()
    }

    /// The most requests of one operation that were under way at once.
    pub fn most_at_once(&self, endpoint: Endpoint) -> u64 {
        self.most.get(&endpoint).copied().unwrap_or(0)
    }

    /// Begins to count anew; what is under way stays known.
    pub fn reset(&mut self) {
        self.arrivals.clear();
        self.most.clear();
    }
}

fn count(arrivals: &[Duration]) -> u64 {
    arrivals.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_told_apart() {
        let arc = |subsystem: &str| {
            format!(r#"{{"system":"actions-runner-controller","subsystem":"{subsystem}"}}"#)
        };
        assert_eq!(Caller::of(&arc("gha-scale-set-controller")), Caller::Manager);
        assert_eq!(Caller::of(&arc("ghalistener")), Caller::Listener);
        assert_eq!(Caller::of("headstart-controller/0.1.0"), Caller::Headstart);
        assert_eq!(Caller::of("curl/8"), Caller::Other);
    }

    #[test]
    fn the_most_at_once_stays_known() {
        let mut calls = Calls::default();
        let jit = Endpoint::GenerateJitConfig;
        let begin = |calls: &mut Calls, caller, second| calls.begin(caller, jit, Duration::from_secs(second));
        begin(&mut calls, Caller::Manager, 1);
        begin(&mut calls, Caller::Headstart, 2);
        calls.end(jit);
        begin(&mut calls, Caller::Manager, 3);
        assert_eq!(calls.arrivals(Caller::Manager, jit), [1, 3].map(Duration::from_secs));
        assert_eq!((calls.most_at_once(jit), calls.to(jit), calls.of(Caller::Manager, jit)), (2, 3, 2));
    }
}

//! What is to go wrong with the service, how often or for how long; and how slow it is.

use std::collections::BTreeMap;
use std::time::Duration;

use super::calls::Caller;
use super::endpoint::Endpoint;

/// How a request is harmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Harm {
    /// An answer with this status, and `Retry-After` in seconds if there is one.
    Status(u16, Option<u32>),
    /// The connection ends without an answer.
    Reset,
    /// No answer, for ever.
    Hang,
}

/// How long it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// For the next requests that it fits.
    Next(u32),
    /// Until then.
    Until(Duration),
    /// Until it is taken away.
    Always,
}

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Of which operations; none means all.
    pub endpoints: Vec<Endpoint>,
    /// Whose requests; none means everybody's.
    pub caller: Option<Caller>,
    /// What happens.
    pub harm: Harm,
    /// How long.
    pub span: Span,
    /// Only the answer is lost: what was asked for is done.
    pub after: bool,
}

/// All switches of the service.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    latency: BTreeMap<Endpoint, Duration>,
    default_latency: Duration,
    list: Vec<Fault>,
}

impl Fault {
    /// For everybody, before anything is done.
    pub fn new(endpoints: &[Endpoint], harm: Harm, span: Span) -> Self {
        Self { endpoints: endpoints.to_vec(), caller: None, harm, span, after: false }
    }

    /// The same, but what was asked for is done.
    pub fn after(self) -> Self {
        Self { after: true, ..self }
    }

    /// The same, for one caller only.
    pub fn of(self, caller: Caller) -> Self {
        Self { caller: Some(caller), ..self }
    }

    fn fits(&self, endpoint: Endpoint, caller: Caller) -> bool {
        let endpoint = self.endpoints.is_empty() || self.endpoints.contains(&endpoint);
        endpoint && self.caller.is_none_or(|whose| whose == caller)
    }
}

impl Faults {
    /// How long every answer takes that has no latency of its own.
    pub fn set_default_latency(&mut self, latency: Duration) {
        self.default_latency = latency;
    }

    /// How long the answers of one operation take.
    pub fn set_latency(&mut self, endpoint: Endpoint, latency: Duration) {
        self.latency.insert(endpoint, latency);
    }

    /// How long this takes.
    pub fn latency(&self, endpoint: Endpoint) -> Duration {
        self.latency.get(&endpoint).copied().unwrap_or(self.default_latency)
    }

    /// One more thing goes wrong; what was added first comes first.
    pub fn add(&mut self, fault: Fault) {
        self.list.push(fault);
    }

    /// Nothing goes wrong any more; latencies stay.
    pub fn clear(&mut self) {
        self.list.clear();
    }

    /// Whether everything struck as often as it was to.
    pub fn are_spent(&self) -> bool {
        self.list.iter().all(|fault| fault.span == Span::Next(0))
    }

    /// What happens to this request: harm, and whether only after its effect.
    pub fn strike(&mut self, endpoint: Endpoint, caller: Caller, now: Duration) -> Option<(Harm, bool)> {
        self.list.retain(|fault| match fault.span {
            Span::Next(left) => left > 0,
            Span::Until(end) => now < end,
            Span::Always => true,
        });
        let fault = self.list.iter_mut().find(|fault| fault.fits(endpoint, caller))?;
        if let Span::Next(left) = &mut fault.span {
            *left -= 1;
        }
        Some((fault.harm.clone(), fault.after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_whom_it_fits_as_often_as_said() {
        let mut faults = Faults::default();
        faults.add(Fault::new(&[Endpoint::GetMessage], Harm::Status(401, None), Span::Next(1)));
        faults.add(Fault::new(&[], Harm::Reset, Span::Until(Duration::from_secs(5))).of(Caller::Headstart));
        let mut strike = |endpoint, caller, second| {
            faults.strike(endpoint, caller, Duration::from_secs(second)).map(|(harm, _)| harm)
        };
        let queue = Endpoint::GetMessage;
        assert_eq!(strike(queue, Caller::Manager, 0), Some(Harm::Status(401, None)));
        assert_eq!(strike(queue, Caller::Manager, 0), None);
        assert_eq!(strike(queue, Caller::Headstart, 4), Some(Harm::Reset));
        assert_eq!(strike(queue, Caller::Headstart, 5), None);
    }
}

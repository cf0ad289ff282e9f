//! What is to go wrong with the service, how often or for how long; and how slow it is.

use std::collections::{BTreeMap, BTreeSet};
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
    /// No answer; where it is to last until some time, the connection breaks then.
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
    /// How many requests that it fits go unharmed before.
    pub spared: u32,
    /// Only the answer is lost: what was asked for is done.
    pub after: bool,
}

/// What happens to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strike {
    /// How it is harmed.
    pub harm: Harm,
    /// Only after what was asked for is done.
    pub after: bool,
    /// When the trouble is over, if that is a matter of time.
    pub until: Option<Duration>,
}

/// A request that was harmed, from the moment when all is done that will be done for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// What it asked for.
    pub endpoint: Endpoint,
    /// The runner that it is about, if its body names one.
    pub name: String,
    /// When.
    pub at: Duration,
}

/// All switches of the service.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    latency: BTreeMap<Endpoint, Duration>,
    default_latency: Duration,
    list: Vec<Fault>,
    held: BTreeSet<Endpoint>,
    /// Requests that are to be harmed and of which something may still be done.
    pending: usize,
    delivered: Vec<Delivered>,
}

impl Fault {
    /// For everybody, before anything is done.
    pub fn new(endpoints: &[Endpoint], harm: Harm, span: Span) -> Self {
        Self { endpoints: endpoints.to_vec(), caller: None, harm, span, spared: 0, after: false }
    }

    /// The same, but what was asked for is done.
    pub fn after(self) -> Self {
        Self { after: true, ..self }
    }

    /// The same, but so many requests go unharmed first.
    pub fn sparing(self, spared: u32) -> Self {
        Self { spared, ..self }
    }

    /// The same, for one caller only.
    pub fn of(self, caller: Caller) -> Self {
        Self { caller: Some(caller), ..self }
    }

    fn fits(&self, endpoint: Endpoint, caller: Caller) -> bool {
        let endpoint = self.endpoints.is_empty() || self.endpoints.contains(&endpoint);
        endpoint && self.caller.is_none_or(|whose| whose == caller)
    }

    fn strike(&self) -> Strike {
        let until = match self.span {
            Span::Until(end) => Some(end),
            Span::Next(_) | Span::Always => None,
        };
        Strike { harm: self.harm.clone(), after: self.after, until }
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

    /// Requests of this operation are taken, and nothing is done for them before [`Self::release`].
    pub fn hold(&mut self, endpoint: Endpoint) {
        self.held.insert(endpoint);
    }

    /// What was held goes on.
    pub fn release(&mut self) {
        self.held.clear();
    }

    /// Whether requests of this operation are held.
    pub fn holds(&self, endpoint: Endpoint) -> bool {
        self.held.contains(&endpoint)
    }

    /// Whether everything struck as often as it was to, and all that was struck is [`Delivered`].
    pub fn are_delivered(&self) -> bool {
        self.pending == 0 && self.list.iter().all(|fault| fault.span == Span::Next(0))
    }

    /// The requests that were harmed, in their order.
    pub fn delivered(&self) -> &[Delivered] {
        &self.delivered
    }

    /// What happens to this request. It ends in [`Self::deliver`].
    pub fn strike(&mut self, endpoint: Endpoint, caller: Caller, now: Duration) -> Option<Strike> {
        self.list.retain(|fault| match fault.span {
            Span::Next(left) => left > 0,
            Span::Until(end) => now < end,
            Span::Always => true,
        });
        for fault in self.list.iter_mut().filter(|fault| fault.fits(endpoint, caller)) {
            if fault.spared > 0 {
                fault.spared -= 1;
                continue;
            }
            if let Span::Next(left) = &mut fault.span {
                *left -= 1;
            }
            self.pending += 1;
            return Some(fault.strike());
        }
        None
    }

    /// Only the harm is left of a request that was struck.
    pub fn deliver(&mut self, delivered: Delivered) {
        self.pending = self.pending.saturating_sub(1);
        self.delivered.push(delivered);
    }

    /// What an outage does to a request that was taken before and waits.
    pub fn cuts(&self, endpoint: Endpoint, caller: Caller, now: Duration) -> Option<Strike> {
        let is_on = |fault: &&Fault| match fault.span {
            Span::Next(_) => false,
            Span::Until(end) => now < end,
            Span::Always => true,
        };
        let mut fitting = self.list.iter().filter(is_on).filter(|fault| fault.fits(endpoint, caller));
        fitting.find(|fault| fault.spared == 0).map(Fault::strike)
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
            faults.strike(endpoint, caller, Duration::from_secs(second)).map(|strike| strike.harm)
        };
        let queue = Endpoint::GetMessage;
        assert_eq!(strike(queue, Caller::Manager, 0), Some(Harm::Status(401, None)));
        assert_eq!(strike(queue, Caller::Manager, 0), None);
        assert_eq!(strike(queue, Caller::Headstart, 4), Some(Harm::Reset));
        assert_eq!(strike(queue, Caller::Headstart, 5), None);
    }

    #[test]
    fn a_fault_is_delivered_once_nothing_more_is_done() {
        let (mut faults, jit) = (Faults::default(), Endpoint::GenerateJitConfig);
        faults.add(Fault::new(&[jit], Harm::Hang, Span::Next(1)).after());
        let strike = |faults: &mut Faults| faults.strike(jit, Caller::Headstart, Duration::ZERO);
        assert!(!faults.are_delivered());
        assert!(strike(&mut faults).unwrap().after);
        assert!(!faults.are_delivered(), "its effect is not done yet");
        faults.deliver(Delivered { endpoint: jit, name: "a".to_owned(), at: Duration::ZERO });
        assert!(faults.are_delivered());
        assert_eq!(faults.delivered()[0].name, "a");
    }

    #[test]
    fn the_first_ones_are_spared_and_an_outage_cuts_what_waits() {
        let (mut faults, poll) = (Faults::default(), Endpoint::GetMessage);
        let end = Duration::from_secs(5);
        faults.add(Fault::new(&[poll], Harm::Reset, Span::Until(end)).sparing(1));
        let cuts = |faults: &Faults, now| faults.cuts(poll, Caller::Listener, now);
        assert_eq!(cuts(&faults, Duration::ZERO), None, "that one is spared");
        assert_eq!(faults.strike(poll, Caller::Listener, Duration::ZERO), None);
        let strike = faults.strike(poll, Caller::Listener, Duration::ZERO);
        assert_eq!(strike, Some(Strike { harm: Harm::Reset, after: false, until: Some(end) }));
        assert_eq!(cuts(&faults, Duration::ZERO), strike);
        assert_eq!(cuts(&faults, end), None);
        faults.add(Fault::new(&[], Harm::Hang, Span::Next(1)));
        assert_eq!(cuts(&faults, end), None, "single faults are for what comes");
    }
}

//! One service for all runner sets with the same configuration, so that they share tokens and connections.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::inputs::{InputError, Inputs};
use super::service::Service;

/// A service that nobody asked for so long is given up, with its tokens and connections.
const UNUSED: Duration = Duration::from_secs(60 * 60);

/// Gives out services.
pub struct Services {
    deadline: Duration,
    is_server_forced: bool,
    /// A cluster has tens of them, so that looking through all is fine. Held while one is set up, so that
    /// there are never two, but never during a call.
    entries: Mutex<Vec<Entry>>,
}

struct Entry {
    /// Compared by content, not by name or hash: a Secret that changes under its name gets a new service at once, and
    /// two that look alike are never mistaken for each other.
    inputs: Inputs,
    service: Service,
    used: Instant,
}

impl fmt::Debug for Services {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Services").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl Services {
    /// None yet. No call of theirs takes longer than `deadline`; with `is_server_forced`, every host is taken for a GitHub
    /// Enterprise Server.
    pub fn new(deadline: Duration, is_server_forced: bool) -> Self {
        Self { deadline, is_server_forced, entries: Mutex::default() }
    }

    /// The service for these inputs at `now`.
    pub fn service(&self, inputs: &Inputs, now: Instant) -> Result<Service, InputError> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|entry| now.saturating_duration_since(entry.used) < UNUSED);
        if let Some(entry) = entries.iter_mut().find(|entry| entry.inputs == *inputs) {
            entry.used = now;
            return Ok(entry.service.clone());
        }
        let service = Service::new(inputs, self.deadline, self.is_server_forced)?;
        entries.push(Entry { inputs: inputs.clone(), service: service.clone(), used: now });
        Ok(service)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

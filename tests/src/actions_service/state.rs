//! What the service knows: scale sets, runner groups and registered runners. Jobs and messages are in `jobs`.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::calls::Calls;
use super::faults::Faults;
use super::jobs::{Job, Queue};
use super::tokens::Tokens;

/// The whole service. Times are since an origin of the caller's choice.
#[derive(Clone, Debug)]
pub struct Service {
    /// What goes wrong, and how slow it is.
    pub faults: Faults,
    /// Who asked what.
    pub calls: Calls,
    /// Tokens and their lives.
    pub tokens: Tokens,
    /// Runners take a waiting job as soon as they are online.
    pub eager: bool,
    /// How long a session lives whose listener does not poll.
    pub session_life: Duration,
    pub(super) base: String,
    pub(super) sets: BTreeMap<i64, ScaleSet>,
    pub(super) groups: BTreeMap<i64, String>,
    pub(super) agents: BTreeMap<i64, Agent>,
    pub(super) jobs: BTreeMap<i64, Job>,
    pub(super) queues: BTreeMap<i64, Queue>,
    registered: BTreeMap<String, u32>,
    pub(super) removed: BTreeMap<i64, String>,
    pub(super) last_id: i64,
}

/// A scale set.
#[derive(Clone, Debug)]
pub struct ScaleSet {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The id of its runner group.
    pub group: i64,
    /// As they were given.
    pub labels: Value,
    /// As it was given.
    pub setting: Value,
}

/// How far a runner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentState {
    /// Registered, never seen.
    Registered,
    /// It waits for a job.
    Online,
    /// It has one.
    Busy,
}

/// A registered runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Its id.
    pub id: i64,
    /// Its name; no other runner has it.
    pub name: String,
    /// Its scale set.
    pub set: i64,
    /// How far it is.
    pub state: AgentState,
    /// Since when it is registered.
    pub since: Duration,
}

/// Why the service does not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A runner of that name is registered.
    AgentExists,
    /// The runner has a job.
    JobStillRunning,
    /// There is no such scale set, session or job.
    NotFound,
    /// Another listener has the session.
    SessionTaken,
}

impl Service {
    /// An empty service; `base` is how it is reached, and `epoch` the time of day at the origin of the clock.
    pub fn new(base: impl Into<String>, epoch: u64) -> Self {
        Self {
            faults: Faults::default(),
            calls: Calls::default(),
            tokens: Tokens::new(epoch),
            eager: true,
            session_life: Duration::from_secs(15),
            base: base.into(),
            sets: BTreeMap::new(),
            groups: BTreeMap::from([(1, "Default".to_owned())]),
            agents: BTreeMap::new(),
            jobs: BTreeMap::new(),
            queues: BTreeMap::new(),
            registered: BTreeMap::new(),
            removed: BTreeMap::new(),
            last_id: 0,
        }
    }

    /// The next id of anything.
    pub(super) fn next_id(&mut self) -> i64 {
        self.last_id += 1;
        self.last_id
    }

    /// One more runner group.
    pub fn add_group(&mut self, name: &str) -> i64 {
        let id = self.groups.keys().max().map_or(1, |last| last + 1);
        self.groups.insert(id, name.to_owned());
        id
    }

    /// A new scale set.
    pub fn add_set(&mut self, name: &str, group: i64) -> i64 {
        let id = self.next_id();
        let labels = json!([{"type": "System", "name": name}]);
        let setting = json!({"disableUpdate": true});
        self.sets.insert(id, ScaleSet { id, name: name.to_owned(), group, labels, setting });
        self.queues.insert(id, Queue::default());
        id
    }

    /// A scale set and its queue go; runners stay until they are removed.
    pub fn delete_set(&mut self, id: i64) {
        self.sets.remove(&id);
        self.queues.remove(&id);
        self.jobs.retain(|_, job| job.set != id);
    }

    /// Scale sets.
    pub fn sets(&self) -> impl Iterator<Item = &ScaleSet> {
        self.sets.values()
    }

    /// Registers a runner.
    pub fn register(&mut self, set: i64, name: &str, now: Duration) -> Result<Agent, Refusal> {
        if !self.sets.contains_key(&set) {
            return Err(Refusal::NotFound);
        }
        if self.agent(name).is_some() {
            return Err(Refusal::AgentExists);
        }
        let id = self.next_id();
        let agent = Agent { id, name: name.to_owned(), set, state: AgentState::Registered, since: now };
        self.agents.insert(id, agent.clone());
        *self.registered.entry(name.to_owned()).or_default() += 1;
        Ok(agent)
    }

    /// Ends a registration. One that is unknown, gone or has id 0 is as good as ended.
    pub fn remove(&mut self, id: i64) -> Result<(), Refusal> {
        if self.agents.get(&id).is_some_and(|agent| agent.state == AgentState::Busy) {
            return Err(Refusal::JobStillRunning);
        }
        self.forget(id);
        Ok(())
    }

    /// The registration is gone, as after a day without a connection or at the end of the job.
    pub fn forget(&mut self, id: i64) {
        if let Some(agent) = self.agents.remove(&id) {
            self.removed.insert(id, agent.name);
        }
    }

    /// The registered runner of that name.
    pub fn agent(&self, name: &str) -> Option<&Agent> {
        self.agents.values().find(|agent| agent.name == name)
    }

    /// The registered runner with that id.
    pub fn agent_by_id(&self, id: i64) -> Option<&Agent> {
        self.agents.get(&id)
    }

    /// All current registrations.
    pub fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.agents.values()
    }

    /// How many registrations there ever were.
    pub fn registrations(&self) -> u32 {
        self.registered.values().sum()
    }

    /// Names that were registered more than once.
    pub fn registered_again(&self) -> Vec<&str> {
        let again = self.registered.iter().filter(|(_, times)| **times > 1);
        again.map(|(name, _)| name.as_str()).collect()
    }

    /// What a runner's program would be started with.
    pub fn encoded_config(agent: &Agent) -> String {
        STANDARD.encode(json!({"agentId": agent.id, "agentName": agent.name}).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_among_the_living() {
        let mut service = Service::new("http://x", 0);
        let set = service.add_set("set", 1);
        let first = service.register(set, "a", Duration::ZERO).unwrap();
        assert_eq!(service.register(set, "a", Duration::ZERO), Err(Refusal::AgentExists));
        assert_eq!(service.register(99, "b", Duration::ZERO), Err(Refusal::NotFound));
        service.remove(first.id).unwrap();
        let second = service.register(set, "a", Duration::ZERO).unwrap();
        assert_ne!(first.id, second.id);
        assert_eq!((service.registrations(), service.registered_again()), (2, vec!["a"]));
    }

    #[test]
    fn only_a_busy_runner_is_not_removed() {
        let mut service = Service::new("http://x", 0);
        let set = service.add_set("set", 1);
        let agent = service.register(set, "a", Duration::ZERO).unwrap();
        service.assign(set, 1, Duration::ZERO).unwrap();
        service.online("a", Duration::ZERO);
        assert_eq!(service.remove(agent.id), Err(Refusal::JobStillRunning));
        assert_eq!(service.remove(0), Ok(()));
        assert_eq!(service.remove(12_345), Ok(()));
    }
}

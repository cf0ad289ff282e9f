//! Jobs and how listeners hear of them: assigned, started, completed; sessions and their messages.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};

use super::state::{AgentState, Refusal, Service};
use super::tokens::Scope;
use super::wire::time;

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// Offered to the listener.
    Available,
    /// The scale set is to run it.
    Assigned,
    /// On that runner.
    Running(i64),
    /// Done.
    Completed,
}

/// A job.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its request id.
    pub id: i64,
    /// The scale set that it is for.
    pub set: i64,
    /// How far it is.
    pub state: JobState,
    queued: Duration,
    assigned: Option<Duration>,
    started: Option<Duration>,
}

/// The queue of a scale set, with the session that reads it.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    session: Option<Session>,
    messages: VecDeque<Message>,
    last_message: i64,
}

/// Who reads a queue.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) owner: String,
    seen: Duration,
    polls: u32,
}

/// What a listener is to hear.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Grows within the scale set.
    pub id: i64,
    /// What happened.
    pub body: Vec<Value>,
    /// The counts when it was sent.
    pub statistics: Value,
}

impl Job {
    fn waiting(set: i64, id: i64, state: JobState, now: Duration) -> Self {
        let assigned = (state == JobState::Assigned).then_some(now);
        Self { id, set, state, queued: now, assigned, started: None }
    }
}

impl Service {
    /// So many jobs are assigned at once, in one message, as if the listener had acquired them.
    pub fn assign(&mut self, set: i64, count: usize, now: Duration) -> Result<Vec<i64>, Refusal> {
        self.queue_jobs(set, count, JobState::Assigned, now)
    }

    /// So many jobs are offered; the listener has to acquire them.
    pub fn offer(&mut self, set: i64, count: usize, now: Duration) -> Result<Vec<i64>, Refusal> {
        self.queue_jobs(set, count, JobState::Available, now)
    }

    fn queue_jobs(
        &mut self,
        set: i64,
        count: usize,
        state: JobState,
        now: Duration,
    ) -> Result<Vec<i64>, Refusal> {
        self.sets.get(&set).ok_or(Refusal::NotFound)?;
        let mut ids = Vec::with_capacity(count);
        for _ in 0..count {
            let id = self.next_id();
            self.jobs.insert(id, Job::waiting(set, id, state.clone(), now));
            ids.push(id);
        }
        let kind = if state == JobState::Available { "JobAvailable" } else { "JobAssigned" };
        self.tell(set, kind, &ids, now);
        if state == JobState::Assigned && self.eager {
            self.start_waiting(set, now);
        }
        Ok(ids)
    }

    /// The listener takes offered jobs; gives those that it got.
    pub fn acquire(&mut self, set: i64, ids: &[i64], now: Duration) -> Vec<i64> {
        let mut taken = Vec::new();
        for id in ids {
            if let Some(job) = self.jobs.get_mut(id).filter(|job| job.state == JobState::Available) {
                job.state = JobState::Assigned;
                job.assigned = Some(now);
                taken.push(*id);
            }
        }
        self.tell(set, "JobAssigned", &taken, now);
        if self.eager {
            self.start_waiting(set, now);
        }
        taken
    }

    /// A runner connects. It takes a waiting job at once if the service is eager. Whether it is registered.
    pub fn online(&mut self, name: &str, now: Duration) -> bool {
        let Some(agent) = self.agents.values_mut().find(|agent| agent.name == name) else { return false };
        if agent.state == AgentState::Registered {
            agent.state = AgentState::Online;
        }
        let set = agent.set;
        if self.eager {
            self.start_waiting(set, now);
        }
        true
    }

    /// Waiting jobs go to runners that wait, one message for all; gives how many.
    pub fn start_waiting(&mut self, set: i64, now: Duration) -> usize {
        let idle = self.agents.values().filter(|agent| agent.set == set && agent.state == AgentState::Online);
        let idle: Vec<i64> = idle.map(|agent| agent.id).collect();
        let jobs = self.jobs.values().filter(|job| job.set == set && job.state == JobState::Assigned);
        let pairs: Vec<(i64, i64)> = jobs.map(|job| job.id).zip(idle).collect();
        for (job, agent) in &pairs {
            self.jobs.entry(*job).and_modify(|job| {
                job.state = JobState::Running(*agent);
                job.started = Some(now);
            });
            self.agents.entry(*agent).and_modify(|agent| agent.state = AgentState::Busy);
        }
        let ids: Vec<i64> = pairs.into_iter().map(|(job, _)| job).collect();
        self.tell(set, "JobStarted", &ids, now);
        ids.len()
    }

    /// These jobs are done, in one message; their runners' registrations are gone.
    pub fn complete(&mut self, jobs: &[i64], now: Duration) {
        let mut by_set: std::collections::BTreeMap<i64, Vec<(i64, Value)>> = Default::default();
        for id in jobs {
            let Some(job) = self.jobs.get(id) else { continue };
            let element = self.element("JobCompleted", job, now);
            let set = job.set;
            if let JobState::Running(agent) = job.state {
                self.forget(agent);
            }
            self.jobs.entry(*id).and_modify(|job| job.state = JobState::Completed);
            by_set.entry(set).or_default().push((*id, element));
        }
        for (set, elements) in by_set {
            self.send(set, elements.into_iter().map(|(_, element)| element).collect());
        }
    }

    /// The job that a runner has.
    pub fn job_of(&self, runner: &str) -> Option<i64> {
        let agent = self.agent(runner)?.id;
        self.jobs.values().find(|job| job.state == JobState::Running(agent)).map(|job| job.id)
    }

    /// Jobs of a scale set.
    pub fn jobs(&self, set: i64) -> impl Iterator<Item = &Job> {
        self.jobs.values().filter(move |job| job.set == set)
    }

    /// Jobs assigned and not yet completed: what drives scaling.
    pub fn assigned(&self, set: i64) -> usize {
        self.jobs(set).filter(|job| matches!(job.state, JobState::Assigned | JobState::Running(_))).count()
    }

    /// The counts, as listeners get them.
    pub fn statistics(&self, set: i64) -> Value {
        let jobs = |is: fn(&JobState) -> bool| self.jobs(set).filter(|job| is(&job.state)).count();
        let agents = |is: fn(AgentState) -> bool| {
            self.agents.values().filter(|agent| agent.set == set && is(agent.state)).count()
        };
        json!({
            "totalAvailableJobs": jobs(|state| *state == JobState::Available),
            "totalAcquiredJobs": jobs(|state| *state == JobState::Assigned),
            "totalAssignedJobs": self.assigned(set),
            "totalRunningJobs": jobs(|state| matches!(state, JobState::Running(_))),
            "totalRegisteredRunners": agents(|_| true),
            "totalBusyRunners": agents(|state| state == AgentState::Busy),
            "totalIdleRunners": agents(|state| state == AgentState::Online),
        })
    }

    fn tell(&mut self, set: i64, kind: &str, jobs: &[i64], now: Duration) {
        if jobs.is_empty() {
            return;
        }
        let jobs = jobs.iter().filter_map(|id| self.jobs.get(id));
        let body = jobs.map(|job| self.element(kind, job, now)).collect();
        self.send(set, body);
    }

    fn send(&mut self, set: i64, body: Vec<Value>) {
        let statistics = self.statistics(set);
        if let Some(queue) = self.queues.get_mut(&set) {
            queue.last_message += 1;
            queue.messages.push_back(Message { id: queue.last_message, body, statistics });
        }
    }

    fn element(&self, kind: &str, job: &Job, now: Duration) -> Value {
        let at = |time_of: Option<Duration>| time_of.map(|at| time(self.tokens.unix(at)));
        let mut element = json!({
            "messageType": kind, "runnerRequestId": job.id, "repositoryName": "repo", "ownerName": "org",
            "jobId": format!("job-{}", job.id), "jobWorkflowRef": "org/repo/.github/workflows/ci.yaml@refs/heads/main",
            "jobDisplayName": format!("job {}", job.id), "workflowRunId": 1, "eventName": "push",
            "requestLabels": [self.sets.get(&job.set).map_or("", |set| set.name.as_str())],
            "queueTime": at(Some(job.queued)), "scaleSetAssignTime": at(job.assigned),
        });
        if let Some(started) = at(job.started) {
            element["runnerAssignTime"] = started.into();
        }
        match kind {
            "JobAvailable" => element["acquireJobUrl"] = format!("{}/acquire", self.base).into(),
            "JobCompleted" => {
                element["result"] = "succeeded".into();
                element["finishTime"] = at(Some(now)).into();
            }
            _ => {}
        }
        if let JobState::Running(agent) = job.state {
            element["runnerId"] = agent.into();
            element["runnerName"] = self.agents.get(&agent).map_or("", |agent| agent.name.as_str()).into();
        }
        // An absent time is fine, an empty or null one is not for every client.
        element.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        element
    }

    /// A listener opens the one session of a scale set; gives its id.
    pub fn open_session(&mut self, set: i64, owner: &str, now: Duration) -> Result<String, Refusal> {
        let number = self.next_id();
        let life = self.session_life;
        let queue = self.queues.get_mut(&set).ok_or(Refusal::NotFound)?;
        if queue.session.as_ref().is_some_and(|session| session.polls > 0 || now < session.seen + life) {
            return Err(Refusal::SessionTaken);
        }
        let id = format!("00000000-0000-4000-8000-{number:012x}");
        queue.session = Some(Session { id: id.clone(), owner: owner.to_owned(), seen: now, polls: 0 });
        Ok(id)
    }

    /// The session ends; the next listener may come at once.
    pub fn close_session(&mut self, set: i64, id: &str) {
        if let Some(queue) = self.queues.get_mut(&set) {
            queue.session.take_if(|session| session.id == id);
        }
    }

    /// Whether a listener waits for messages right now. It polls only after its first patch.
    pub fn is_polled(&self, set: i64) -> bool {
        let session = self.queues.get(&set).and_then(|queue| queue.session.as_ref());
        session.is_some_and(|session| session.polls > 0)
    }

    pub(super) fn session(&self, set: i64, id: &str) -> Option<&Session> {
        self.queues.get(&set)?.session.as_ref().filter(|session| session.id == id)
    }

    /// A poll begins to wait, or ends; a session whose listener waits lives.
    pub fn polling(&mut self, set: i64, id: &str, begins: bool, now: Duration) {
        let session = self.queues.get_mut(&set).and_then(|queue| queue.session.as_mut());
        if let Some(session) = session.filter(|session| session.id == id) {
            session.seen = now;
            session.polls = if begins { session.polls + 1 } else { session.polls.saturating_sub(1) };
        }
    }

    /// The first message after that one.
    pub fn message(&self, set: i64, after: i64) -> Option<&Message> {
        self.queues.get(&set)?.messages.iter().find(|message| message.id > after)
    }

    /// A message is acknowledged.
    pub fn delete_message(&mut self, set: i64, id: i64) {
        if let Some(queue) = self.queues.get_mut(&set) {
            queue.messages.retain(|message| message.id != id);
        }
    }

    /// What a session is, as its listener gets it; with a new queue token.
    pub(super) fn describe_session(&mut self, set: i64, id: &str, now: Duration) -> Option<Value> {
        let owner = self.session(set, id)?.owner.clone();
        let token = self.tokens.issue(Scope::Queue, now);
        Some(json!({
            "sessionId": id, "ownerName": owner, "runnerScaleSet": self.describe_set(set)?,
            "messageQueueUrl": format!("{}/tenant/1/_apis/queue/{set}?sessionId={id}", self.base),
            "messageQueueAccessToken": token, "statistics": self.statistics(set),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn kinds(service: &Service, set: i64) -> Vec<(String, usize, i64)> {
        let messages = service.queues[&set].messages.iter();
        let kind = |message: &Message| message.body[0]["messageType"].as_str().unwrap().to_owned();
        let assigned = |message: &Message| message.statistics["totalAssignedJobs"].as_i64().unwrap();
        messages.map(|message| (kind(message), message.body.len(), assigned(message))).collect()
    }

    #[test]
    fn a_job_goes_its_way() {
        let mut service = Service::new("http://x", 0);
        let set = service.add_set("set", 1);
        let jobs = service.offer(set, 2, NOW).unwrap();
        assert_eq!(service.acquire(set, &jobs, NOW), jobs);
        assert_eq!(service.acquire(set, &jobs, NOW), Vec::<i64>::new(), "nothing is acquired twice");
        service.register(set, "a", NOW).unwrap();
        assert!(service.online("a", NOW));
        assert_eq!(service.job_of("a"), Some(jobs[0]));
        service.complete(&jobs[..1], NOW);
        assert_eq!(service.agents().count(), 0, "an ephemeral runner runs one job");
        let expected =
            [("JobAvailable", 2, 0), ("JobAssigned", 2, 2), ("JobStarted", 1, 2), ("JobCompleted", 1, 1)];
        assert_eq!(kinds(&service, set), expected.map(|(kind, len, sum)| (kind.to_owned(), len, sum)));
        let completed = &service.queues[&set].messages[3].body[0];
        assert_eq!(completed["runnerName"], "a");
    }

    #[test]
    fn messages_stay_until_they_are_deleted() {
        let mut service = Service::new("http://x", 0);
        let set = service.add_set("set", 1);
        service.assign(set, 1, NOW).unwrap();
        service.assign(set, 1, NOW).unwrap();
        assert_eq!(service.message(set, 0).unwrap().id, 1);
        assert_eq!(service.message(set, 1).unwrap().id, 2);
        service.delete_message(set, 1);
        assert_eq!(service.message(set, 0).unwrap().id, 2);
        assert!(service.message(set, 2).is_none());
    }

    #[test]
    fn one_listener_at_a_time() {
        let mut service = Service::new("http://x", 0);
        let set = service.add_set("set", 1);
        let first = service.open_session(set, "one", NOW).unwrap();
        assert_eq!(service.open_session(set, "two", NOW), Err(Refusal::SessionTaken));
        service.polling(set, &first, true, NOW);
        let late = Duration::from_secs(60);
        assert_eq!(service.open_session(set, "two", late), Err(Refusal::SessionTaken), "it waits");
        service.polling(set, &first, false, late);
        assert_eq!(service.open_session(set, "two", late), Err(Refusal::SessionTaken));
        service.open_session(set, "two", late * 2).unwrap();
        service.close_session(set, &first);
        assert_eq!(
            service.open_session(set, "three", late * 2),
            Err(Refusal::SessionTaken),
            "an old listener closes none"
        );
    }
}

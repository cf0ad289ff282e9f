//! What becomes of the engine's calls: sooner or later, or never, they are carried out with the bodies that the controller
//! would send, and sooner or later, or never, there is an answer.

use std::sync::Arc;
use std::time::Duration;

use headstart_controller::creation::call::{Answer, Call, FoundSecret, Order, Trouble};
use headstart_controller::creation::journal::{self, Journal};
use headstart_controller::creation::template::{self, Template};
use headstart_externals::names::RUNNER_SET_LABEL;
use headstart_externals::pin::Generation;
use headstart_tests::actions_service::Refusal;
use headstart_tests::arc::driver::read;
use headstart_tests::arc::model::{ConfigMap, Failure, Key, Kind, Meta, Object};
use serde_json::{Value, json};

use super::broken::Broken;
use super::rules::LATE;
use super::world::{Event, NAMESPACE, World, ms};

impl World {
    /// A call leaves.
    pub(crate) fn begin(&mut self, order: Order) {
        self.check_drawn(&order);
        if let (Call::HandBack(_), Some(leader)) = (&order.task.call, &self.leader) {
            self.seen_version = leader.version_of(&order.place.uid);
        }
        self.tell(|_| format!("call {}: {} {}", order.id.0, order.task.call.code(), order.task.runner));
        let half = self.manners.our_latency / 2;
        let mut there = self.between(1, half);
        if let Call::Register = order.task.call {
            there += self.between(0, self.manners.registration);
        }
        let back = self.between(1, half);
        let is_cut_off = self.is_cut_off();
        if is_cut_off || self.rng.u64(..100) < self.manners.faults {
            return self.goes_wrong(order, there, back, is_cut_off);
        }
        self.after(there, Event::CarryOut(self.term, order, self.now, Some(back)));
    }

    fn goes_wrong(&mut self, order: Order, there: Duration, back: Duration, is_cut_off: bool) {
        let (term, now, id) = (self.term, self.now, order.id);
        let timeout = self.leader.as_ref().map_or(ms(0), super::leader::Leader::timeout);
        let retry_after = self.rng.bool().then(|| Duration::from_secs(self.rng.u64(1..=3)));
        let failed = Trouble::Failed { retry_after: None, why: "the connection was reset".to_owned() };
        if is_cut_off {
            let unheard = self.rng.bool();
            let (wait, trouble) = if unheard { (timeout, Trouble::TimedOut) } else { (there, failed) };
            return self.after(wait, Event::Answered(term, id, Answer::Trouble(trouble)));
        }
        let trouble = match self.rng.u8(..6) {
            0 => failed,
            1 => {
                self.after(there, Event::CarryOut(term, order, now, None));
                failed
            }
            2 => {
                // The deadline of the API server is ours. That of a registration is the service's own, and short.
                let most = match order.task.call {
                    Call::Register | Call::CreateJournal(_) => timeout.min(ms(3_000)),
                    _ => timeout,
                };
                let late = most.mul_f64(self.rng.f64());
                self.after(late, Event::CarryOut(term, order, now, None));
                return self.after(timeout, Event::Answered(term, id, Answer::Trouble(Trouble::TimedOut)));
            }
            3 => Trouble::PushedBack { retry_after },
            4 => Trouble::Unavailable { retry_after },
            _ => Trouble::Failed { retry_after, why: "500".to_owned() },
        };
        self.after(there + back, Event::Answered(term, id, Answer::Trouble(trouble)));
    }

    /// A call takes effect.
    pub(crate) fn carry_out(&mut self, term: u32, order: Order, begun: Duration, reply: Option<Duration>) {
        let is_late = term != self.term && begun + LATE < self.now;
        let answer = self.effect(&order, begun, is_late).unwrap_or_else(Answer::Trouble);
        self.note();
        if reply.is_none() {
            self.tell(|_| format!("call {} is carried out, and nobody hears of it", order.id.0));
        }
        match reply {
            // The answer does not get through any more.
            Some(_) if term == self.term && self.is_cut_off() => {
                let timeout = self.leader.as_ref().map_or(ms(0), super::leader::Leader::timeout);
                let unheard = Event::Answered(term, order.id, Answer::Trouble(Trouble::TimedOut));
                self.at(begun.saturating_add(timeout), unheard);
            }
            Some(wait) => self.after(wait, Event::Answered(term, order.id, answer)),
            None => {}
        }
    }

    /// `is_late` where it was a leader's that is long dead.
    fn effect(&mut self, order: &Order, begun: Duration, is_late: bool) -> Result<Answer, Trouble> {
        let name = order.task.runner.as_str();
        let key = Key::new(NAMESPACE, name);
        match &order.task.call {
            Call::CreateJournal(journal) => self.create_journal(journal, order, begun),
            Call::DeleteJournal(name) => self.delete(Kind::ConfigMap, &Key::new("headstart", name)),
            Call::Register => self.register(name, &order.place.uid),
            Call::FindAgent => Ok(Answer::Agent(self.service.agent(name).map(|agent| agent.id))),
            Call::RemoveAgent(id) => {
                self.check_removal(&key, Some(*id), is_late);
                self.service.remove(*id).map(|()| Answer::Done).map_err(|_| Trouble::Conflict)
            }
            Call::CreateSecret { .. } if self.broken == Broken::SecretLate => Ok(Answer::Done),
            Call::CreateSecret { runner_id, jit_config } => {
                let body = self.template(&order.place.uid)?.secret(name, *runner_id, jit_config);
                self.create(Kind::Secret, &body).map(|_| Answer::Done)
            }
            Call::GetSecret => {
                let found = self.store.get(Kind::Secret, &key).and_then(Object::secret);
                Ok(Answer::Secret(found.map(|secret| FoundSecret { runner_id: secret.runner_id })))
            }
            Call::DeleteSecret => {
                self.check_removal(&key, None, is_late);
                self.delete(Kind::Secret, &key)
            }
            Call::CreateRunner { stamp } => self.create_runner(order, *stamp, begun),
            Call::GetRunner => Ok(Answer::Runner(
                self.store.get(Kind::Runner, &key).map(|found| found.meta().uid.to_string()),
            )),
            Call::SetStatus { runner_id } => {
                let body = template::status(name, *runner_id);
                let status = body["status"].clone();
                self.change(Kind::Runner, &key, move |object| {
                    if let Some(runner) = object.runner_mut() {
                        runner.status.runner_id = status["runnerId"].as_i64().unwrap();
                        runner.status.runner_name = status["runnerName"].as_str().unwrap().into();
                    }
                })
            }
            Call::CreatePod { owner, stamp } => {
                let body = self.template(&order.place.uid)?.pod(name, owner, *stamp);
                self.create(Kind::Pod, &body).map(|_| Answer::Done)
            }
            Call::OwnSecret { owner } => {
                let mut body = template::owned(name, owner);
                body["metadata"]["name"] = name.into();
                let owned = read(Kind::Secret, &body).unwrap();
                self.change(Kind::Secret, &key, move |object| {
                    object.meta_mut().owner = owned.meta().owner.clone()
                })
            }
            Call::HandBack(generation) => self.hand_back(order, *generation),
        }
    }

    fn register(&mut self, name: &str, set: &str) -> Result<Answer, Trouble> {
        self.check_journaled(name);
        let set = self.template(set)?.scale_set;
        match self.service.register(set, name, self.now) {
            Ok(agent) => Ok(Answer::Registered { runner_id: agent.id, jit_config: name.to_owned().into() }),
            Err(Refusal::AgentExists) => Err(Trouble::Exists),
            Err(_) => Err(Trouble::Refused("there is no such scale set".to_owned())),
        }
    }

    fn create_journal(
        &mut self,
        journal: &Journal,
        order: &Order,
        begun: Duration,
    ) -> Result<Answer, Trouble> {
        if self.broken == Broken::JournalLate && begun != Duration::MAX {
            let late = self.between(2_000, 5_000);
            self.after(late, Event::CarryOut(u32::MAX, order.clone(), Duration::MAX, None));
            return Ok(Answer::Done);
        }
        let mut meta = Meta::new(Key::new("headstart", &journal.name));
        meta.labels.insert(RUNNER_SET_LABEL.into(), journal.set.as_str().into());
        let data = [(journal::KEY.into(), journal.text().unwrap().into())].into();
        let created = self.store.create(Object::ConfigMap(ConfigMap { meta, data }), self.now);
        created.map(|_| Answer::Done).map_err(in_our_words)
    }

    fn create_runner(&mut self, order: &Order, stamp: i64, begun: Duration) -> Result<Answer, Trouble> {
        let times = self.posted.entry(order.task.runner.clone()).or_default();
        *times += 1;
        let mut name = order.task.runner.clone();
        if self.broken == Broken::PostedUnderNewName && *times > 1 {
            name.push('x');
        }
        let template = self.template(&order.place.uid)?;
        let stamp = match self.broken {
            Broken::AllStampedAlike => {
                let set = self.set(&Key::new(NAMESPACE, &order.place.name));
                let pinned = set.and_then(|set| World::stored(set).pinned());
                pinned.map_or(stamp, |generation| i64::from(generation.patch_id))
            }
            _ => stamp,
        };
        let mut body = template.runner(&name, stamp);
        match self.broken {
            Broken::OwnerMissing => body["metadata"]["ownerReferences"] = json!([]),
            Broken::FinalizersMissing => body["metadata"]["finalizers"] = json!([]),
            _ => {}
        }
        let live = self.live(&order.place.uid);
        let created = self.create(Kind::Runner, &body)?;
        self.check_post(order, &created, live, begun);
        Ok(Answer::Created(created.meta().uid.to_string()))
    }

    fn hand_back(&mut self, order: &Order, generation: Generation) -> Result<Answer, Trouble> {
        let key = Key::new(NAMESPACE, &order.place.name);
        let mut patch = template::handed_back(generation);
        if self.broken == Broken::HandBackUntested {
            patch.as_array_mut().unwrap().retain(|step| step["op"] != "test");
        }
        if self.broken == Broken::HandBackByVersion {
            patch[0] =
                json!({ "op": "test", "path": "/metadata/resourceVersion", "value": self.seen_version });
        }
        let set = self.set(&key).ok_or(Trouble::NotFound)?;
        let (before, version) = (World::stored(set), set.meta.version);
        if self.broken == Broken::NeverHandedBack {
            let watched = self.watched.get(&order.place.uid);
            let generation = watched.and_then(|watched| watched.generation(version)).unwrap();
            return Ok(Answer::Returned { generation });
        }
        let mut object = json!({
            "metadata": { "resourceVersion": version },
            "spec": { "patchID": set.patch_id, "replicas": set.replicas },
        });
        let patch: json_patch::Patch = serde_json::from_value(patch).unwrap();
        if json_patch::patch(&mut object, &patch).is_err() {
            self.check_refused(&key, before, generation);
            return Err(Trouble::Conflict);
        }
        let number = |field: &str| object["spec"][field].as_i64().unwrap();
        let (replicas, patch_id) = (number("replicas"), number("patchID"));
        self.tell(|_| format!("{} is handed back as {replicas}/{patch_id}", key.name));
        self.check_hand_back(&key, before, generation);
        let uid = order.place.uid.as_str();
        self.watched.get_mut(uid).into_iter().for_each(|watched| watched.is_returning = true);
        self.change(Kind::RunnerSet, &key, move |object| {
            if let Some(set) = object.runner_set_mut() {
                (set.replicas, set.patch_id) = (replicas, patch_id);
            }
        })?;
        self.note();
        self.watched.get_mut(uid).into_iter().for_each(|watched| watched.is_returning = false);
        let version = self.set(&key).map(|set| (set.meta.uid.to_string(), set.meta.version));
        let (uid, version) = version.ok_or(Trouble::NotFound)?;
        let generation = self.watched.get(&uid).and_then(|watched| watched.generation(version));
        self.after(ms(6_000), Event::Check(key, self.now));
        Ok(Answer::Returned { generation: generation.unwrap() })
    }

    /// The shipped template, from a set as it would be stored.
    fn template(&self, uid: &str) -> Result<Template, Trouble> {
        let watched = self.watched.get(uid).ok_or(Trouble::Refused("no such set".to_owned()))?;
        let set = json!({
            "metadata": { "name": *watched.key.name, "namespace": *watched.key.namespace, "uid": uid },
            "spec": { "ephemeralRunnerSpec": {
                "runnerScaleSetId": watched.scale_set_id,
                "spec": { "containers": [{ "name": "runner" }] },
            } },
        });
        Template::of(&set).map_err(|error| Trouble::Refused(error.to_string()))
    }

    fn create(&mut self, kind: Kind, body: &Value) -> Result<Arc<Object>, Trouble> {
        self.store.create(read(kind, body).unwrap(), self.now).map_err(in_our_words)
    }

    fn delete(&mut self, kind: Kind, key: &Key) -> Result<Answer, Trouble> {
        match self.store.delete(kind, key) {
            Ok(()) | Err(Failure::NotFound) => Ok(Answer::Done),
            Err(failure) => Err(in_our_words(failure)),
        }
    }

    fn change(&mut self, kind: Kind, key: &Key, change: impl FnOnce(&mut Object)) -> Result<Answer, Trouble> {
        let changed = self.store.update(kind, key, None, |object| {
            change(object);
            Ok(())
        });
        changed.map(|_| Answer::Done).map_err(in_our_words)
    }
}

fn in_our_words(failure: Failure) -> Trouble {
    match failure {
        Failure::NotFound => Trouble::NotFound,
        Failure::AlreadyExists => Trouble::Exists,
        Failure::Conflict => Trouble::Conflict,
        Failure::Quota => Trouble::Quota("exceeded quota: pods".to_owned()),
        other => Trouble::Refused(format!("{other:?}")),
    }
}

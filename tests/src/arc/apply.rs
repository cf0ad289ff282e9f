//! What the manager's calls do to the virtual API server and to the fake service's state.

use std::sync::Arc;
use std::time::Duration;

use super::model::calls::{Answer, Call, Creation, Failure, RunnerPatch};
use super::model::objects::{Kind, Object, Runner, SetStatus};
use super::model::{Generation, Key};
use super::store::Store;
use crate::actions_service::{Refusal, Service};

/// A call of the API server takes effect.
pub fn stored(store: &mut Store, generation: Generation, call: Call, now: Duration) -> Answer {
    let done = |result: Result<Arc<Object>, Failure>| match result {
        Ok(_) => Answer::Done,
        Err(failure) => Answer::Failed(failure),
    };
    match call {
        Call::ReadCredentials(_) => Answer::Done,
        Call::ReadSecret(key) => match store.get(Kind::Secret, &key).and_then(Object::secret) {
            Some(secret) => Answer::Secret(secret.clone()),
            None => Answer::Failed(Failure::NotFound),
        },
        Call::Create(creation) => done(store.create(object(*creation), now)),
        Call::Delete(kind, key) => store.delete(kind, &key).map_or_else(Answer::Failed, |()| Answer::Done),
        Call::Finalizers(kind, key, all) => done(store.update(kind, &key, None, |object| {
            object.meta_mut().finalizers = all;
            Ok(())
        })),
        Call::SetStatus(key, old, new) => done(set_status(store, generation, &key, old, new)),
        Call::Upgrade(key, template) => done(store.update(Kind::RunnerSet, &key, None, |object| {
            let set = object.runner_set_mut().ok_or(Failure::Invalid)?;
            (set.template, set.hash) = (template.clone(), template);
            Ok(())
        })),
        Call::Drain(key) => done(patch_set(store, &key, 0, 0)),
        Call::RunnerStatus(key, patch) => done(store.update(Kind::Runner, &key, None, |object| {
            patch_runner(object.runner_mut().ok_or(Failure::Invalid)?, patch);
            Ok(())
        })),
        _ => Answer::Failed(Failure::Other),
    }
}

/// A call of the service takes effect.
pub fn served(service: &mut Service, call: &Call, now: Duration) -> Answer {
    match call {
        Call::Register(set, name) => match service.register(*set, name, now) {
            Ok(agent) => Answer::Agent(agent.id),
            Err(Refusal::AgentExists) => Answer::Failed(Failure::AgentExists),
            Err(_) => Answer::Failed(Failure::Other),
        },
        Call::FindAgent(name) => Answer::Found(service.agent(name).map(|agent| (agent.id, agent.set))),
        Call::RemoveAgent(id) => match service.remove(*id) {
            Ok(()) => Answer::Done,
            Err(_) => Answer::Failed(Failure::JobStillRunning),
        },
        Call::DeleteScaleSet(id) => {
            service.delete_set(*id);
            Answer::Done
        }
        _ => Answer::Failed(Failure::Other),
    }
}

/// A listener's patch of a runner set, without any webhook.
pub fn patch_set(store: &mut Store, key: &Key, replicas: i64, patch_id: i64) -> Result<Arc<Object>, Failure> {
    store.update(Kind::RunnerSet, key, None, |object| {
        let set = object.runner_set_mut().ok_or(Failure::Invalid)?;
        (set.replicas, set.patch_id) = (replicas, patch_id);
        Ok(())
    })
}

/// Master sends the difference: at first, without runners, that lacks `currentReplicas`, which the schema requires.
fn set_status(
    store: &mut Store,
    generation: Generation,
    key: &Key,
    old: Option<SetStatus>,
    new: SetStatus,
) -> Result<Arc<Object>, Failure> {
    store.update(Kind::RunnerSet, key, None, |object| {
        let set = object.runner_set_mut().ok_or(Failure::Invalid)?;
        let lacks = generation == Generation::Master && old.is_none() && new.current == 0;
        if lacks && set.status.is_none() {
            return Err(Failure::Invalid);
        }
        set.status = Some(new);
        Ok(())
    })
}

fn patch_runner(runner: &mut Runner, patch: RunnerPatch) {
    let status = &mut runner.status;
    match patch {
        RunnerPatch::Registered(id, name) => (status.runner_id, status.runner_name) = (id, name),
        RunnerPatch::Phase(phase, ready) => (status.phase, status.ready) = (phase, ready),
        RunnerPatch::Failure(pod, at) => drop(status.failures.insert(pod, at)),
    }
}

fn object(creation: Creation) -> Object {
    match creation {
        Creation::RunnerSet(object) => Object::RunnerSet(object),
        Creation::Runner(object) => Object::Runner(object),
        Creation::Listener(object) => Object::Listener(object),
        Creation::Secret(object) => Object::Secret(object),
        Creation::Pod(object) => Object::Pod(object),
    }
}

//! Pods: who runs them, and what comes of that.

use headstart_tests::arc::model::manager::Change;
use headstart_tests::arc::model::{Container, Key, Kind, Object, Phase};

use super::world::{Event, World, ms};

impl World {
    /// A runner ends with that code.
    pub(crate) fn exits(&mut self, key: &Key, code: i32) {
        let exited = self.store.update(Kind::Pod, key, None, |object| {
            if let Some(pod) = object.pod_mut() {
                (pod.ready, pod.container) = (false, Container::Exited(code));
            }
            Ok(())
        });
        drop(exited);
    }

    /// What the kubelet does of its own, and listeners' pods.
    pub(crate) fn kubelet(&mut self, change: &Change) {
        let Change::Put(object) = change else { return };
        match &**object {
            Object::Pod(pod) => {
                let key = pod.meta.key.clone();
                if pod.meta.deleting {
                    self.after(ms(1), Event::PodGone(key));
                } else if pod.phase == Phase::Empty && pod.container == Container::Unknown {
                    let wait = self.between(20, 400);
                    self.after(wait, Event::PodRuns(key));
                }
            }
            Object::Listener(listener) => {
                let Some(which) = self.played.iter().position(|it| it.key == listener.scale_set) else {
                    return;
                };
                let played = &mut self.played[which];
                if listener.meta.deleting {
                    played.life += 1;
                    (played.object, played.listener, played.next) = (None, None, None);
                } else if played.object.as_ref().is_none_or(|(uid, _)| *uid != listener.meta.uid) {
                    played.object = Some((listener.meta.uid.clone(), listener.runner_set.clone()));
                    let wait = self.between(100, 1_500);
                    self.listener_starts(which, wait);
                }
            }
            _ => {}
        }
    }

    /// A pod starts: its runner connects with what its Secret says.
    pub(crate) fn pod_runs(&mut self, key: &Key) {
        let pod = self.store.get(Kind::Pod, key).and_then(Object::pod);
        if pod.is_none_or(|pod| pod.meta.deleting || pod.phase != Phase::Empty) {
            return;
        }
        let secret = self.store.get(Kind::Secret, key).and_then(Object::secret);
        let Some(id) = secret.map(|secret| secret.runner_id) else {
            // The kubelet waits for it.
            return self.after(ms(2_000), Event::PodRuns(key.clone()));
        };
        let agent = id.and_then(|id| self.service.agent_by_id(id));
        let Some(set) = agent.filter(|agent| agent.name == *key.name).map(|agent| agent.set) else {
            self.tell(|_| format!("{} cannot connect", key.name));
            return self.exits(key, 1);
        };
        let ran = self.store.update(Kind::Pod, key, None, |object| {
            if let Some(pod) = object.pod_mut() {
                (pod.phase, pod.ready, pod.container) = (Phase::Running, true, Container::Alive);
            }
            Ok(())
        });
        if ran.is_ok() && self.service.online(&key.name, self.now) {
            self.jobs_moved(self.which(set));
        }
    }
}

//! Who acts beside ARC's manager and us: the listeners behind the webhook, jobs, and whoever makes trouble.

use std::collections::BTreeMap;
use std::time::Duration;

use headstart_externals::pin::Generation;
use headstart_tests::actions_service::JobState;
use headstart_tests::arc::apply::patch_set;
use headstart_tests::arc::model::{Key, Kind, Listener, Object, Phase, Text};

use super::world::{Event, NAMESPACE, World, ms};

/// The listener's long poll.
const POLL: Duration = Duration::from_secs(50);

/// Something that somebody does to the world.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// So many jobs are assigned to a scale set.
    Jobs(usize, usize),
    ListenerRestarts(usize),
    Deleted(usize),
    Drained(usize),
    Upgraded(usize),
    /// Nobody asks for parallel creation any more, for a while.
    Unpublished(usize),
    Published(usize),
    /// A generation is stored raw, and so soon after it the next one pinned, whatever the webhook would say.
    PinnedAfterRaw(usize, Duration),
    Pinned(usize),
    /// A generation is stored raw, and so soon after it the listener writes the next one, over which the webhook decides.
    AskedAfterRaw(usize, Duration),
    Asked(usize),
    /// Somebody deletes an idle runner.
    RunnerDeleted(usize),
    Quota(Option<usize>),
    ManagerRestarts,
    LeaderStarts,
    LeaderDies,
    RenewalsStop,
    /// The leader is cut off from both its upstreams until then.
    Cut(Duration),
    /// It could not renew its Lease for so long that it steps down.
    StepsDown(u32),
    Healed,
    /// There are no faults any more.
    Peace,
    /// One heartbeat later.
    Calm,
    /// Long after the last job.
    End,
}

/// A scale set and its listener.
pub(crate) struct Played {
    pub(crate) key: Key,
    pub(crate) scale_set_id: i64,
    pub(crate) min: i64,
    pub(crate) is_asked: bool,
    /// What the listener wrote last.
    pub(crate) last: Option<(i64, i64)>,
    /// How often a listener began to count anew.
    pub(crate) life: u32,
    pub(crate) listener: Option<Listener>,
    pub(crate) object: Option<(Text, Text)>,
    is_busy: bool,
    is_message: bool,
    pub(crate) next: Option<Duration>,
    known: (usize, usize),
    /// Jobs that run, by the registration of their runner.
    scheduled: BTreeMap<i64, i64>,
}

impl Played {
    /// A scale set that has no listener yet.
    pub(crate) fn new(key: Key, scale_set_id: i64, min: i64) -> Self {
        Self {
            key,
            scale_set_id,
            min,
            is_asked: true,
            last: None,
            life: 0,
            listener: None,
            object: None,
            is_busy: false,
            is_message: false,
            next: None,
            known: (0, 0),
            scheduled: BTreeMap::new(),
        }
    }

    /// The runner set that the listener writes.
    pub(crate) fn runner_set(&self) -> Option<Key> {
        self.object.as_ref().map(|(_, name)| Key::new(NAMESPACE, name))
    }
}

impl World {
    /// Somebody does something.
    pub(crate) fn act(&mut self, act: Act) {
        if !matches!(act, Act::End) {
            self.tell(|_| format!("-- {act:?}"));
        }
        match act {
            Act::Jobs(which, count) => {
                let set = self.played[which].scale_set_id;
                if self.service.assign(set, count, self.now).is_ok() {
                    self.jobs_moved(which);
                }
            }
            Act::ListenerRestarts(which) => self.listener_starts(which, ms(1_000)),
            Act::Deleted(which) => {
                let key = self.played[which].key.clone();
                _ = self.store.delete(Kind::ScaleSet, &key);
            }
            Act::Drained(which) => self.change_scale_set(which, |set| set.phase = Phase::Outdated),
            Act::Upgraded(which) => self.change_scale_set(which, |set| set.template = "two".into()),
            Act::Unpublished(which) => {
                self.played[which].is_asked = false;
                self.engine_is_due();
                let wait = self.between(1_000, 20_000);
                self.after(wait, Event::Act(Act::Published(which)));
            }
            Act::Published(which) => {
                self.played[which].is_asked = true;
                self.engine_is_due();
            }
            Act::PinnedAfterRaw(which, wait) => self.soon_after_raw(which, wait, Act::Pinned(which)),
            Act::Pinned(which) => self.pinned_unseen(which),
            Act::AskedAfterRaw(which, wait) => self.soon_after_raw(which, wait, Act::Asked(which)),
            Act::Asked(which) => self.asked_again(which),
            Act::RunnerDeleted(which) => self.runner_is_deleted(which),
            Act::Quota(most) => self.store.set_pod_quota(most),
            Act::ManagerRestarts => self.restart_manager(),
            Act::Peace => {
                (self.manners.faults, self.manners.past_webhook, self.manners.losses) = (0, 0, 0);
                self.store.set_pod_quota(None);
            }
            Act::Calm => {
                self.check_calm();
                self.all_jobs_end();
            }
            Act::End => self.check_end(),
            about_leader => self.act_on_leader(about_leader),
        }
    }

    fn change_scale_set(
        &mut self,
        which: usize,
        change: impl Fn(&mut headstart_tests::arc::model::ScaleSet),
    ) {
        let key = self.played[which].key.clone();
        let changed = self.store.update(Kind::ScaleSet, &key, None, |object| {
            object.scale_set_mut().into_iter().for_each(&change);
            Ok(())
        });
        drop(changed);
    }

    /// A generation is stored raw, and the next one follows soon.
    fn soon_after_raw(&mut self, which: usize, wait: Duration, next: Act) {
        let set = self.played[which].scale_set_id;
        let most = self.manners.most;
        let Some(key) = self.played[which].runner_set() else { return };
        let is_there = self.set(&key).is_some_and(|set| !set.meta.deleting);
        if !is_there || self.played[which].is_busy || self.service.assign(set, most, self.now).is_err() {
            return;
        }
        if let Some((replicas, patch_id)) = self.next_patch(which) {
            self.write(which, &key, (replicas, patch_id), (replicas, patch_id));
            self.played[which].is_busy = true;
            self.after(wait, Event::Act(next));
        }
        self.jobs_moved(which);
    }

    fn asked_again(&mut self, which: usize) {
        let Some(patch) = self.next_patch(which) else { return };
        self.listener_writes(which, self.played[which].life, patch, false);
    }

    fn pinned_unseen(&mut self, which: usize) {
        self.played[which].is_busy = false;
        let Some(key) = self.played[which].runner_set() else { return };
        if self.set(&key).is_none_or(|set| set.meta.deleting) {
            return;
        }
        if let Some((replicas, patch_id)) = self.next_patch(which) {
            let patch = (replicas, patch_id);
            let pinned = Generation::pinnable(replicas, patch_id).filter(|_| !self.is_alone);
            let stored = pinned.map_or(patch, |generation| (0, generation.pinned()));
            self.write(which, &key, patch, stored);
        }
        self.hear_after(which, POLL);
    }

    fn runner_is_deleted(&mut self, which: usize) {
        let Some(key) = self.set_of(which) else { return };
        let runners = self.store.of_kind(Kind::Runner).filter_map(Object::runner);
        let idle = runners.filter(|runner| {
            let is_own = runner.meta.owner_of(Kind::RunnerSet).as_ref() == Some(&key);
            is_own && !runner.meta.deleting && self.service.job_of(&runner.meta.key.name).is_none()
        });
        let first = idle.map(|runner| runner.meta.key.clone()).next();
        if let Some(key) = first {
            self.tell(|_| format!("{} is deleted by hand", key.name));
            _ = self.store.delete(Kind::Runner, &key);
        }
    }

    pub(crate) fn listener_starts(&mut self, which: usize, wait: Duration) {
        let played = &mut self.played[which];
        if played.object.is_none() {
            return;
        }
        played.life += 1;
        played.listener = Some(Listener::new(played.min, 1000));
        (played.is_busy, played.is_message, played.next) = (false, false, None);
        self.hear_after(which, wait);
    }

    /// The next message or the end of an empty poll, whatever comes first.
    fn hear_after(&mut self, which: usize, wait: Duration) {
        let at = self.now + wait;
        let played = &mut self.played[which];
        if played.listener.is_none() || played.is_busy || played.next.is_some_and(|next| next <= at) {
            return;
        }
        played.next = Some(at);
        let life = played.life;
        self.at(at, Event::Hears(which, life));
    }

    /// A listener has something to do.
    pub(crate) fn listener_hears(&mut self, which: usize, life: u32) {
        let played = &mut self.played[which];
        if played.life != life || played.next != Some(self.now) {
            return;
        }
        played.next = None;
        if played.is_busy {
            return;
        }
        self.jobs_started(which);
        let Some(patch) = self.next_patch(which) else { return };
        let is_past_webhook = self.rng.u64(..100) < self.manners.past_webhook;
        let wait = match self.rng.u8(..8) {
            0 if is_past_webhook => ms(2_000),
            0 => self.between(30, 1_000),
            _ => self.between(3, 30),
        };
        self.played[which].is_busy = true;
        self.after(wait, Event::Writes(which, life, patch, is_past_webhook));
    }

    fn next_patch(&mut self, which: usize) -> Option<(i64, i64)> {
        let set = self.played[which].scale_set_id;
        let jobs = |is: fn(&JobState) -> bool| self.service.jobs(set).filter(|job| is(&job.state)).count();
        let known = (
            jobs(|state| matches!(state, JobState::Running(_))),
            jobs(|state| *state == JobState::Completed),
        );
        let assigned = i64::try_from(self.service.assigned(set)).unwrap();
        let played = &mut self.played[which];
        played.is_message = false;
        let listener = played.listener.as_mut()?;
        if known != played.known {
            listener.touch();
            played.known = known;
        }
        Some(listener.patch(assigned))
    }

    fn jobs_started(&mut self, which: usize) {
        let set = self.played[which].scale_set_id;
        let names = self.service.agents().filter(|agent| agent.set == set).map(|agent| agent.name.clone());
        let busy: Vec<String> = names.filter(|name| self.service.job_of(name).is_some()).collect();
        for name in busy {
            let patched = self.store.update(Kind::Runner, &Key::new(NAMESPACE, &name), None, |object| {
                object.runner_mut().into_iter().for_each(|runner| runner.status.has_job = true);
                Ok(())
            });
            drop(patched);
        }
    }

    /// A listener's patch arrives, and the webhook has its say unless it is away.
    pub(crate) fn listener_writes(
        &mut self,
        which: usize,
        life: u32,
        patch: (i64, i64),
        is_past_webhook: bool,
    ) {
        if self.played[which].life != life {
            return;
        }
        self.played[which].is_busy = false;
        let Some(key) = self.played[which].runner_set() else { return };
        if self.set(&key).is_none() {
            return self.listener_starts(which, ms(3_000));
        }
        let stored = if is_past_webhook { patch } else { self.admit(which, &key, patch) };
        self.write(which, &key, patch, stored);
        let is_message = self.played[which].is_message;
        let wait = if is_message { self.between(2, 60) } else { POLL };
        self.hear_after(which, wait);
    }

    fn write(&mut self, which: usize, key: &Key, patch: (i64, i64), stored: (i64, i64)) {
        let ((replicas, patch_id), is_pinned) = (patch, stored != patch);
        self.tell(|_| format!("{} is patched to {replicas}/{patch_id}, pinned: {is_pinned}", key.name));
        if patch_set(&mut self.store, key, stored.0, stored.1).is_ok() {
            self.played[which].last = Some(patch);
        }
        self.note();
    }

    /// Jobs of a scale set were assigned, started or completed.
    pub(crate) fn jobs_moved(&mut self, which: usize) {
        let set = self.played[which].scale_set_id;
        let running = self.service.jobs(set).filter_map(|job| match job.state {
            JobState::Running(agent) => Some((job.id, agent)),
            _ => None,
        });
        let running: Vec<(i64, i64)> = running.collect();
        for (job, agent) in running {
            if self.played[which].scheduled.insert(job, agent).is_none() {
                let (least, most) = self.manners.job;
                let wait = self.between(least, most);
                self.after(wait, Event::JobEnds(set, job));
            }
        }
        self.played[which].is_message = true;
        let wait = if self.rng.u8(..3) == 0 { self.between(200, 2_000) } else { self.between(2, 60) };
        self.hear_after(which, wait);
    }

    pub(crate) fn which(&self, set: i64) -> usize {
        self.played.iter().position(|played| played.scale_set_id == set).unwrap()
    }

    /// A job ends, and its runner with it.
    pub(crate) fn job_ends(&mut self, set: i64, job: i64) {
        let which = self.which(set);
        let agent = self.played[which].scheduled.get(&job).copied();
        if let Some(agent) = agent
            && let Some(name) = self.service.agent_by_id(agent).map(|agent| agent.name.clone())
        {
            self.tell(|_| format!("the job of {name} ends"));
            self.is_outlived(&name, which);
            self.exits(&Key::new(NAMESPACE, &name), 0);
            // Also where the scale set is gone, and the job with it.
            self.service.forget(agent);
        }
        self.service.complete(&[job], self.now);
        self.jobs_moved(which);
    }

    fn all_jobs_end(&mut self) {
        for which in 0..self.played.len() {
            let set = self.played[which].scale_set_id;
            let open = self.service.jobs(set).filter(|job| job.state != JobState::Completed);
            for job in open.map(|job| job.id).collect::<Vec<i64>>() {
                self.job_ends(set, job);
            }
        }
    }
}

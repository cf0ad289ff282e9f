//! AutoscalingRunnerSet: its runner set and listener; deletion, drain and upgrade (arc.md §2.3).

use std::time::Duration;

use super::cache::Cache;
use super::calls::{Answer, Call, Creation, End, Step};
use super::flags::{Flags, Generation};
use super::line::{Else, Line};
use super::objects::{
    Key, Kind, LISTENER_FINALIZER, ListenerObject, Meta, Phase, RunnerSet, SCALE_SET_FINALIZER, ScaleSet,
};

/// Between the steps of a deletion.
const STEP: Duration = Duration::from_secs(5);
/// Between looks at runners that an upgrade waits for.
const UPGRADE: Duration = Duration::from_secs(1);

/// One pass over a scale set.
#[derive(Clone, Debug)]
pub struct ScalePass(Line);

impl ScalePass {
    /// Decides.
    pub fn begin(key: &Key, cache: &Cache, flags: &Flags, namespace: &str) -> Self {
        let Some(set) = cache.scale_set(key) else { return Self(Line::new([], End::Done)) };
        Self(decide(set, cache, flags, namespace))
    }

    /// The next call, or the end.
    pub fn step(&mut self, answer: Option<&Answer>) -> Step {
        self.0.next(answer)
    }
}

fn decide(set: &ScaleSet, cache: &Cache, flags: &Flags, namespace: &str) -> Line {
    let key = &set.meta.key;
    let listeners: Vec<&ListenerObject> = cache.listeners_of(key).collect();
    let sets: Vec<&RunnerSet> = cache.sets_of(key).collect();
    let end = |kind, key: &Key| (Call::Delete(kind, key.clone()), Else::Stop);
    let end_listeners = || listeners.iter().map(|it| end(Kind::Listener, &it.meta.key));
    let end_sets = || sets.iter().map(|it| end(Kind::RunnerSet, &it.meta.key));
    let one = |call| Line::new([(call, Else::Stop)], End::Done);
    if set.meta.deleting {
        return if !set.meta.has(SCALE_SET_FINALIZER) {
            Line::new([], End::Done)
        } else if !listeners.is_empty() {
            Line::new(end_listeners(), End::After(STEP))
        } else if !sets.is_empty() {
            Line::new(end_sets(), End::After(STEP))
        } else {
            let finalizers = set.meta.without(SCALE_SET_FINALIZER);
            let last = Call::Finalizers(Kind::ScaleSet, key.clone(), finalizers);
            Line::new([(Call::DeleteScaleSet(set.scale_set_id), Else::Stop)], End::Done).finally(Some(last))
        };
    }
    if !set.meta.has(SCALE_SET_FINALIZER) {
        return one(Call::Finalizers(Kind::ScaleSet, key.clone(), set.meta.with(SCALE_SET_FINALIZER)));
    }
    if set.phase == Phase::Outdated {
        let drain = sets.iter().filter(|it| (it.replicas, it.patch_id) != (0, 0));
        let drain = drain.map(|it| (Call::Drain(it.meta.key.clone()), Else::Stop));
        return Line::new(end_listeners().chain(drain), End::Done);
    }
    let current = sets.iter().find(|it| it.template == set.template && !it.meta.deleting);
    let Some(current) = current else {
        return match sets.iter().find(|it| flags.generation == Generation::Master || it.meta.deleting) {
            Some(old) if flags.generation == Generation::Master => {
                upgrade(set, old, end_listeners().collect())
            }
            // The releases do not wait for the old set: it ends beside the new one.
            _ => one(Call::Create(Box::new(Creation::RunnerSet(new_set(set, flags))))),
        };
    };
    let old = sets.iter().filter(|it| it.meta.key != current.meta.key && !it.meta.deleting);
    let mut work: Vec<(Call, Else)> = old.map(|it| end(Kind::RunnerSet, &it.meta.key)).collect();
    match listeners.first() {
        Some(listener) if listener.runner_set != current.meta.key.name => {
            work.push(end(Kind::Listener, &listener.meta.key));
        }
        Some(_) => {}
        None => {
            let meta = Meta::new(Key::new(namespace, &format!("{}-listener", key.name)));
            let listener = ListenerObject {
                meta: meta.finalized(&[LISTENER_FINALIZER]),
                scale_set: key.clone(),
                runner_set: current.meta.key.name.clone(),
            };
            work.push((Call::Create(Box::new(Creation::Listener(listener))), Else::Stop));
        }
    }
    Line::new(work, End::Done)
}

/// Master changes the set in place, but only once no runner of it counts; until then there is no listener.
fn upgrade(set: &ScaleSet, old: &RunnerSet, end_listeners: Vec<(Call, Else)>) -> Line {
    if old.meta.deleting {
        return Line::new([], End::Done);
    }
    let status = old.status.unwrap_or_default();
    if status.running + status.pending > 0 {
        return Line::new(end_listeners, End::After(UPGRADE));
    }
    let change = Call::Upgrade(old.meta.key.clone(), set.template.clone());
    Line::new([(change, Else::Stop)], End::Done)
}

fn new_set(set: &ScaleSet, flags: &Flags) -> RunnerSet {
    let key = match flags.generation {
        Generation::Master => set.meta.key.clone(),
        Generation::Release => set.meta.key.beside(&format!("{}-", set.meta.key.name)),
    };
    RunnerSet {
        meta: Meta::new(key).owned(Kind::ScaleSet, &set.meta),
        replicas: 0,
        patch_id: 0,
        scale_set_id: set.scale_set_id,
        template: set.template.clone(),
        hash: set.template.clone(),
        status: None,
    }
}

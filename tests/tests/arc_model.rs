//! The model of ARC does what was measured on the real one: how long a burst takes, and what a pinned set does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use headstart_externals::pin;
use headstart_tests::arc::driver::{CRDS, Stage, api, crds_are_there};
use headstart_tests::arc::model::listener::body;
use headstart_tests::arc::model::runner_set::new_runner;
use headstart_tests::arc::model::{Container, Flags, Generation, Kind, Meta, Object, Phase, Secret};
use headstart_tests::arc::virtual_run::{Pace, VirtualRun};
use headstart_tests::bed::{ControlPlane, Minor};
use headstart_tests::wait::{until, within};
use kube::api::{Patch, PatchParams};

const BOTH: [Generation; 2] = [Generation::Master, Generation::Release];
const LONG: Duration = Duration::from_secs(600);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn rested(flags: Flags, registration: u64) -> VirtualRun {
    VirtualRun::new(flags, Pace { registration: ms(registration), ..Pace::default() }, 7)
}

/// Seconds from the listener's patch to the last running pod, and calls of Secrets until then.
fn burst(flags: Flags, registration: u64, runners: i64) -> (f64, u64) {
    let mut run = rested(flags, registration);
    let begun = run.now();
    run.patch(runners, 1);
    let wanted = usize::try_from(runners).unwrap();
    assert!(run.run_while(LONG, |run| run.running() < wanted), "{} run", run.running());
    ((run.now() - begun).as_secs_f64(), run.called(Some(Kind::Secret)))
}

/// Within a quarter of what was measured.
fn near(measured: f64, found: f64, what: &str) {
    println!("{what}: {found:.1}, measured {measured}");
    assert!((found / measured - 1.0).abs() <= 0.25, "{what}: {found} instead of {measured}");
}

#[test]
fn a_burst_takes_as_long_as_on_the_real_one() {
    for generation in BOTH {
        let (stock, tuned) = (Flags::stock(generation), Flags::tuned(generation));
        for (flags, registration, measured) in [
            (stock, 0, 16.9),
            (stock, 150, 15.4),
            (stock, 400, 40.3),
            (tuned, 0, 3.4),
            (tuned, 150, 15.2),
            (tuned, 400, 40.2),
        ] {
            let (seconds, _) = burst(flags, registration, 100);
            near(measured, seconds, &format!("{generation:?}, qps {}, {registration} ms", flags.qps));
        }
    }
}

#[test]
fn a_runner_needs_as_many_calls_of_secrets_as_on_the_real_one() {
    let (_, secrets) = burst(Flags::stock(Generation::Release), 0, 100);
    near(3.6, secrets as f64 / 100.0, "Secret calls per runner");
}

/// In real time no more is certain than that limits of rate and of number hold: how long it takes beyond that depends on the
/// machine, and the virtual clock tells whether the model is right.
fn at_least_near(measured: f64, found: f64, what: &str) {
    println!("{what}: {found:.1}, measured {measured}");
    assert!(found >= measured * 0.75, "{what}: {found} instead of {measured}");
}

fn pinned(replicas: u32, patch_id: u32) -> i64 {
    pin::Generation { replicas, patch_id }.pinned()
}

/// Somebody else creates a complete runner, as Headstart does, all at once.
fn create(run: &mut VirtualRun, stamp: i64, serial: usize) {
    let (set, id) = (run.runner_set().clone(), run.scale_set_id);
    let name = format!("ours-{serial}");
    let now = run.now();
    let agent = run.service.register(id, &name, now).unwrap().id;
    let key = set.meta.key.beside(&name);
    run.change(|store, now| {
        let secret = Secret {
            meta: Meta::new(key.clone()),
            runner_id: Some(agent),
            runner_name: name.as_str().into(),
        };
        store.create(Object::Secret(secret), now).unwrap();
        let mut runner = new_runner(&set);
        runner.meta.key = key.clone();
        runner.patch_id = Some(stamp);
        (runner.status.runner_id, runner.status.runner_name) = (agent, name.as_str().into());
        store.create(Object::Runner(runner), now).unwrap();
    });
}

/// What the manager does while a pinned set rests.
fn manager_is_inert(run: &mut VirtualRun) {
    run.calls.clear();
    let agents = |run: &VirtualRun| {
        let agents = run.service.agents().map(|agent| (agent.id, agent.name.clone()));
        agents.collect::<Vec<_>>()
    };
    let before = (names(run), agents(run));
    let until = run.now() + Duration::from_secs(60);
    run.run_until(until);
    assert_eq!((names(run), agents(run)), before);
    assert_eq!(run.called(None), 0, "no call of the service");
}

#[test]
fn a_pinned_set_is_inert_whatever_lives_in_it() {
    for (generation, live, busy) in
        BOTH.into_iter().flat_map(|generation| [(generation, 0, 0), (generation, 8, 3), (generation, 100, 0)])
    {
        let flags = Flags::stock(generation);
        let mut run = rested(flags, 0);
        if live > 0 {
            run.patch(live, 1);
        }
        let settled = run.now() + Duration::from_secs(60);
        run.run_until(settled);
        let (set, now) = (run.scale_set_id, run.now());
        run.service.assign(set, busy, now).unwrap();
        run.patch(0, pinned(200, 2));
        manager_is_inert(&mut run);
        run.restart_manager(flags);
        manager_is_inert(&mut run);
        assert_eq!(run.runner_set().patch_id, pinned(200, 2));
    }
}

#[test]
fn a_pin_amid_arcs_own_loop_makes_far_too_many() {
    for (delay, measured) in [(1000, 156.0), (20, 197.0)] {
        let mut run = rested(Flags::stock(Generation::Release), 150);
        let begun = run.now();
        run.patch(100, 1);
        run.at(begun + ms(delay), |run| {
            run.patch(0, pinned(100, 2));
            // Without any guard: what is missing now is created, whoever else creates.
            for serial in run.count(Kind::Runner)..100 {
                create(run, 1, serial);
            }
        });
        run.run_until(begun + Duration::from_secs(60));
        near(measured, run.count(Kind::Runner) as f64, &format!("runners after {delay} ms"));
        assert!(run.count(Kind::Runner) > 110);
    }
}

#[test]
fn with_stamps_of_the_generation_before_arc_creates_the_missing_60_at_once() {
    for generation in BOTH {
        for (stamp, expected) in [(4, 100), (5, 40)] {
            let mut run = rested(Flags::stock(generation), 0);
            run.patch(0, pinned(100, 5));
            for serial in 0..40 {
                create(&mut run, stamp, serial);
            }
            let settled = run.now() + Duration::from_secs(5);
            run.run_until(settled);
            run.patch(100, 5);
            run.run_until(settled + Duration::from_secs(40));
            assert_eq!(run.count(Kind::Runner), expected, "stamp {stamp}");
            assert_eq!(run.service.registered_again(), Vec::<&str>::new());
        }
    }
}

/// A runner's program ends.
fn exit(run: &mut VirtualRun, name: &str, code: i32) {
    let key = run.set.beside(name);
    run.change(|store, _| {
        store.update(Kind::Pod, &key, None, |object| {
            let pod = object.pod_mut().unwrap();
            (pod.phase, pod.ready, pod.container) = (Phase::Succeeded, false, Container::Exited(code));
            Ok(())
        })
    })
    .unwrap();
}

fn names(run: &VirtualRun) -> Vec<String> {
    run.store.of_kind(Kind::Runner).map(|runner| runner.key().name.to_string()).collect()
}

#[test]
fn at_the_end_of_life_nothing_is_left() {
    for generation in BOTH {
        let mut run = rested(Flags::stock(generation), 0);
        run.patch(100, 1);
        assert!(run.run_while(LONG, |run| run.running() < 100));
        let (set, now) = (run.scale_set_id, run.now());
        let jobs = run.service.assign(set, 50, now).unwrap();
        let busy: Vec<String> =
            names(&run).into_iter().filter(|name| run.service.job_of(name).is_some()).collect();
        assert_eq!(busy.len(), 50);
        run.service.complete(&jobs, now);
        for name in busy {
            exit(&mut run, &name, 0);
        }
        run.patch(0, 0);
        let settled = run.now() + LONG;
        run.run_until(settled);
        let left = [Kind::Runner, Kind::Secret, Kind::Pod].map(|kind| run.count(kind));
        assert_eq!((left, run.service.agents().count()), ([0, 0, 0], 0), "{generation:?}");
        assert!(run.manager.idle());
    }
}

#[test]
fn a_runner_with_a_job_is_never_trimmed() {
    let mut run = rested(Flags::stock(Generation::Release), 0);
    run.patch(4, 1);
    assert!(run.run_while(LONG, |run| run.running() < 4));
    let (set, now) = (run.scale_set_id, run.now());
    run.service.assign(set, 2, now).unwrap();
    run.patch(0, 0);
    let settled = run.now() + Duration::from_secs(60);
    run.run_until(settled);
    let left = names(&run);
    assert_eq!(left.len(), 2);
    assert!(left.iter().all(|name| run.service.job_of(name).is_some()), "the service refuses the busy ones");
}

#[test]
fn a_name_that_is_registered_without_a_secret_is_registered_anew() {
    let mut run = rested(Flags::stock(Generation::Release), 0);
    let (set, id, now) = (run.runner_set().clone(), run.scale_set_id, run.now());
    let lost = run.service.register(id, "ours-0", now).unwrap().id;
    let mut runner = new_runner(&set);
    runner.meta.key = set.meta.key.beside("ours-0");
    run.patch(0, pinned(1, 1));
    run.change(|store, now| store.create(Object::Runner(runner), now)).unwrap();
    assert!(run.run_while(LONG, |run| run.running() < 1));
    assert!(run.service.agent_by_id(lost).is_none(), "the fatal order of arc.md §5: ours is removed");
    assert_eq!(run.service.registered_again(), ["ours-0"]);
}

#[test]
fn failed_pods_are_tried_again_with_the_same_secret_and_then_replaced() {
    let mut run = rested(Flags::stock(Generation::Release), 0);
    run.patch(1, 1);
    let begun = run.now();
    assert!(run.run_while(LONG, |run| run.running() == 0));
    let first = names(&run).remove(0);
    for failed in 0..6 {
        assert!(run.run_while(LONG, |run| run.running() == 0), "pod {failed}");
        assert_eq!(names(&run), [first.as_str()]);
        exit(&mut run, &first, 1);
        run.run_while(LONG, |run| run.running() > 0);
    }
    assert!(run.run_while(LONG, |run| names(run).iter().all(|name| *name == first)));
    near(155.0, (run.now() - begun).as_secs_f64(), "seconds of back-off");
}

#[test]
fn a_deleted_scale_set_takes_everything_with_it() {
    for generation in BOTH {
        let mut run = rested(Flags::stock(generation), 0);
        run.patch(10, 1);
        assert!(run.run_while(LONG, |run| run.running() < 10));
        let scale_set = run.store.of_kind(Kind::ScaleSet).next().unwrap().key().clone();
        run.change(|store, _| store.delete(Kind::ScaleSet, &scale_set)).unwrap();
        let settled = run.now() + LONG;
        run.run_until(settled);
        for kind in [Kind::ScaleSet, Kind::Listener, Kind::RunnerSet, Kind::Runner, Kind::Secret, Kind::Pod] {
            assert_eq!(run.count(kind), 0, "{generation:?} {kind:?}");
        }
        assert_eq!((run.service.agents().count(), run.service.sets().count()), (0, 0));
    }
}

#[test]
fn a_change_of_the_template_waits_for_idle_runners_on_master_only() {
    for generation in BOTH {
        let mut run = rested(Flags::stock(generation), 0);
        run.patch(3, 1);
        assert!(run.run_while(LONG, |run| run.running() < 3));
        let scale_set = run.store.of_kind(Kind::ScaleSet).next().unwrap().key().clone();
        run.change(|store, _| {
            store.update(Kind::ScaleSet, &scale_set, None, |object| {
                object.scale_set_mut().unwrap().template = "two".into();
                Ok(())
            })
        })
        .unwrap();
        let settled = run.now() + Duration::from_secs(60);
        run.run_until(settled);
        let listeners = run.count(Kind::Listener);
        let templates: Vec<String> = run
            .store
            .of_kind(Kind::RunnerSet)
            .map(|set| set.runner_set().unwrap().template.to_string())
            .collect();
        match generation {
            Generation::Master => assert_eq!((listeners, templates), (0, vec!["one".to_owned()])),
            Generation::Release => assert_eq!((listeners, templates), (1, vec!["two".to_owned()])),
        }
    }
}

/// Seconds from the assignment of 100 jobs to the last running pod, on a real API server.
async fn real_burst(stage: &mut Stage) -> (f64, Vec<i64>) {
    stage.listen(0, 200);
    until("the listener waits for messages", || async {
        stage.service.with(|service, _| service.is_polled(stage.scale_set_id)).then_some(())
    })
    .await;
    let begun = Instant::now();
    let jobs = stage.service.with(|service, now| service.assign(stage.scale_set_id, 100, now)).unwrap();
    stage.runs(100).await;
    (begun.elapsed().as_secs_f64(), jobs)
}

async fn patch(stage: &Stage, replicas: i64, patch_id: i64) {
    let sets = api(&stage.client, Kind::RunnerSet, &stage.set.namespace);
    let patch = Patch::Merge(body(replicas, patch_id));
    sets.patch(&stage.set.name, &PatchParams::default(), &patch).await.unwrap();
}

/// All jobs are done; 50 runners end by themselves, the others go with the listener's patchID 0.
async fn real_end(stage: &Stage, jobs: &[i64]) {
    stage.service.set_hold(ms(200));
    let finished = stage.running().await.split_off(50);
    for name in &finished {
        stage.kubelet.exit(name, 0).await;
    }
    stage.service.with(|service, now| service.complete(jobs, now));
    let kinds = [Kind::Runner, Kind::Secret, Kind::Pod];
    until("nothing is left", || async {
        for kind in kinds {
            (stage.count(kind).await == 0).then_some(())?;
        }
        Some(())
    })
    .await;
    assert_eq!(stage.service.with(|service, _| service.agents().count()), 0, "no registration leaks");
    let patched = || async { (stage.runner_set().await.patch_id == 0).then_some(()) };
    until("steady idle is stored", patched).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_takes_as_long_on_a_real_api_server() {
    let control_plane = ControlPlane::start(Minor::Newest).await.unwrap();
    crds_are_there(&control_plane, CRDS).await;
    let release = Flags::stock(Generation::Release);
    let mut at_once = Stage::new(&control_plane, "at-once", release, ms(0)).await;
    let mut slow = Stage::new(&control_plane, "slow", Flags::stock(Generation::Master), ms(150)).await;
    let ((first, _), (second, _)) = tokio::join!(real_burst(&mut at_once), real_burst(&mut slow));
    let secrets = at_once.manager.calls().of(Some(Kind::Secret));
    drop((at_once, slow));
    at_least_near(16.9, first, "default flags, 0 ms");
    at_least_near(15.4, second, "default flags, 150 ms");
    at_least_near(3.6, secrets as f64 / 100.0, "Secret calls per runner");

    let tuned = Flags::tuned(Generation::Release);
    let mut stage = Stage::new(&control_plane, "tuned", tuned, ms(0)).await;
    let (seconds, jobs) = real_burst(&mut stage).await;
    // No flag limits this one but the machine.
    println!("tuned flags, 0 ms: {seconds:.1}, measured 3.4");
    patch(&stage, 0, pinned(200, 9)).await;
    let moved =
        within(Duration::from_secs(2), || async { (stage.count(Kind::Runner).await != 100).then_some(()) });
    assert_eq!(moved.await, None, "a pinned set is inert");
    assert_eq!(stage.runner_set().await.patch_id, pinned(200, 9), "stored exactly");
    real_end(&stage, &jobs).await;
}

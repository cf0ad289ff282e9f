//! Webhook, controller and ARC in one world of virtual time, by seeds: whatever goes wrong and whenever, ARC has in the end
//! what it would have reached alone, and nothing is left behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod broken;
mod calls;
mod leader;
mod people;
mod plot;
mod rules;
mod webhook;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use headstart_tests::programs::repository;

use broken::Broken;
use world::World;

/// Schedules that every run of the tests plays.
const SAMPLE: u64 = 1_500;

/// Variable with another number of schedules: `make test-full` plays many more, in an optimised build.
const SCHEDULES: &str = "HEADSTART_SCHEDULES";

/// The first of these seeds that breaks a rule, by as many threads as there are cores.
fn first_failure(seeds: u64, broken: Broken) -> Option<(u64, String)> {
    let (next, found) = (AtomicU64::new(0), std::sync::Mutex::new(None::<(u64, String)>));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let seed = next.fetch_add(1, Ordering::Relaxed)
                    && seed < seeds
                    && found.lock().unwrap().is_none()
                {
                    if let (Some(violation), _) = World::new(seed, broken, broken, false).run() {
                        let mut found = found.lock().unwrap();
                        if found.as_ref().is_none_or(|(known, _)| seed < *known) {
                            *found = Some((seed, violation));
                        }
                    }
                }
            });
        }
    });
    found.into_inner().unwrap()
}

/// How a seed came to break a rule.
fn story(seed: u64, broken: Broken) -> String {
    World::new(seed, broken, broken, true).run().1.join("\n")
}

#[test]
fn no_schedule_breaks_a_rule() {
    let number = |text: String| text.parse().unwrap_or_else(|_| panic!("{SCHEDULES}: {text:?} is no number"));
    let seeds = std::env::var(SCHEDULES).map_or(SAMPLE, number);
    let started = std::time::Instant::now();
    if let Some((seed, violation)) = first_failure(seeds, Broken::Nothing) {
        panic!("seed {seed}: {violation}\n{}", story(seed, Broken::Nothing));
    }
    println!("{seeds} schedules in {:.1} s", started.elapsed().as_secs_f64());
}

/// Each rule, broken on purpose, is noticed within the sample; says by which seed and how.
macro_rules! noticed {
    ($($test:ident: $broken:ident;)+) => {
        $(#[test]
        fn $test() {
            let Some((seed, violation)) = first_failure(SAMPLE, Broken::$broken) else {
                panic!("no schedule notices that {:?} is broken", Broken::$broken);
            };
            println!("seed {seed}: {violation}");
            let (found, story) = World::new(seed, Broken::Nothing, Broken::$broken, true).run();
            assert_eq!(found, None, "the very same troubles do no harm to what is whole\n{}", story.join("\n"));
        })+
    };
}

noticed! {
    without_the_quiet_guard: QuietGuard;
    with_all_stamped_alike: AllStampedAlike;
    with_the_need_counted_anew: NeedCountedAnew;
    with_a_hand_back_that_tests_nothing: HandBackUntested;
    with_a_second_post_under_a_new_name: PostedUnderNewName;
    with_the_secret_after_the_runner: SecretLate;
    with_runners_without_owner: OwnerMissing;
    with_runners_without_finalizers: FinalizersMissing;
    with_the_journal_after_the_registration: JournalLate;
    with_journals_that_nobody_inherits: JournalsIgnored;
    without_patience: Impatience;
    with_a_pin_although_arc_owes: OwedIgnored;
    with_a_pin_although_the_leader_is_silent: SilenceIgnored;
    with_raw_generations_unheard: RawUnheard;
    with_deletions_unheard: DeletionUnheard;
}

/// What decides is the shipped code: here nothing reads or writes a pinned generation, and nobody but the crates decides.
#[test]
fn there_is_no_second_copy_of_what_decides() {
    let root = repository().join("tests/tests/simulation");
    let files = walkdir::WalkDir::new(&root).into_iter().map(|entry| entry.unwrap().into_path());
    let sources: Vec<String> =
        files.filter(|path| path.is_file()).map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let all = sources.concat();
    let encodings = [
        ["<", "<"].concat(),
        [">", ">", " 32"].concat(),
        ["fn ", "decide"].concat(),
        ["fn ", "pinnable"].concat(),
    ];
    for own in encodings {
        assert!(!all.contains(&own), "the simulation may have no {own:?} of its own");
    }
    for shipped in [
        "headstart_webhook::runner_sets::decide::{Old, PinRequest, decide}",
        "headstart_webhook::runner_sets::known::{Known, Sign}",
        "headstart_controller::creation::engine::{Engine, Settings, Standing}",
        "headstart_controller::creation::census::{Candidate, Census, Judgement, Place, Refusal}",
        "headstart_controller::creation::template::{self, Template}",
        "headstart_controller::creation::journal::{self, Journal}",
        "headstart_externals::pin::Stored",
    ] {
        assert!(all.contains(shipped), "the simulation has to use {shipped}");
    }
}

/// Tells the story of the seed in the variable `HEADSTART_SEED`, if there is one; else of the first.
#[test]
fn a_seed_has_a_story() {
    let seed = std::env::var("HEADSTART_SEED").ok().map_or(0, |seed| seed.parse().unwrap());
    let told = story(seed, Broken::Nothing);
    println!("{told}");
    assert!(told.lines().count() > 10, "{told}");
}

//! Webhook, controller and ARC in one world of virtual time, by seeds: whatever goes wrong and whenever, ARC has in the end
//! what it would have reached alone, and nothing is left behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod broken;
mod calls;
mod calm;
mod kubelet;
mod leader;
mod lease;
mod measured;
mod people;
mod plot;
mod rules;
mod shown;
mod surplus;
mod watches;
mod webhook;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use headstart_tests::arc::model::Generation;
use headstart_tests::programs::repository;

use broken::Broken;
use calm::Calm;
use world::{Outcome, World};

/// Schedules that every run of the tests plays.
const SAMPLE: u64 = 1_500;

/// Variable with another number of schedules: `make test-full` plays many more, in an optimised build.
const SCHEDULES: &str = "HEADSTART_SCHEDULES";

/// The first of these seeds that breaks a rule, by as many threads as there are cores.
fn first_failure(seeds: u64, broken: Broken, focus: Broken) -> Option<(u64, String)> {
    let (next, found) = (AtomicU64::new(0), std::sync::Mutex::new(None::<(u64, String)>));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let seed = next.fetch_add(1, Ordering::Relaxed)
                    && seed < seeds
                    && found.lock().unwrap().is_none()
                {
                    if let Some(violation) = self::violation(seed, broken, focus) {
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

/// The rule that a seed breaks. Where fewer runners are left than were asked for, ARC alone is the judge: it plays the same plot.
fn violation(seed: u64, broken: Broken, focus: Broken) -> Option<String> {
    let Outcome { violation, calm, .. } = World::new(seed, broken, focus, false).run();
    let is_short = |(_, calm): &(usize, Calm)| calm.live < calm.asked;
    let short: Vec<(usize, Calm)> = calm.into_iter().filter(is_short).collect();
    if violation.is_some() || short.is_empty() {
        return violation;
    }
    let alone = World::new(seed, Broken::Nothing, focus, false).alone().run();
    short.iter().find_map(|(number, ours)| ours.compared(alone.calm.get(number)?))
}

/// How a seed came to break a rule.
fn story(seed: u64, broken: Broken, focus: Broken) -> String {
    World::new(seed, broken, focus, true).run().story.join("\n")
}

#[test]
fn no_schedule_breaks_a_rule() {
    let number = |text: String| text.parse().unwrap_or_else(|_| panic!("{SCHEDULES}: {text:?} is no number"));
    let seeds = std::env::var(SCHEDULES).map_or(SAMPLE, number);
    let started = std::time::Instant::now();
    if let Some((seed, violation)) = first_failure(seeds, Broken::Nothing, Broken::Nothing) {
        panic!("seed {seed}: {violation}\n{}", story(seed, Broken::Nothing, Broken::Nothing));
    }
    println!("{seeds} schedules in {:.1} s", started.elapsed().as_secs_f64());
}

/// Each rule, broken on purpose, is noticed within the sample; says by which seed and how.
macro_rules! noticed {
    ($($test:ident: $broken:ident;)+) => {
        $(#[test]
        fn $test() {
            let Some((seed, found)) = first_failure(SAMPLE, Broken::$broken, Broken::$broken) else {
                panic!("no schedule notices that {:?} is broken", Broken::$broken);
            };
            println!("seed {seed}: {found}");
            if let Some(harm) = violation(seed, Broken::Nothing, Broken::$broken) {
                let story = story(seed, Broken::Nothing, Broken::$broken);
                panic!("the very same troubles do harm to what is whole: {harm}\n{story}");
            }
        })+
    };
}

noticed! {
    without_the_quiet_guard: QuietGuard;
    with_all_stamped_alike: AllStampedAlike;
    with_the_need_counted_anew: NeedCountedAnew;
    with_a_hand_back_that_tests_nothing: HandBackUntested;
    with_a_hand_back_by_resource_version: HandBackByVersion;
    with_a_hand_back_before_arc_has_counted: HandedBackUncounted;
    with_sets_that_are_never_handed_back: NeverHandedBack;
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

/// Each of the two guards is enough: what breaks a rule where the webhook does not ask what ARC owes, does not where it asks.
#[test]
fn without_the_quiet_guard_the_webhook_alone_guards() {
    let found = first_failure(SAMPLE / 4, Broken::OwedHonoured, Broken::OwedIgnored);
    assert_eq!(
        found,
        None,
        "{}",
        story(found.as_ref().map_or(0, |(seed, _)| *seed), Broken::OwedHonoured, Broken::OwedIgnored)
    );
}

/// What was measured on the real ARC (arc.md §3.8): pinned so soon after a raw generation of 100, 197 and 156 runners without the
/// guard, and exactly 100 with it.
#[test]
fn a_pin_soon_after_a_raw_generation_makes_exactly_100_runners() {
    for generation in [Generation::Release, Generation::Master] {
        for (wait, measured) in [(20, 197), (1_000, 156)] {
            let (live, ended, violation) = World::pinned_after_raw(generation, wait, Broken::Nothing);
            assert_eq!((live, ended, violation), (100, 0, None), "{wait} ms, {generation:?}");
            let (live, _, violation) = World::pinned_after_raw(generation, wait, Broken::QuietGuard);
            println!(
                "{live} runners {wait} ms after a raw generation without the guard, {measured} as measured"
            );
            assert!(live > 110 && violation.is_some(), "{live} runners after {wait} ms, {generation:?}");
        }
    }
}

/// Where there is only ARC, the same plot comes to the same one heartbeat after the last fault.
#[test]
fn arc_alone_would_have_come_to_the_same() {
    let mut compared = 0;
    for seed in 0..100 {
        let ours = World::new(seed, Broken::Nothing, Broken::Nothing, false).run().calm;
        let alone = World::new(seed, Broken::Nothing, Broken::Nothing, false).alone().run().calm;
        for (ours, alone) in ours.iter().filter_map(|(number, ours)| Some((ours, alone.get(number)?))) {
            assert_eq!(ours.compared(alone), None, "seed {seed}");
            compared += 1;
        }
    }
    assert!(compared > 75, "{compared} sets were there in both worlds");
}

/// The sources in a folder of the repository, by path; but not this file, which names what it looks for.
fn sources(folder: &str) -> Vec<(String, String)> {
    let files =
        walkdir::WalkDir::new(repository().join(folder)).into_iter().map(|entry| entry.unwrap().into_path());
    let files = files.filter(|path| path.is_file() && !path.ends_with("simulation/main.rs"));
    files.map(|path| (path.display().to_string(), std::fs::read_to_string(path).unwrap())).collect()
}

/// What decides is the shipped code: here, and where the engine alone is played, nothing reads or writes a pinned generation,
/// nobody says what counts as live, and no view of an object is made by hand.
#[test]
fn there_is_no_second_copy_of_what_decides() {
    let simulation = sources("tests/tests/simulation");
    let both =
        ["<<", ">> 32", "fn decide", "fn pinnable", "is_live:", "SetView {", "RunnerView {", "OurSecret {"];
    // The engine alone is played without a census and without a webhook.
    let here = [
        "Candidate {",
        "Judgement {",
        "Standing {",
        "PublishedRunnerSet {",
        "PinRequest {",
        "PinDecision {",
        "Trust {",
    ];
    let played = sources("controller/src/creation/played");
    let banned = simulation.iter().map(|file| (file, [&both[..], &here[..]].concat()));
    for ((path, text), banned) in banned.chain(played.iter().map(|file| (file, both.to_vec()))) {
        // A function may well give one.
        for line in text.lines().filter(|line| !line.contains("->")) {
            let own = banned.iter().find(|own| line.contains(**own));
            assert_eq!(own, None, "{path} has its own: {line}");
        }
    }
    let all: String = simulation.into_iter().map(|(_, text)| text).collect();
    for shipped in [
        "Review::parse(",
        "decide(&asked, &known.trust(self.now))",
        "decision.patch()",
        "known.read_lease(",
        "known.read_list(",
        "verdict::judge(&leader.census, &leader.engine, ",
        "filter_map(RunnerSet::view)",
        "filter_map(Runner::view)",
        "known.take(event, ",
        ".engine.step(now, unix_ms)",
        "left_over(",
        "OurSecret::read(",
        "secret.registration(",
        "Template::of(",
        "template::handed_back(",
        "Journal::parse(",
        "Stored::read(",
    ] {
        assert!(all.contains(shipped), "the simulation has to use the shipped {shipped}");
    }
}

/// Tells the story of the seed in the variable `HEADSTART_SEED`, if there is one; else of the first.
#[test]
fn a_seed_has_a_story() {
    let seed = std::env::var("HEADSTART_SEED").ok().map_or(0, |seed| seed.parse().unwrap());
    let told = story(seed, Broken::Nothing, Broken::Nothing);
    println!("{told}");
    assert!(told.lines().count() > 10, "{told}");
}

//! What does not pass: each ends after a while with the set given back, and nobody else suffers from it.

use std::time::Duration;

use headstart_externals::pin::{Generation, Stored};
use secrecy::SecretString;

use super::desk::{Desk, pinned};
use crate::creation::call::{Answer, Call, Trouble};
use crate::creation::engine::Standing;
use crate::creation::journal::{Heading, Journal};
use crate::creation::report::{News, Stop};

fn failed() -> Answer {
    Answer::Trouble(Trouble::Failed { retry_after: None, why: "reset".to_owned() })
}

fn stops(desk: &Desk) -> Vec<&Stop> {
    desk.news
        .iter()
        .filter_map(|news| if let News::Stopped { why, .. } = news { Some(why) } else { None })
        .collect()
}

/// What people are told to have failed last, where that explains a stop.
fn causes(desk: &Desk) -> Vec<&str> {
    desk.news
        .iter()
        .filter_map(|news| if let News::Stopped { cause, .. } = news { cause.as_deref() } else { None })
        .collect()
}

/// Lets time pass until a call of that code is open, or two minutes are over.
fn waits_for(desk: &mut Desk, code: &str) -> bool {
    for _ in 0..1_200 {
        if desk.open.iter().any(|order| order.task.call.code() == code) {
            return true;
        }
        desk.pass(100);
        desk.run(&[code, "find-agent", "remove-agent", "hand-back"]);
    }
    false
}

/// Every registration is carried out, and no answer to one arrives.
#[test]
fn registrations_whose_answers_are_always_lost_are_no_progress() {
    let mut desk = Desk::new(4);
    desk.show(pinned(1, 7));
    desk.pass(300);
    desk.run(&["register"]);
    let begun = desk.now;
    let mut is_there = false;
    while stops(&desk).is_empty() {
        assert!(desk.now < begun + Duration::from_secs(20), "{:?}", desk.news);
        desk.pass(50);
        let Some(order) = desk.open.pop() else { continue };
        let answer = match order.task.call {
            Call::Register if is_there => Answer::Trouble(Trouble::Exists),
            Call::Register => {
                is_there = true;
                failed()
            }
            Call::FindAgent => Answer::Agent(is_there.then_some(1)),
            Call::RemoveAgent(_) => {
                is_there = false;
                Answer::Done
            }
            ref call => desk.well(call, ""),
        };
        desk.engine.answered(order.id, answer, desk.now, 0);
    }
    assert_eq!(stops(&desk), [&Stop::NoProgress]);
    assert_eq!(causes(&desk), ["register: reset"]);
    assert!(desk.engine.is_suspended("u", desk.now));
    assert!(desk.count("register") < 20, "each one later than the one before: {}", desk.count("register"));
}

/// A busy listener writes more often than we give up.
#[test]
fn a_set_that_nobody_takes_back_is_not_lent_for_ever() {
    let mut desk = Desk::new(4);
    desk.counted = 1;
    desk.show(pinned(1, 1));
    desk.show_runner("u", "x");
    for patch_id in 2..5 {
        for _ in 0..90 {
            desk.pass(100);
            if desk.open.iter().any(|order| order.task.call.code() == "hand-back") {
                desk.answer("hand-back", Answer::Trouble(Trouble::Refused("a policy".to_owned())));
            }
        }
        desk.show(pinned(1, patch_id));
    }
    assert_eq!(stops(&desk), [&Stop::Stuck]);
    assert_eq!(causes(&desk), ["hand-back: a policy"]);
    assert!(desk.engine.is_suspended("u", desk.now), "what the listener writes next is stored as it is");
    desk.show(Stored::Raw { replicas: 1, patch_id: 5 });
    desk.run(&[]);
    assert_eq!(stops(&desk).len(), 1);
}

/// That the listener was faster says nothing of who takes the set back later.
#[test]
fn a_hand_back_that_lost_a_race_is_not_held_against_the_next_one() {
    let mut desk = Desk::new(4);
    desk.counted = 1;
    desk.show(pinned(1, 1));
    desk.show_runner("u", "x");
    desk.pass(300);
    desk.answer("hand-back", Answer::Trouble(Trouble::Conflict));
    desk.show(pinned(2, 2));
    desk.run(&["register"]);
    desk.pass(14_000);
    desk.run(&["create-secret"]);
    desk.pass(14_000);
    desk.run(&[]);
    desk.counted = 2;
    desk.show_set("u", pinned(2, 2));
    desk.run(&[]);
    assert_eq!((desk.count("hand-back"), stops(&desk)), (2, vec![]));
}

#[test]
fn a_pod_that_is_refused_again_and_again_is_left_to_arc() {
    for trouble in [Trouble::Obstructed("failed calling webhook".to_owned()), Trouble::TimedOut] {
        let mut desk = Desk::new(4);
        desk.show(pinned(1, 1));
        desk.pass(300);
        desk.run(&["create-pod"]);
        let begun = desk.now;
        for _ in 0..7 {
            assert!(waits_for(&mut desk, "create-pod"), "{trouble:?}");
            desk.answer("create-pod", Answer::Trouble(trouble.clone()));
        }
        assert!(desk.now < begun + Duration::from_secs(15), "before nothing goes on any more");
        desk.counted = 1;
        desk.show_set("u", pinned(1, 1));
        desk.run(&[]);
        assert_eq!((desk.count("create-pod"), desk.count("hand-back")), (7, 1), "{trouble:?}");
    }
}

/// With a deleted namespace the rights there are gone too, and nobody can tell what became of its runners.
#[test]
fn a_journal_of_what_can_never_be_looked_at_goes_after_a_while() {
    let mut desk = Desk::new(4);
    let heading = Heading {
        set: "u".to_owned(),
        namespace: "n".to_owned(),
        set_name: "u".to_owned(),
        owner: "a".to_owned(),
        generation: Generation { replicas: 1, patch_id: 1 },
        pinned_at: 0,
    };
    let journal = Journal::of(&heading, &["r".to_owned()], || "j".to_owned()).remove(0);
    desk.engine.inherit(journal, desk.now, 0);
    let begun = desk.now;
    while desk.count("delete-journal") == 0 {
        assert!(desk.now < begun + Duration::from_secs(600), "{:?}", desk.calls);
        desk.pass(1_000);
        if desk.open.iter().any(|order| order.task.call.code() == "get-secret") {
            desk.answer("get-secret", Answer::Trouble(Trouble::Refused("forbidden".to_owned())));
        }
    }
    assert!(desk.now > begun + Duration::from_secs(240), "an administrator may be amid a change of roles");
    desk.run(&[]);
    assert!(!desk.engine.has_set("u"));
}

#[test]
fn obstacles_in_one_namespace_close_no_gate() {
    let mut desk = Desk::new(4);
    desk.show(pinned(4, 1));
    desk.pass(300);
    desk.run(&["create-pod"]);
    for _ in 0..16 {
        assert!(waits_for(&mut desk, "create-pod"));
        desk.answer("create-pod", Answer::Trouble(Trouble::Obstructed("failed calling webhook".to_owned())));
    }
    assert!(stops(&desk).is_empty(), "{:?}", desk.news);
}

#[test]
fn a_batch_that_nobody_needs_any_more_has_an_end() {
    let mut desk = Desk::new(4);
    desk.show(pinned(2, 1));
    desk.pass(300);
    desk.run(&["register"]);
    desk.show(pinned(0, 2));
    desk.run(&[]);
    desk.pass(15_000);
    desk.run(&[]);
    desk.show(Stored::Raw { replicas: 0, patch_id: 2 });
    desk.step();
    let told = &desk.news[..];
    assert!(matches!(told, [News::Started { need: 2, .. }, News::Finished { made: 0, .. }]), "{told:?}");
}

/// A service that is down is known by the set that has it.
#[test]
fn sets_with_other_services_go_on() {
    let mut desk = Desk::new(4);
    desk.show(pinned(4, 1));
    desk.show_set("v", pinned(4, 1));
    desk.engine.stands("v", Standing { is_attended: true, is_enabled: true, service: "another".to_owned() });
    desk.pass(300);
    desk.run(&["register"]);
    while stops(&desk).is_empty() {
        assert!(desk.now < Duration::from_secs(30), "{:?}", desk.news);
        desk.pass(50);
        let open = std::mem::take(&mut desk.open);
        for order in open {
            let registered = Answer::Registered { runner_id: 1, jit_config: SecretString::from("jit") };
            let answer = match (&order.task.call, order.place.uid.as_str()) {
                (Call::Register, "u") => failed(),
                (Call::Register, _) => registered,
                (call, _) => desk.well(call, &order.task.runner),
            };
            desk.engine.answered(order.id, answer, desk.now, 0);
        }
    }
    assert!(!desk.engine.is_suspended("v", desk.now), "{:?}", desk.news);
    let of_v = |made: &News| matches!(made, News::Finished { made: 4, .. });
    desk.counted = 4;
    desk.show_set("v", pinned(4, 1));
    desk.run(&[]);
    desk.generation += 1;
    desk.show_set("v", Stored::Raw { replicas: 4, patch_id: 1 });
    desk.step();
    assert!(desk.news.iter().any(of_v), "{:?}", desk.news);
}

#[test]
fn a_hand_back_waits_for_no_gate() {
    let mut desk = Desk::new(1);
    desk.show(pinned(1, 1));
    desk.pass(300);
    desk.run(&["create-journal"]);
    assert_eq!(desk.open.len(), 1, "the only call that is let through");
    desk.counted = 1;
    desk.show_set("v", pinned(1, 1));
    desk.show_runner("v", "x");
    desk.pass(300);
    assert_eq!(desk.open[1].task.call.code(), "hand-back");
}

/// Nothing is stamped with the number of the second pin, so only ARC's count keeps it from making a second set of runners.
#[test]
fn without_a_runner_of_the_last_number_arc_has_longer_to_count() {
    let mut desk = Desk::new(4);
    desk.show(pinned(1, 1));
    desk.pass(300);
    desk.run(&["hand-back"]);
    desk.show(pinned(1, 2));
    desk.pass(14_000);
    assert_eq!(desk.count("hand-back"), 0);
    desk.counted = 1;
    desk.show_set("u", pinned(1, 2));
    desk.step();
    assert_eq!(desk.count("hand-back"), 1);
}

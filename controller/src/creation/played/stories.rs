//! Single stories of a borrowed set, told step by step.

use std::time::Duration;

use headstart_externals::pin::Stored;

use super::desk::{Desk, pinned, quota};
use crate::creation::call::{Answer, Call, Trouble};
use crate::creation::journal::{Heading, Journal};
use crate::creation::report::{News, Stop};

/// Shows what was handed back, as the watch does.
fn returned(desk: &mut Desk, replicas: i64, patch_id: i64) {
    desk.show(Stored::Raw { replicas, patch_id });
    desk.step();
}

#[test]
fn a_batch_is_stamped_made_counted_and_handed_back() {
    let mut desk = Desk::new(10);
    desk.show(pinned(3, 7));
    desk.step();
    assert_eq!(desk.calls, [], "ARC may still be at work");
    desk.pass(300);
    desk.run(&[]);
    assert_eq!(desk.calls[0].0, "create-journal");
    assert_eq!(desk.stamps(), [6, 6, 7]);
    let codes = ["create-journal", "register", "create-secret", "create-runner", "set-status", "create-pod"];
    assert_eq!(codes.map(|code| desk.count(code)), [1, 3, 3, 3, 3, 3]);
    assert_eq!(desk.count("hand-back"), 0, "ARC has not counted them");
    desk.counted = 3;
    desk.show_set("u", pinned(3, 7));
    desk.run(&[]);
    assert_eq!(desk.count("hand-back"), 1);
    returned(&mut desk, 3, 7);
    assert!(matches!(desk.news.last(), Some(News::Finished { made: 3, .. })), "{:?}", desk.news);
    desk.pass(3_000);
    desk.run(&[]);
    assert_eq!((desk.count("own-secret"), desk.count("delete-journal")), (3, 1));
    assert_eq!(desk.step(), None, "nothing is left to be done");
    assert!(!desk.engine.knows("u", &desk.calls[1].1));
}

/// As long as ARC may take to count where no runner shields it from its own old count.
const UNSHIELDED: u64 = 15_100;

#[test]
fn arc_has_two_seconds_to_count() {
    let mut desk = Desk::new(10);
    desk.show(pinned(1, 1));
    desk.pass(300);
    desk.run(&[]);
    desk.pass(1_900);
    assert_eq!(desk.count("hand-back"), 0);
    desk.pass(200);
    assert_eq!((desk.count("hand-back"), desk.stamps()), (1, vec![1]));
}

#[test]
fn nothing_is_made_before_the_watch_shows_what_arc_has_counted() {
    let mut desk = Desk::new(10);
    desk.counted = 2;
    desk.show(pinned(3, 7));
    desk.pass(1_000);
    assert_eq!(desk.calls, [], "the watch of runners is later than that of sets");
    for name in ["a", "b"] {
        desk.show_runner("u", name);
    }
    desk.pass(300);
    desk.run(&[]);
    assert_eq!(desk.count("register"), 1);
}

#[test]
fn what_arc_makes_in_the_middle_is_not_made_twice() {
    let mut desk = Desk::new(1);
    desk.show(pinned(3, 7));
    desk.pass(300);
    desk.run(&["register"]);
    for name in ["a", "b"] {
        desk.show_runner("u", name);
    }
    desk.run(&[]);
    assert_eq!((desk.count("create-runner"), desk.stamps()), (1, vec![7]));
    desk.counted = 3;
    desk.show_set("u", pinned(3, 7));
    desk.run(&[]);
    assert_eq!(desk.count("hand-back"), 1);
}

#[test]
fn a_post_in_doubt_is_not_repeated_once_there_are_enough() {
    let mut desk = Desk::new(1);
    desk.show(pinned(1, 7));
    desk.pass(300);
    desk.run(&["create-runner"]);
    desk.show_runner("u", "a");
    desk.answer("create-runner", Answer::Trouble(Trouble::TimedOut));
    desk.pass(5_000);
    assert_eq!(desk.count("create-runner"), 1, "it may be there, and what ARC made is");
    desk.pass(31_000);
    desk.run(&[]);
    assert_eq!((desk.count("create-runner"), desk.count("get-runner")), (1, 1));
}

#[test]
fn what_vanishes_is_not_made_anew_until_the_next_generation() {
    let mut desk = Desk::new(10);
    desk.show(pinned(3, 7));
    desk.pass(300);
    desk.run(&["create-pod"]);
    let gone = desk.open[0].task.runner.clone();
    desk.engine.runner_gone("u", &gone);
    desk.run(&[]);
    desk.pass(UNSHIELDED);
    assert_eq!((desk.count("register"), desk.count("hand-back")), (3, 1));
    desk.show(pinned(3, 8));
    desk.run(&["hand-back"]);
    assert_eq!(desk.count("register"), 4, "a new generation counts anew");
}

#[test]
fn nothing_missing_is_handed_back_without_a_word() {
    let mut desk = Desk::new(10);
    desk.counted = 2;
    desk.show(pinned(2, 5));
    desk.show_runner("u", "x");
    desk.show_runner("u", "y");
    desk.pass(300);
    assert_eq!(desk.calls.iter().map(|call| call.0).collect::<Vec<_>>(), ["hand-back"]);
    desk.run(&[]);
    returned(&mut desk, 2, 5);
    assert_eq!(desk.news, []);
}

#[test]
fn many_runners_take_several_journals_and_none_is_registered_before() {
    let mut desk = Desk::new(10);
    desk.show(pinned(1_200, 1));
    desk.pass(300);
    desk.run(&["create-journal"]);
    assert_eq!((desk.count("create-journal"), desk.count("register")), (3, 0));
    let Call::CreateJournal(journal) = desk.open[0].task.call.clone() else { panic!("{:?}", desk.open) };
    assert_eq!(journal.runners.len(), 500);
    desk.answer("create-journal", Answer::Done);
    desk.step();
    let registered: Vec<_> = desk.calls.iter().filter(|call| call.0 == "register").collect();
    assert!(!registered.is_empty() && registered.iter().all(|call| journal.runners.contains(&call.1)));
}

#[test]
fn a_hand_back_that_the_watch_shows_before_its_answer_is_our_own() {
    for answer in [Answer::Returned { generation: 2 }, Answer::Trouble(Trouble::TimedOut)] {
        let mut desk = Desk::new(10);
        desk.show(pinned(1, 1));
        desk.pass(300);
        desk.run(&[]);
        desk.counted = 1;
        desk.show_set("u", pinned(1, 1));
        desk.run(&["hand-back"]);
        returned(&mut desk, 1, 1);
        desk.answer("hand-back", answer);
        desk.step();
        let told: Vec<&News> =
            desk.news.iter().filter(|news| !matches!(news, News::Progress { .. })).collect();
        assert!(matches!(told[..], [News::Started { .. }, News::Finished { made: 1, .. }]), "{told:?}");
    }
}

#[test]
fn older_views_after_the_hand_back_are_not_believed() {
    let mut desk = Desk::new(10);
    desk.show(pinned(1, 1));
    desk.pass(300);
    desk.run(&[]);
    desk.pass(2_100);
    desk.run(&[]);
    let before = desk.calls.len();
    desk.counted = 1;
    desk.show_set("u", pinned(1, 1));
    desk.run(&["own-secret"]);
    assert_eq!(desk.count("create-journal") + desk.count("hand-back"), 2, "{:?}", &desk.calls[before..]);
}

#[test]
fn another_pin_in_the_middle_is_one_batch_for_people() {
    for (replicas, need) in [(5, 5), (1, 2)] {
        let mut desk = Desk::new(10);
        desk.show(pinned(3, 1));
        desk.pass(300);
        desk.run(&["create-pod", "create-secret"]);
        desk.answer("create-secret", Answer::Done);
        desk.answer("create-secret", Answer::Done);
        desk.run(&["create-pod", "create-secret"]);
        desk.show(pinned(replicas, 2));
        desk.run(&[]);
        desk.pass(UNSHIELDED);
        desk.run(&[]);
        returned(&mut desk, replicas.into(), 2);
        let started = desk.news.iter().filter(|news| matches!(news, News::Started { .. })).count();
        let Some(News::Finished { made, .. }) = desk.news.last() else { panic!("{:?}", desk.news) };
        assert_eq!((started, *made), (1, need));
        assert_eq!(desk.count("create-runner"), need);
    }
}

#[test]
fn a_quota_ends_the_batch_and_leaves_the_set_to_arc() {
    for code in ["create-secret", "create-runner", "create-pod"] {
        let mut desk = Desk::new(10);
        desk.show(pinned(4, 9));
        desk.pass(300);
        desk.run(&[code]);
        desk.answer(code, quota());
        desk.step();
        assert!(desk.engine.is_suspended("u", desk.now), "{code}");
        let Some(News::Stopped { why, need: 4, .. }) = desk.news.last() else { panic!("{:?}", desk.news) };
        assert_eq!(why.code(), "quota");
        desk.run(&[]);
        desk.pass(UNSHIELDED);
        desk.run(&[]);
        assert_eq!(desk.count("hand-back"), 1, "{code}");
        // Without the last stamp ARC makes the rest at once; Pods it makes in any case.
        assert_eq!(desk.stamps().contains(&9), code == "create-pod", "{code}");
        returned(&mut desk, 4, 9);
        for _ in 0..4 {
            desk.pass(301_000);
            desk.run(&[]);
        }
        assert_eq!(desk.count("delete-journal"), 1, "{code}: {:?}", desk.calls);
    }
}

#[test]
fn arc_that_does_not_rest_gets_the_set_back() {
    let mut desk = Desk::new(10);
    desk.show(pinned(9, 1));
    for number in 0..10 {
        desk.show_runner("u", &format!("arc-{number}"));
        desk.pass(250);
    }
    assert!(matches!(&desk.news[..], [News::Stopped { why: Stop::NoQuiet, .. }]), "{:?}", desk.news);
    desk.pass(2_100);
    assert_eq!((desk.count("hand-back"), desk.count("register")), (1, 0));
}

#[test]
fn a_raw_generation_asks_for_quiet_again_even_if_no_watch_showed_it() {
    for is_shown in [true, false] {
        let mut desk = Desk::new(10);
        desk.show(pinned(1, 1));
        desk.pass(300);
        desk.run(&["create-runner"]);
        if is_shown {
            desk.show(Stored::Raw { replicas: 9, patch_id: 2 });
        } else {
            desk.generation += 1;
        }
        desk.show(pinned(3, 3));
        desk.pass(299);
        assert_eq!(desk.count("register"), 1, "ARC may be making nine");
        desk.pass(1);
        desk.run(&["create-runner"]);
        assert_eq!(desk.count("register"), 3);
    }
}

#[test]
fn a_runner_that_no_watch_ever_shows_is_forgotten() {
    let mut desk = Desk::new(10);
    desk.is_shown = false;
    desk.show(pinned(1, 1));
    desk.pass(300);
    desk.run(&[]);
    desk.pass(2_100);
    desk.run(&[]);
    returned(&mut desk, 1, 1);
    desk.pass(3_000);
    desk.run(&[]);
    assert_eq!((desk.count("own-secret"), desk.count("delete-journal")), (1, 1));
    let alive = |desk: &Desk| desk.engine.sets().map(|set| set.alive()).sum::<usize>();
    assert_eq!(alive(&desk), 1, "the watch may lag behind");
    desk.pass(31_000);
    assert_eq!(alive(&desk), 0);
}

#[test]
fn a_runner_that_is_shown_before_its_set_counts() {
    let mut desk = Desk::new(10);
    desk.counted = 1;
    desk.show_runner("u", "early");
    desk.show(pinned(1, 1));
    desk.pass(300);
    assert_eq!((desk.count("register"), desk.count("hand-back")), (0, 1));
    desk.counted = 0;
    desk.show_runner("v", "passing");
    desk.engine.runner_gone("v", "passing");
    desk.show_set("v", pinned(1, 1));
    desk.pass(300);
    desk.run(&["hand-back"]);
    assert_eq!(desk.count("register"), 1);
}

#[test]
fn a_new_leader_takes_over_what_is_there_and_draws_only_what_is_missing() {
    let mut desk = Desk::new(10);
    let Stored::Pinned(generation) = pinned(4, 2) else { unreachable!() };
    let heading = Heading {
        set: "u".to_owned(),
        namespace: "n".to_owned(),
        set_name: "u".to_owned(),
        owner: "a".to_owned(),
        generation,
        pinned_at: 0,
    };
    let names: Vec<String> = ["r1", "r2", "r3"].map(str::to_owned).to_vec();
    let journal = Journal::of(&heading, &names, || "j".to_owned()).remove(0);
    desk.counted = 2;
    desk.show(pinned(4, 2));
    desk.engine.inherit(journal.clone(), desk.now, 1_000);
    desk.engine.inherit(journal, desk.now, 1_000);
    desk.show_runner("u", "r1");
    desk.show_runner("u", "r2");
    desk.run(&["get-secret"]);
    assert_eq!(desk.count("register"), 0, "r3 may be there yet");
    for _ in 0..3 {
        desk.answer("get-secret", Answer::Secret(None));
        desk.run(&["get-secret"]);
    }
    let registered: Vec<&str> =
        desk.calls.iter().filter(|call| call.0 == "register").map(|call| call.1.as_str()).collect();
    assert!(
        registered.len() == 2 && !registered.contains(&"r3"),
        "a late call may be for r3: {registered:?}"
    );
}

#[test]
fn sets_take_turns() {
    let mut desk = Desk::new(2);
    desk.generation = 1;
    for uid in ["a", "b", "c"] {
        desk.show_set(uid, pinned(60, 1));
    }
    desk.pass(300);
    let mut made: Vec<String> = Vec::new();
    for _ in 0..600 {
        desk.step();
        if desk.open.is_empty() {
            break;
        }
        let order = desk.open.remove(0);
        let answer = desk.well(&order.task.call, &order.task.runner);
        desk.now += Duration::from_millis(1);
        desk.engine.answered(order.id, answer, desk.now, 0);
        if order.task.call.code() == "create-runner" {
            made.push(order.place.uid.clone());
        }
    }
    let counts = ["a", "b", "c"].map(|uid| made.iter().filter(|set| *set == uid).count());
    assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() < 10, "{counts:?}");
}

#[test]
fn an_upstream_that_is_down_ends_the_batch() {
    let mut desk = Desk::new(10);
    desk.show(pinned(9, 1));
    desk.pass(300);
    desk.run(&["register"]);
    while !desk.engine.is_suspended("u", desk.now) && desk.now < Duration::from_secs(60) {
        if desk.open.is_empty() {
            desk.pass(500);
        } else {
            desk.answer("register", Answer::Trouble(Trouble::TimedOut));
        }
    }
    desk.step();
    let Some(News::Stopped { made: 0, need: 9, why: Stop::BreakerOpen(_), cause }) = desk.news.last() else {
        panic!("{:?}", desk.news)
    };
    assert_eq!(cause.as_deref(), Some("register: no answer in time"));
    assert!(desk.now < Duration::from_secs(16));
}

#[test]
fn a_hand_back_that_nobody_takes_suspends_the_set() {
    let mut desk = Desk::new(10);
    desk.show(pinned(1, 1));
    desk.pass(300);
    desk.run(&["hand-back"]);
    for _ in 0..12 {
        desk.pass(2_001);
        if !desk.open.is_empty() {
            desk.answer("hand-back", Answer::Trouble(Trouble::Conflict));
        }
    }
    assert!(desk.engine.is_suspended("u", desk.now));
}

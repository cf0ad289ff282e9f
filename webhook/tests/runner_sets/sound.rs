//! What holds for every review, however mangled: it is allowed, a patch applies and changes two fields, and whoever asks
//! again with what came of it gets no further change.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use headstart_externals::pin::Generation;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::review;
use super::route::{Served, known};

/// Places of the objects in a review that a decision may look at, or stumble over.
const PLACES: &[&str] = &[
    "/request/object",
    "/request/object/metadata",
    "/request/object/metadata/uid",
    "/request/object/spec",
    "/request/object/spec/replicas",
    "/request/object/spec/patchID",
    "/request/object/spec/ephemeralRunnerSpec",
    "/request/object/status",
    "/request/object/status/phase",
    "/request/oldObject",
    "/request/oldObject/metadata/uid",
    "/request/oldObject/spec",
    "/request/oldObject/spec/replicas",
    "/request/oldObject/spec/patchID",
    "/request/oldObject/status",
    "/request/oldObject/status/currentReplicas",
];

fn value() -> impl Strategy<Value = Value> {
    let numbers = prop_oneof![-2..12_i64, any::<i64>(), (0..1_i64 << 21).prop_map(|n| (n << 32) | 7)];
    let odd = [
        json!(null),
        json!(true),
        json!([]),
        json!([1, 2]),
        json!({}),
        json!({ "replicas": 9, "patchID": 8 }),
        json!({ "replicas": null, "patchID": 8 }),
        json!({ "patchID": 8, "replicas": "x" }),
        json!("Outdated"),
        json!("Running"),
        json!(1.5),
    ];
    prop_oneof![2 => numbers.prop_map(Value::from), 1 => select(odd.to_vec())]
}

/// The API server writes the envelope, so there the types are right.
fn envelope() -> impl Strategy<Value = (&'static str, Value)> {
    select(vec![
        ("/request/operation", json!("UPDATE")),
        ("/request/operation", json!("DELETE")),
        ("/request/dryRun", json!(true)),
        ("/request/dryRun", json!(null)),
        ("/request/kind/kind", json!("EphemeralRunner")),
        ("/request/userInfo", json!({})),
        ("/request/userInfo/username", json!("admin")),
    ])
}

fn mangled() -> impl Strategy<Value = Value> {
    let change = prop_oneof![8 => (select(PLACES.to_vec()), value()), 1 => envelope()];
    let changes = proptest::collection::vec(change, 0..4);
    (any::<bool>(), changes).prop_map(|(is_pinned, changes)| {
        let mut review = review();
        if is_pinned {
            let generation = Generation { replicas: 4, patch_id: 6 };
            review["request"]["oldObject"]["spec"] = json!({ "replicas": 0, "patchID": generation.pinned() });
        }
        for (place, value) in changes {
            if let Some(found) = review.pointer_mut(place) {
                *found = value;
            }
        }
        review
    })
}

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());

/// What is known is new each time, since it is trusted for seconds only.
fn admit(review: &Value) -> (String, Value) {
    RUNTIME.block_on(async { Served::new(known()).admit(review).await })
}

/// Reviews that are all left alone would prove nothing.
#[test]
fn mangled_reviews_are_decided_in_many_ways() {
    let mut runner = TestRunner::deterministic();
    let mangled = mangled();
    let mut seen = BTreeMap::new();
    for _ in 0..1_000 {
        let (reason, _) = admit(&mangled.new_tree(&mut runner).unwrap().current());
        *seen.entry(reason).or_insert(0) += 1;
    }
    assert!(
        seen["pinned"] > 50 && seen["re-pinned"] > 5 && seen["unreadable"] > 50 && seen.len() > 10,
        "{seen:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_is_sound(review in mangled()) {
        let before = &review["request"]["object"];
        let (reason, after) = admit(&review);
        if !matches!(reason.as_str(), "pinned" | "re-pinned") {
            prop_assert_eq!(&after, before);
            return Ok(());
        }
        prop_assert_ne!(&after, before);
        let mut again = review.clone();
        again["request"]["object"] = after.clone();
        let (reason, last) = admit(&again);
        prop_assert_eq!((reason.as_str(), &last), ("already-pinned", &after));
        let mut but_two_fields = after;
        for field in ["replicas", "patchID"] {
            match before["spec"].get(field) {
                Some(value) => but_two_fields["spec"][field] = value.clone(),
                None => drop(but_two_fields["spec"].as_object_mut().unwrap().remove(field)),
            }
        }
        prop_assert_eq!(&but_two_fields, before);
    }
}

//! What holds for every review, however mangled: it is allowed, a patch applies and changes two fields, and whoever asks
//! again with what came of it gets no further change.

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::review;
use super::route::{Served, known};

/// Places of a review that a decision may look at, or stumble over.
const PLACES: &[&str] = &[
    "/request/operation",
    "/request/dryRun",
    "/request/kind/kind",
    "/request/userInfo",
    "/request/userInfo/username",
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

fn mangled() -> impl Strategy<Value = Value> {
    proptest::collection::vec((select(PLACES.to_vec()), value()), 0..4).prop_map(|changes| {
        let mut review = review();
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

fn admit(review: &Value) -> (String, Value) {
    RUNTIME.block_on(async { Served::new(known()).admit(review).await })
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

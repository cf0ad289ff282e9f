//! Any body about a runner set, from whoever may be pinned: nothing panics, and what is pinned is stored as just the generation
//! that was asked for.

#![no_main]

use headstart_externals::pin::Stored;
use headstart_externals::runner_sets::{PublishedRunnerSet, PublishedRunnerSets};
use headstart_webhook::runner_sets::decide::decide;
use headstart_webhook::runner_sets::known::{Leader, Trust};
use headstart_webhook::runner_sets::review::Review;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|body: &[u8]| {
    let Ok(review) = Review::parse(body, true) else { return };
    let Ok(asked) = &review.asked else { return };
    let set = PublishedRunnerSet { uid: asked.uid.to_string(), listener: asked.user.to_string() };
    let sets = PublishedRunnerSets::new("leader", vec![set]);
    let trust = Trust { sets: Some(&sets), is_list_fresh: true, leader: Leader::Renewing };
    let decision = decide(asked, &trust);
    let Some(generation) = decision.pinned else {
        assert!(decision.patch().is_empty());
        return;
    };
    // Half a character in a part that nobody reads is passed over; API servers write none.
    let Ok(whole) = serde_json::from_slice::<Value>(body) else { return };
    let mut set = whole["request"]["object"].clone();
    json_patch::patch(&mut set, &decision.patch()).expect("the patch applies");
    let number = |field: &str| set["spec"][field].as_i64().unwrap_or_default();
    assert_eq!(Stored::read(number("replicas"), number("patchID")), Stored::Pinned(generation));
    let wanted = (i64::from(generation.replicas), i64::from(generation.patch_id));
    assert_eq!(wanted, (asked.replicas, asked.patch_id));
});

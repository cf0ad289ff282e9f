//! Each condition broken alone gives its own reason, and of several broken ones the first counts.

use headstart_externals::pin::{Generation, MOST_REPLICAS, Stored};
use headstart_externals::runner_sets::PublishedRunnerSets;
use headstart_webhook::runner_sets::decide::{PinRequest, decide};
use headstart_webhook::runner_sets::known::{Leader, Trust};
use headstart_webhook::runner_sets::reason::PinReason;
use serde_json::json;

use super::{published, scale_up};

/// What a condition is broken in.
struct Situation<'a> {
    request: PinRequest<'static>,
    trust: Trust<'a>,
}

impl<'a> Situation<'a> {
    fn good(sets: &'a PublishedRunnerSets) -> Self {
        let trust = Trust { sets: Some(sets), is_list_fresh: true, leader: Leader::Renewing };
        Self { request: scale_up(), trust }
    }

    fn reason(&self) -> PinReason {
        let decision = decide(&self.request, &self.trust);
        assert_eq!(decision.pinned.is_some(), !decision.patch().is_empty());
        decision.reason
    }
}

type Break = fn(&mut Situation<'_>);

/// The conditions in the order of the design; those of one group cannot be broken together.
const ORDER: &[&[(PinReason, Break)]] = &[
    &[(PinReason::DryRun, |it| it.request.is_dry_run = true)],
    &[
        (PinReason::ListUnknown, |it| it.trust.sets = None),
        (PinReason::NotListed, |it| it.request.uid = "another".into()),
        (PinReason::NotTheListener, |it| {
            it.request.user = "system:serviceaccount:arc-systems:manager".into()
        }),
    ],
    &[(PinReason::ListStale, |it| it.trust.is_list_fresh = false)],
    &[
        (PinReason::LeaderSilent, |it| it.trust.leader = Leader::Silent),
        (PinReason::LeaderOther, |it| it.trust.leader = Leader::Other),
    ],
    &[
        (PinReason::PatchIdNotPositive, |it| it.request.patch_id = 0),
        (PinReason::PatchIdNotPositive, |it| it.request.patch_id = -1),
        (PinReason::PatchIdUnknown, |it| it.request.patch_id = 1 << 33),
    ],
    &[
        (PinReason::ReplicasOutOfRange, |it| it.request.replicas = i64::from(MOST_REPLICAS) + 1),
        (PinReason::ReplicasOutOfRange, |it| it.request.replicas = -1),
    ],
    &[(PinReason::Deleting, |it| it.request.is_deleting = true)],
    &[(PinReason::Outdated, |it| it.request.is_outdated = true)],
    &[(PinReason::Owing, |it| it.request.old.replicas = 3_000_000)],
    &[(PinReason::NoScaleUp, |it| it.request.old.current_replicas = 2_000_000)],
];

#[test]
fn nothing_broken_is_pinned() {
    let sets = published();
    let situation = Situation::good(&sets);
    let decision = decide(&situation.request, &situation.trust);
    assert_eq!(decision.reason, PinReason::Pinned);
    let generation = Generation { replicas: 5, patch_id: 7 };
    assert_eq!(decision.pinned, Some(generation));
    let patch = serde_json::to_value(decision.patch()).unwrap();
    let stored: i64 = (6 << 32) | 7;
    assert_eq!(
        patch,
        json!([
            { "op": "add", "path": "/spec/replicas", "value": 0 },
            { "op": "add", "path": "/spec/patchID", "value": stored },
        ])
    );
    assert_eq!(Stored::read(0, stored), Stored::Pinned(generation));
}

#[test]
fn each_condition_broken_alone_gives_its_own_reason() {
    let sets = published();
    for (reason, broken) in ORDER.iter().copied().flatten() {
        let mut situation = Situation::good(&sets);
        broken(&mut situation);
        assert_eq!(situation.reason(), *reason);
    }
}

#[test]
fn of_two_broken_conditions_the_first_counts() {
    let sets = published();
    let mut pairs = 0;
    for (at, group) in ORDER.iter().enumerate() {
        for (reason, first) in *group {
            for (_, second) in ORDER[at + 1..].iter().copied().flatten() {
                let mut situation = Situation::good(&sets);
                second(&mut situation);
                first(&mut situation);
                assert_eq!(situation.reason(), *reason);
                pairs += 1;
            }
        }
    }
    assert!(pairs > 100, "{pairs}");
}

#[test]
fn reasons_are_listed_in_the_order_in_which_they_are_found() {
    let listed = |reason: PinReason| PinReason::ALL.iter().position(|one| *one == reason).unwrap();
    let order: Vec<usize> = ORDER.iter().map(|group| listed(group[0].0)).collect();
    assert!(order.is_sorted(), "{order:?}");
}

#[test]
fn what_is_pinned_follows_its_listener_up_and_down() {
    let sets = published();
    let pinned = Generation { replicas: 10, patch_id: 6 }.pinned();
    for (replicas, current) in [(12, 3), (10, 10), (5, 7), (0, 10)] {
        let mut situation = Situation::good(&sets);
        situation.request.replicas = replicas;
        situation.request.old.replicas = 0;
        situation.request.old.patch_id = pinned;
        situation.request.old.current_replicas = current;
        assert_eq!(situation.reason(), PinReason::Repinned, "{replicas}");
        situation.request.patch_id = 0;
        assert_eq!(situation.reason(), PinReason::PatchIdNotPositive, "0 is always raw, also when pinned");
        situation.request.patch_id = 7;
        situation.trust.leader = Leader::Silent;
        assert_eq!(situation.reason(), PinReason::LeaderSilent, "nobody would act on it");
    }
}

#[test]
fn a_pinned_object_stays_as_it_is_whoever_writes_it() {
    let sets = published();
    let mut situation = Situation::good(&sets);
    situation.request.patch_id = Generation { replicas: 5, patch_id: 7 }.pinned();
    situation.request.replicas = 0;
    assert_eq!(situation.reason(), PinReason::AlreadyPinned);
    // Runners beside it would be none of ours.
    situation.request.replicas = 1;
    assert_eq!(situation.reason(), PinReason::PatchIdUnknown);
}

#[test]
fn the_most_runners_that_can_be_pinned_are_pinned() {
    let sets = published();
    let mut situation = Situation::good(&sets);
    situation.request.replicas = i64::from(MOST_REPLICAS);
    assert_eq!(situation.reason(), PinReason::Pinned);
}

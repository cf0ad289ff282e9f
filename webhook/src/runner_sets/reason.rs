//! What became of a runner set's new generation and why, in the order in which it is found out.

use crate::reason::codes;

codes! {
    /// Why a generation was pinned or stored as the listener wrote it.
    PinReason:
    NotARunnerSet, "not-a-runner-set", Expected, "the request does not change the spec of an EphemeralRunnerSet", "";
    NoController, "no-controller", Expected, "the webhook runs without a controller, and nobody else would create the runners", "";
    SwitchedOff, "switched-off", Expected, "`--parallel-creation=false`", "";
    Overloaded, "overloaded", Withheld, "the webhook had more to do than it could in time", "add replicas or processor time; see the metric headstart_webhook_shed_total";
    Unreadable, "unreadable", Withheld, "a field of the runner set has an unexpected type, or the set as it was is not known", "see whether the CustomResourceDefinitions are those of a known release of Actions Runner Controller";
    AlreadyPinned, "already-pinned", Expected, "the set is written as it is when it is pinned", "";
    DryRun, "dry-run", Expected, "a dry run: nothing will be stored, and nothing created", "";
    ListUnknown, "list-unknown", Expected, "no runner sets are published, or none have been read yet", "nothing if parallel creation is not wanted; else check that headstart-controller runs and leads";
    NotListed, "not-listed", Expected, "the controller does not publish this set", "nothing if parallel creation is not wanted; else see the controller's log, which names the set and why, and its metric headstart_creation_sets";
    NotTheListener, "not-the-listener", Expected, "the set is written by somebody else than its listener", "";
    ListStale, "list-stale", Withheld, "the published runner sets were last read more than 60 s ago", "see the webhook's log for why it cannot read them";
    LeaderOther, "leader-other", Withheld, "the leader of the controller is another process than the one that published the runner sets", "nothing within a minute of a change of leaders; else see the controller's log for why it publishes none";
    LeaderSilent, "leader-silent", Withheld, "the controller's leader has not been seen renewing its Lease for 10 s", "check that headstart-controller runs and leads, and see the webhook's log for why it cannot read the Lease";
    PatchIdNotPositive, "patch-id-not-positive", Expected, "the generation means exactly so, and Actions Runner Controller may have to delete runners", "";
    PatchIdUnknown, "patch-id-unknown", Withheld, "no listener counts its generations that far", "see who writes this set";
    ReplicasOutOfRange, "replicas-out-of-range", Withheld, "more than 1048574 runners, or fewer than none", "see `maxRunners` of the AutoscalingRunnerSet";
    Deleting, "deleting", Expected, "the set is being deleted", "";
    Outdated, "outdated", Expected, "the set is outdated and gets no more runners", "";
    Repinned, "re-pinned", Rewritten, "the set was pinned already and follows its listener, up or down", "";
    Owing, "owing", Expected, "Actions Runner Controller may still be creating runners of the generation before", "";
    NoScaleUp, "no-scale-up", Expected, "the set has as many runners already", "";
    Pinned, "pinned", Rewritten, "the scale-up is left to headstart-controller, which creates the runners concurrently", "";
    Internal, "internal", Withheld, "the decision could not be made", "please report this with the runner set";
}

impl PinReason {
    /// Where it stands in [`Self::ALL`].
    pub(crate) const fn number(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::reason::Outcome;

    #[test]
    fn codes_are_distinct_words_and_trouble_has_a_remedy() {
        let codes: BTreeSet<&str> = PinReason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), PinReason::ALL.len());
        for (at, reason) in PinReason::ALL.iter().enumerate() {
            assert_eq!(at, reason.number());
            assert!(reason.code().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{reason}");
            assert!(reason.outcome() != Outcome::Withheld || !reason.remedy().is_empty(), "{reason}");
        }
    }
}

//! The answer to a review of a runner set. There are no warnings: whoever scales a set is a program.

use axum::response::Response;
use headstart_externals::pin::Generation;

use super::decide::PinDecision;
use super::reason::PinReason;
use super::review::Review;
use super::sources::RunnerSets;
use crate::reason::Outcome;
use crate::review::Answer;
use crate::server::respond;

/// Decides over a review that was read; `is_shed` where there was no room or time for it.
pub(crate) fn decide(sets: &RunnerSets, review: &Review<'_>, is_shed: bool) -> PinDecision {
    let unchanged = PinDecision::unchanged;
    match (&review.asked, sets.why_unused()) {
        (Err(PinReason::NotARunnerSet), _) => unchanged(PinReason::NotARunnerSet),
        (_, Some(reason)) => unchanged(reason),
        _ if is_shed => unchanged(PinReason::Overloaded),
        (Err(reason), None) => unchanged(*reason),
        (Ok(asked), None) => sets.decide(asked),
    }
}

pub(crate) fn answer(review: &Review<'_>, decision: &PinDecision) -> Response {
    let patch = decision.patch();
    respond(&Answer {
        uid: &review.uid,
        patch: &patch,
        decision: decision.reason.code(),
        ..Answer::default()
    })
}

/// One line per decision: at `info` where a scale-up is pinned, and where it could not be.
pub(crate) fn log(review: &Review<'_>, decision: &PinDecision) {
    let Review { uid, namespace, name, .. } = review;
    let reason = decision.reason;
    match decision.pinned {
        Some(Generation { replicas, patch_id }) => tracing::info!(
            %uid, %namespace, set = %name, replicas, patch_id, decision = reason.code(), "scale-up pinned"
        ),
        None if reason.outcome() == Outcome::Withheld => tracing::info!(
            %uid, %namespace,
            set = %name,
            decision = reason.code(),
            meaning = reason.meaning(),
            remedy = reason.remedy(),
            "scale-up left to Actions Runner Controller"
        ),
        None => tracing::debug!(%uid, %namespace, set = %name, decision = reason.code(), "decided"),
    }
}

//! The decision over one write of a runner set: pin its new generation, or let it be stored as it was written.
//!
//! Whatever is not certain is stored as it was written, since then Actions Runner Controller (ARC) does its work alone.

use std::borrow::Cow;

use headstart_externals::pin::{Generation, MOST_REPLICAS, Stored};
use json_patch::jsonptr::Pointer;
use json_patch::{AddOperation, PatchOperation};
use serde_json::Value;

use super::known::{Leader, Trust};
use super::reason::PinReason;

/// One write of a runner set's spec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PinRequest<'a> {
    /// UID of the set.
    pub uid: Cow<'a, str>,
    /// Who writes.
    pub user: Cow<'a, str>,
    /// Whether nothing is to be stored.
    pub is_dry_run: bool,
    /// `spec.replicas` as written, absent as 0.
    pub replicas: i64,
    /// `spec.patchID` as written.
    pub patch_id: i64,
    /// Whether the set is being deleted.
    pub is_deleting: bool,
    /// Whether its phase is `Outdated`.
    pub is_outdated: bool,
    /// The set as it is stored.
    pub old: Old,
}

/// What a set looks like before a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Old {
    /// `spec.replicas`, absent as 0.
    pub replicas: i64,
    /// `spec.patchID`.
    pub patch_id: i64,
    /// `status.currentReplicas`, absent as 0.
    pub current_replicas: i64,
}

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinDecision {
    /// Why.
    pub reason: PinReason,
    /// The generation to pin; `None` leaves the write as it is.
    pub pinned: Option<Generation>,
}

impl PinDecision {
    /// The write is stored as it is.
    pub fn unchanged(reason: PinReason) -> Self {
        Self { reason, pinned: None }
    }

    /// Pins a generation, or says why not.
    fn new(decided: Result<(PinReason, Generation), PinReason>) -> Self {
        match decided {
            Ok((reason, generation)) => Self { reason, pinned: Some(generation) },
            Err(reason) => Self::unchanged(reason),
        }
    }

    /// The edits, which apply to every object whose `spec` is a map: adding a member replaces one that is there.
    pub fn patch(&self) -> Vec<PatchOperation> {
        let Some(generation) = self.pinned else { return Vec::new() };
        let add = |path: &'static str, value: i64| {
            let path = Pointer::from_static(path).to_buf();
            PatchOperation::Add(AddOperation { path, value: Value::from(value) })
        };
        vec![add("/spec/replicas", 0), add("/spec/patchID", generation.pinned())]
    }
}

/// Decides; the first thing that speaks against pinning is the reason.
pub fn decide(request: &PinRequest<'_>, trust: &Trust<'_>) -> PinDecision {
    PinDecision::new(may_pin(request, trust).and_then(|()| scale_up(request)))
}

/// Whether a generation of this set may be pinned at all: by this user, now.
fn may_pin(request: &PinRequest<'_>, trust: &Trust<'_>) -> Result<(), PinReason> {
    if Stored::read(request.replicas, request.patch_id).pinned().is_some() {
        return Err(PinReason::AlreadyPinned);
    }
    if request.is_dry_run {
        return Err(PinReason::DryRun);
    }
    let sets = trust.sets.ok_or(PinReason::ListUnknown)?;
    let set = sets.get(&request.uid).ok_or(PinReason::NotListed)?;
    if set.listener != request.user {
        return Err(PinReason::NotTheListener);
    }
    if !trust.is_list_fresh {
        return Err(PinReason::ListStale);
    }
    match trust.leader {
        Leader::Renewing => Ok(()),
        Leader::Silent => Err(PinReason::LeaderSilent),
        Leader::Other => Err(PinReason::LeaderOther),
    }
}

/// The generation to pin, if it is one and ARC owes nothing of the one before.
fn scale_up(request: &PinRequest<'_>) -> Result<(PinReason, Generation), PinReason> {
    let PinRequest { replicas, patch_id, old, .. } = *request;
    if patch_id <= 0 {
        return Err(PinReason::PatchIdNotPositive);
    }
    if patch_id > i64::from(u32::MAX) {
        return Err(PinReason::PatchIdUnknown);
    }
    if !(0..=i64::from(MOST_REPLICAS)).contains(&replicas) {
        return Err(PinReason::ReplicasOutOfRange);
    }
    let generation = Generation::pinnable(replicas, patch_id).ok_or(PinReason::Internal)?;
    if request.is_deleting {
        return Err(PinReason::Deleting);
    }
    if request.is_outdated {
        return Err(PinReason::Outdated);
    }
    if Stored::read(old.replicas, old.patch_id).pinned().is_some() {
        return Ok((PinReason::Repinned, generation));
    }
    if old.replicas > old.current_replicas {
        return Err(PinReason::Owing);
    }
    if replicas <= old.current_replicas {
        return Err(PinReason::NoScaleUp);
    }
    Ok((PinReason::Pinned, generation))
}

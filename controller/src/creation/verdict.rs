//! What the engine and the webhook are told of one set, put together from all that is known of it. Pure.

use std::time::Duration;

use headstart_externals::runner_sets::PublishedRunnerSet;

use super::census::{Candidate, Census, Judgement, Place, Refusal};
use super::engine::{Engine, Standing};
use super::view::SetView;

/// What is known of a set beside itself, the objects around it and what became of it so far.
#[derive(Clone, Debug)]
pub struct Given {
    /// What is known of its namespace.
    pub place: Place,
    /// Whether it and its service can be used by us.
    pub is_usable: bool,
    /// Whether runners are made at all.
    pub is_switched_on: bool,
    /// Which Actions service it registers at.
    pub service: String,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// For the engine.
    pub standing: Standing,
    /// For the webhook; or why it is told nothing.
    pub outcome: Result<PublishedRunnerSet, Refusal>,
}

/// What follows for a set.
pub fn judge(census: &Census, engine: &Engine, view: &SetView, given: Given, now: Duration) -> Verdict {
    let Given { place, is_usable, is_switched_on, service } = given;
    let candidate = Candidate {
        uid: &view.uid,
        namespace: &view.namespace,
        name: &view.name,
        owner: &view.owner,
        place,
        is_usable,
        is_suspended: engine.is_suspended(&view.uid, now),
    };
    let Judgement { is_attended, outcome } = census.judge(candidate, is_switched_on);
    // One that is suspended is lent no more, and what is lent already is handed back by the engine itself.
    let is_enabled = matches!(outcome, Ok(_) | Err(Refusal::Suspended));
    Verdict { standing: Standing { is_attended, is_enabled, service }, outcome }
}

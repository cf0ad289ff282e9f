//! The decision over one pod: a pure function of the pod and the published state. No clock, no I/O, no lock.

use headstart_externals::names::{DECISION_ANNOTATION, VERSION_LABEL};
use headstart_externals::state::{MountKind, PublishedState, PublishedVersion};
use json_patch::PatchOperation;
use serde_json::{Value, json};

use crate::edit::{self, Edit, place};
use crate::placement::{self, Demand};
use crate::plan::{Offer, Plan, Refusal};
use crate::pod::{EPHEMERAL_RUNNER, OLDER_RUNNER, Pod, RUNNER_POD};
use crate::reason::{Reason, Rule, Unpaired};
use crate::rules::{complete, dind, older, runner, step, workflow};
use crate::volume;

/// What a decision depends on, besides the pod.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The namespace that the pod is created in.
    pub namespace: &'a str,
    /// How the tree may get into the pod, most wanted first.
    pub kinds: &'a [MountKind],
    /// What is offered, or why that is not known.
    pub state: Result<&'a PublishedState, Reason>,
    /// A version to assume for every image, and for workflow pods that name none; for explanations only.
    pub assumed: Option<&'a PublishedVersion>,
}

/// What becomes of a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The shape that was recognised, if one was.
    pub rule: Option<Rule>,
    /// Why.
    pub reason: Reason,
    /// Why a lean runner was not paired.
    pub unpaired: Option<Unpaired>,
    /// The version that the pod was given.
    pub version: Option<String>,
    /// The edits in order; empty if the pod stays as it is.
    pub patch: Vec<PatchOperation>,
}

impl Decision {
    /// The pod stays as it is.
    pub fn unchanged(rule: Option<Rule>, reason: Reason) -> Self {
        Self { rule, reason, unpaired: None, version: None, patch: Vec::new() }
    }
}

/// Decides over `pod` and, if it is rewritten, edits it in place.
pub fn decide(pod: &mut Value, context: Context<'_>) -> Decision {
    let unchanged = Decision::unchanged;
    let Plan { rule, reason, unpaired, version, edits } = match plan(Pod(pod), context) {
        Ok(plan) => plan,
        Err(Refusal { rule, reason }) => return unchanged(rule, reason),
    };
    match edit::apply(pod, edits) {
        Ok(patch) => {
            let reason = if patch.is_empty() { Reason::AlreadyDone } else { reason };
            Decision { rule: Some(rule), reason, unpaired, version: Some(version), patch }
        }
        // The rules looked first, so this is a bug; it must not break a job.
        Err(_) => unchanged(Some(rule), Reason::Internal),
    }
}

fn plan(pod: Pod<'_>, context: Context<'_>) -> Result<Plan, Refusal> {
    if !pod.is_well_formed() {
        return Err(Refusal::general(Reason::Unreadable));
    }
    let shape = shape_of(pod)?;
    let state = context.state.map_err(|reason| Refusal::new(shape, reason))?;
    let mut demands = placement::of_agents(&state.node_selector);
    let mut plan = match volume::carried(pod, shape, state) {
        Some(carried) => {
            let plan = complete::plan(pod, shape, carried);
            demands.extend(made_for(state, &plan));
            plan
        }
        None => {
            let plan = rewrite(pod, shape, offer(pod, state, context, shape, &demands)?)?;
            let arches = made_for(state, &plan);
            let is_blind = |demand: &Demand| shape.is_runner() && placement::is_bound_blindly(pod, demand);
            if placement::excludes(pod, arches.as_slice()) || arches.as_ref().is_some_and(is_blind) {
                return Err(Refusal::new(shape, Reason::ArchExcluded));
            }
            demands.extend(arches);
            plan
        }
    };
    // A pod that was completed keeps what its own rewriting said; one made from our hook template has nothing yet.
    if plan.reason != Reason::Completed || pod.annotation(DECISION_ANNOTATION).is_none() {
        let note = format!("{}/{}", plan.rule, plan.reason);
        plan.edits.push(Edit::Set(place(["metadata", "annotations", DECISION_ANNOTATION]), json!(note)));
    }
    plan.edits.extend(placement::restrict(pod, &demands));
    plan.edits.push(Edit::Set(place(["metadata", "labels", VERSION_LABEL]), json!(plan.version)));
    Ok(plan)
}

/// What the version that a pod is given demands of nodes.
fn made_for(state: &PublishedState, plan: &Plan) -> Option<Demand> {
    let version = state.versions.iter().find(|version| version.name.as_str() == plan.version)?;
    placement::of_arches(&version.arches)
}

fn offer<'a>(
    pod: Pod<'_>,
    state: &'a PublishedState,
    context: Context<'a>,
    shape: Rule,
    demands: &[Demand],
) -> Result<Offer<'a>, Refusal> {
    let refuse = |reason| Refusal::new(shape, reason);
    let allowed = context.kinds.iter().copied().find(|kind| state.allows(context.namespace, *kind));
    let kind = allowed.ok_or(refuse(Reason::KindRefused))?;
    if kind == MountKind::HostPath && pod.has_user_namespace() {
        return Err(refuse(Reason::UserNamespace));
    }
    if placement::excludes(pod, demands) {
        return Err(refuse(Reason::NodesExcluded));
    }
    Ok(Offer { state, kind, assumed: context.assumed })
}

/// Recognises the shape from labels, volumes and mounts, never from positions or counts.
fn shape_of(pod: Pod<'_>) -> Result<Rule, Refusal> {
    let rule = if pod.label(EPHEMERAL_RUNNER) == Some("True") {
        if dind::is_shape(pod) { Rule::RunnerDind } else { runner::shape(pod)? }
    } else if pod.label(RUNNER_POD).is_some() {
        workflow::shape(pod)?
    } else if pod.label(OLDER_RUNNER).is_some() {
        Rule::RunnerOlder
    } else if step::is_legacy(pod) {
        return Err(Refusal::new(Rule::Step, Reason::StepLegacy));
    } else {
        return Err(Refusal::general(Reason::NotArc));
    };
    if pod.is_mirror() {
        return Err(Refusal::new(rule, Reason::Mirror));
    }
    if pod.is_windows() { Err(Refusal::new(rule, Reason::Windows)) } else { Ok(rule) }
}

fn rewrite(pod: Pod<'_>, shape: Rule, offer: Offer<'_>) -> Result<Plan, Refusal> {
    match shape {
        Rule::RunnerLegacy => runner::mount(pod, offer),
        Rule::RunnerDind => dind::mount(pod, offer),
        Rule::RunnerOlder => older::mount(pod, offer),
        Rule::WorkflowLegacy => workflow::legacy::mount(pod, offer),
        Rule::WorkflowCurrent => workflow::current::mount(pod, offer),
        Rule::Runner | Rule::Step => Err(Refusal::new(shape, Reason::ShapeUnknown)),
    }
}

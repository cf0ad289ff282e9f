//! Tells people of the making of runners: a line of the log each, and Events on the AutoscalingRunnerSet where it matters to
//! whoever owns it.

use headstart_externals::names::{CREATION_DISABLED, CREATION_ENABLED, CREATION_LABEL};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::core::ObjectMeta;

use super::borrow::Place;
use super::call::{Call, Order, Trouble};
use super::census::{self, Refusal};
use super::execute::Tools;
use super::objects::Owner;
use super::report::{News, Stop};
use super::template::API_VERSION;
use super::view::SetView;
use crate::news;

/// Logs it, and gives what becomes an Event.
pub(super) fn tell(place: &Place, news: &News) -> Option<news::News> {
    let Place { namespace, name, .. } = place;
    match news {
        News::Started { need, generation } => {
            let patch_id = generation.patch_id;
            tracing::info!(namespace, set = name, need, patch_id, "creating runners");
            Some(news::News::normal("RunnerCreationStarted", format!("creating {need} runners at once")))
        }
        News::Progress { made, need, took, percent } => {
            let rate = rate(*made, took.as_secs_f64());
            let remaining = need - made;
            tracing::info!(
                namespace,
                set = name,
                made,
                need,
                remaining,
                rate,
                "created {made}/{need} runners"
            );
            let note = format!("created {made}/{need} runners, {rate} per second, {remaining} to go");
            percent.map(|_| news::News::normal("RunnerCreationProgress", note))
        }
        News::Finished { made, took } => {
            let (seconds, rate) = (took.as_secs_f64(), rate(*made, took.as_secs_f64()));
            tracing::info!(namespace, set = name, made, seconds, rate, "created all runners");
            let note = format!("created {made} runners in {seconds:.1} s");
            Some(news::News::normal("RunnerCreationFinished", note))
        }
        News::Stopped { made, need, why, cause } => stopped(place, *made, *need, why, cause.as_deref()),
    }
}

fn stopped(place: &Place, made: usize, need: usize, why: &Stop, cause: Option<&str>) -> Option<news::News> {
    let Place { namespace, name, .. } = place;
    let cause = cause.map_or_else(String::new, |cause| format!(". Failed last: {cause}"));
    let (reason, meaning) = (why.code(), why.meaning() + &cause);
    if !why.suspends() {
        tracing::info!(namespace, set = name, made, need, reason, "stopped creating runners: {meaning}");
        return (need > 0)
            .then(|| news::News::normal("RunnerCreationStopped", partial(made, need, &meaning)));
    }
    tracing::warn!(namespace, set = name, made, need, reason, "stopped creating runners: {meaning}");
    let event = match why {
        Stop::BreakerOpen(_) => "RunnerCreationBreakerOpen",
        Stop::Quota(_) => "RunnerCreationQuota",
        _ => "RunnerCreationPartial",
    };
    Some(news::News::warning(event, partial(made, need, &meaning)))
}

fn partial(made: usize, need: usize, meaning: &str) -> String {
    format!("created {made}/{need} runners: {meaning}")
}

/// Runners per second, for people.
fn rate(made: usize, seconds: f64) -> String {
    format!("{:.1}", made as f64 / seconds.max(0.001))
}

/// A call that failed: most are tried again, and what cannot be handed back somebody has to see to.
pub(super) fn failed(order: &Order, trouble: &Trouble) {
    let (Place { namespace, name, .. }, call) = (&order.place, order.task.call.code());
    let is_final = matches!(trouble, Trouble::Refused(_) | Trouble::Quota(_));
    if is_final && matches!(order.task.call, Call::HandBack(_)) {
        tracing::warn!(
            namespace,
            set = name,
            %trouble,
            "failed to hand a runner set back; ARC creates the runners at its listener's next write, within 50 s. Check the RoleBinding and the \
             policies headstart-runner-creation-*"
        );
    } else {
        let runner = &order.task.runner;
        tracing::debug!(namespace, set = name, runner, call, %trouble, "a call failed");
    }
}

/// A set is not published. Where it is only not looked at yet, nobody wonders.
pub(super) fn left(set: &SetView, refusal: Refusal, tools: &Tools) {
    let (namespace, name, reason) = (&set.namespace, &set.name, refusal.code());
    let unusable = tools.template.as_ref().err().or(tools.service.as_ref().err());
    let why = unusable.filter(|_| refusal == Refusal::Unusable).map_or("", String::as_str);
    if refusal == Refusal::NotListed {
        tracing::debug!(namespace, set = name, reason, "the runners of this set are left to ARC");
    } else {
        tracing::info!(namespace, set = name, reason, why, "the runners of this set are left to ARC");
    }
}

/// A label with another value than those that mean something, told once.
pub(super) fn unknown_wish(kind: &str, before: Option<&ObjectMeta>, metadata: &ObjectMeta) {
    let is_told = |value: &str| before.and_then(census::unknown_wish) == Some(value);
    if let Some(value) = census::unknown_wish(metadata).filter(|value| !is_told(value)) {
        let (namespace, name) = (&metadata.namespace, &metadata.name);
        tracing::warn!(
            ?namespace,
            ?name,
            value,
            "the label {CREATION_LABEL} of this {kind} is neither {CREATION_ENABLED} nor {CREATION_DISABLED} and counts for \
             nothing"
        );
    }
}

/// The AutoscalingRunnerSet, as Events name what they are about.
pub(super) fn about(owner: &Owner) -> ObjectReference {
    let metadata = &owner.metadata;
    ObjectReference {
        api_version: Some(API_VERSION.to_owned()),
        kind: Some("AutoscalingRunnerSet".to_owned()),
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        uid: metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

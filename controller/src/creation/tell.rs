//! Tells people of the making of runners: a line of the log each, and Events on the AutoscalingRunnerSet where it matters to
//! whoever owns it.

use k8s_openapi::api::core::v1::ObjectReference;

use super::borrow::Place;
use super::call::{Call, Order, Trouble};
use super::objects::Owner;
use super::report::{News, Stop};
use super::template::API_VERSION;
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
        News::Stopped { made, need, why } => stopped(place, *made, *need, why),
    }
}

fn stopped(place: &Place, made: usize, need: usize, why: &Stop) -> Option<news::News> {
    let Place { namespace, name, .. } = place;
    let (reason, meaning) = (why.code(), why.meaning());
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
            "failed to hand a runner set back; its listener's next word goes to ARC. Check the RoleBinding and the \
             policies headstart-runner-creation-*"
        );
    } else {
        let runner = &order.task.runner;
        tracing::debug!(namespace, set = name, runner, call, %trouble, "a call failed");
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

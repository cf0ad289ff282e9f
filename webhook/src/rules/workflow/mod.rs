//! Pods that the container hooks create: recognised by label, mounts and init container.

pub(crate) mod current;
pub(crate) mod legacy;

use crate::plan::Refusal;
use crate::pod::Pod;
use crate::reason::{Reason, Rule};
use crate::rules::step;

/// Where jobs find their externals.
pub(crate) const EXTERNALS: &str = "/__e";

/// Which kind of hook pod this is.
pub(crate) fn shape(pod: Pod<'_>) -> Result<Rule, Refusal> {
    if legacy::is_shape(pod) {
        return Ok(Rule::WorkflowLegacy);
    }
    if !current::is_shape(pod) {
        return Err(Refusal::general(Reason::ShapeUnknown));
    }
    let no_step = |reason| Err(Refusal::new(Rule::Step, reason));
    match current::fs_init(pod) {
        Some(fs_init) if step::copies_tools(&fs_init.value["command"][2]) => no_step(Reason::StepToolCopy),
        Some(_) => Ok(Rule::WorkflowCurrent),
        None if current::is_filled(pod) => Err(Refusal::new(Rule::WorkflowCurrent, Reason::InitReplaced)),
        None => no_step(Reason::StepPlain),
    }
}

//! One file per shape of pod: how it is recognised, and what is edited in it.

pub(crate) mod complete;
pub(crate) mod dind;
pub(crate) mod older;
pub(crate) mod runner;
pub(crate) mod step;
pub(crate) mod workflow;

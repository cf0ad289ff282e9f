//! The admission webhook: an AdmissionReview in, a minimal JSON Patch out, never a denial.
//!
//! [`decide::decide`] is the pure heart: pod and published state in, decision out. Around it lie the envelope
//! ([`review`]), the server ([`server`]) and the sources of the published state ([`published`], [`watched`]).
//! [`runner_sets`] is the same for scale-ups of runner sets.

pub mod args;
pub mod decide;
mod edit;
pub mod metrics;
mod object;
mod placement;
mod plan;
mod pod;
mod prefilter;
pub mod published;
pub mod reason;
pub mod review;
mod rules;
pub mod runner_sets;
pub mod server;
mod volume;
pub mod watched;

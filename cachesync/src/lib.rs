//! The node agent: keeps the wanted externals versions on disk, verified and reported.
//!
//! [`plan`] decides purely what to do, [`sync`] does it: a [`source`] is written into staging, checked, and published
//! by one rename ([`install`], [`store`]). [`stage`] runs inside a runner image and leaves a copy for the agent.
//! [`status`] tells the world.

pub mod api;
pub mod args;
pub mod backoff;
mod complete;
pub mod copy_program;
mod durable;
pub mod fault;
pub mod install;
pub mod job;
pub mod metrics;
pub mod plan;
pub mod progress;
pub mod report;
pub mod source;
pub mod stage;
pub mod status;
pub mod store;
pub mod sync;
pub mod tree;

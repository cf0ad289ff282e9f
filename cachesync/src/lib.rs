//! The node agent: keeps the wanted externals versions on disk, verified and reported.
//!
//! [`ledger`] holds what is known, [`plan`] decides purely what to do, [`sync`] does it: a [`source`] is written into
//! staging, checked, and published by one rename ([`install`], [`store`]); what nobody needs any more loses its name
//! first and its bytes then (`trash`). [`scrub`] and `watch` look for damage. [`stage`] runs inside a runner image and
//! leaves a copy for the agent. [`status`] tells the world.

pub mod api;
pub mod args;
mod attempt;
pub mod backoff;
mod complete;
mod config_file;
pub mod copy_program;
mod disk;
mod durable;
pub mod fault;
pub mod install;
pub mod job;
pub mod ledger;
pub mod metrics;
mod mount_info;
mod parallel;
pub mod plan;
pub mod progress;
pub mod published;
pub mod purge;
pub mod report;
pub mod room;
mod root_guard;
pub mod scrub;
pub mod source;
pub mod stage;
pub mod status;
pub mod store;
pub mod sync;
mod trash;
pub mod tree;
mod watch;
mod work;

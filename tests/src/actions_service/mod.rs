//! A fake GitHub Actions service on one port: good enough for ARC's manager and listener, with switches for all that goes wrong.
//!
//! Everything it knows and decides is [`Service`], which does no I/O and is used as it is by simulations with a virtual
//! clock; here it gets a port and real time.

pub mod calls;
pub mod endpoint;
pub mod faults;
pub mod jobs;
pub mod replies;
mod shell;
pub mod state;
pub mod tokens;
pub mod wire;

pub use calls::{Caller, Calls};
pub use endpoint::Endpoint;
pub use faults::{Delivered, Fault, Faults, Harm, Span, Strike};
pub use jobs::{Job, JobState};
pub use shell::ActionsService;
pub use state::{Agent, AgentState, Refusal, ScaleSet, Service};

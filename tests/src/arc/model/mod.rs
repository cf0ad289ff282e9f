//! The model of ARC: what its controllers and its listener do, by their published rules, without any I/O.
//!
//! [`Manager`] is fed what its watches show and what its calls brought, and says which calls it makes and when; the
//! passes in `runner_set`, `runner` and `scale_set` decide. A virtual clock and a real API server drive the same code.

pub mod bucket;
pub mod cache;
pub mod calls;
pub mod flags;
pub mod line;
pub mod listener;
pub mod manager;
pub mod objects;
pub mod queue;
pub mod runner;
pub mod runner_set;
pub mod scale_set;

pub use cache::Cache;
pub use calls::{Answer, Call, End, Failure, Step};
pub use flags::{Flags, Generation};
pub use listener::Listener;
pub use manager::Manager;
pub use objects::*;

//! What stands in for Actions Runner Controller: a model of its rules, what that model runs on, and the real programs where
//! their paths are given.

pub mod apply;
pub mod driver;
pub mod either;
pub mod model;
pub(crate) mod objects;
pub mod real;
pub mod scenario;
pub mod store;
pub mod timeline;
mod under_test;
pub mod virtual_run;

pub use objects::{ARC_NAMESPACE, LISTENERS, RUNNER_SETS, RUNNERS, SCALE_SETS, api};
pub use under_test::{Asked, IsSetUp, Runs, Tuning, UnderTest, namespace};

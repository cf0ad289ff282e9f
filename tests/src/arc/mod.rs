//! What stands in for Actions Runner Controller: a model of its rules, what that model runs on, and the real programs where
//! their paths are given.

pub mod apply;
pub mod driver;
pub mod either;
pub mod model;
pub mod real;
pub mod store;
pub mod virtual_run;

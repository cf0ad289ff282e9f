//! ARC as far as runner creation is concerned: a model of its published rules, what drives it, and the real programs.

pub mod apply;
pub mod driver;
pub mod model;
pub mod real;
pub mod store;
pub mod virtual_run;

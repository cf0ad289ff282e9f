//! ARC as far as runner creation is concerned: a model of its published rules, and what drives it.

pub mod apply;
pub mod driver;
pub mod model;
pub mod store;
pub mod virtual_run;

//! What `make bench-burst` is made of: which bursts, on which ARC, at what cost, with stock ARC and with Headstart.

pub mod cost;
pub mod matrix;
pub mod metrics;
pub mod rows;
pub mod shipped;
pub mod site;

//! What `make bench-cache` is made of: sources, the agent under measurement, and what an administrator would type instead.

pub mod agent;
pub mod rival;
pub mod source;
pub mod usage;

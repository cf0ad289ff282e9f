//! Nodes: what their agents report, and what the controller makes of it on the Node object.

mod condition;
mod reports;
mod writer;

pub use condition::{Condition, Verdict, judge};
pub use reports::{Reports, Seen};
pub use writer::NodeWriter;

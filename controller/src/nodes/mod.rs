//! Nodes: what their agents report, and what the controller makes of it on the Node object.

mod condition;
mod gone;
mod observed;
mod reports;
mod taints;
mod watcher;
mod writer;

pub use condition::{Condition, Verdict, judge};
pub use gone::{GoneNodes, Orphan};
pub use reports::{Reports, Seen, is_of_earlier_node};
pub use watcher::NodeWatcher;
pub use writer::NodeWriter;

//! Nodes: what their agents report, and what the controller makes of it on the Node object.

mod condition;
mod gone;
mod memory;
mod observed;
mod relist;
mod reports;
mod resource_version;
mod taints;
mod watcher;
mod writer;

pub use condition::{Condition, Verdict, judge};
pub use gone::{GoneNodes, Orphan};
pub use relist::Relist;
pub use reports::{Reports, Seen, is_of_earlier_node};
pub use taints::has_any;
pub use watcher::{NodeWatcher, Told};
pub use writer::{NodeWriter, has_traces, is_labelled};

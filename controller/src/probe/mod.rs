//! Which volume kinds work in which namespace: labels cannot show every policy, so pods of each shape are tried as a
//! dry run and read back.

mod auto;
mod outcome;
mod pods;
mod prober;
mod verdicts;

pub use auto::{Wish, choices};
pub use prober::Prober;
pub use verdicts::{Candidate, Pair, candidates, refuses_host_path};

//! What the tests that cross crates share: programs, sources, servers, waiting. Failures panic, as in any test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

pub mod agent;
pub mod archive;
pub mod bed;
pub mod deploy;
pub mod fixtures;
pub mod identity;
pub mod jobs;
pub mod load;
pub mod process;
pub mod programs;
pub mod server;
pub mod tree;
pub mod wait;

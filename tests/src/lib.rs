//! What the tests that cross crates share: programs, sources, servers, waiting. Failures panic, as in any test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

pub mod actions_service;
pub mod admission;
pub mod agent;
pub mod appender;
pub mod arc;
pub mod archive;
pub mod bed;
pub mod burst_bench;
pub mod cache_bench;
pub mod cases;
pub mod companion;
pub mod deploy;
pub mod depth;
pub mod fixtures;
pub mod front;
pub mod gate;
pub mod host_webhook;
pub mod identity;
pub mod installed;
pub mod jobs;
pub mod kwok;
pub mod load;
pub mod node_cache;
pub mod origin;
pub mod played;
pub mod played_agents;
pub mod pods;
pub mod power;
pub mod process;
pub mod programs;
pub mod published;
pub mod required;
pub mod schema;
pub mod server;
pub mod stand_in;
pub mod stored;
pub mod tree;
pub mod wait;

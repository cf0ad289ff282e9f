//! Runners created at once, with the shipped controller and webhook in a real API server, beside the real ARC where the
//! environment names it, else beside the model of it. Whatever is taken away or broken on the way: exactly as many runners as
//! there are jobs, nothing registered twice, nothing left over, and ARC has its set back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod api_server;
mod burst;
mod changes;
mod kills;
mod leftovers;
mod replicas;
mod service;
mod stage;
mod switches;
mod weak;
mod webhook;

//! The test bed: a real control plane and a real node from plain programs, which nothing survives.

pub mod command;
pub mod packages;
pub mod programs;
pub mod versions;

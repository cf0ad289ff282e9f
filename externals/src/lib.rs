//! The domain of Headstart, kept pure: no I/O, no clock, no async runtime, no Kubernetes client.
//!
//! Data flows one way through these types: a [`config::Config`] names profiles, each revision of a profile has a
//! [`version::VersionName`], an agent keeps that version on disk as [`layout`] and [`manifest`] say, tells so in
//! a [`report::NodeReport`], and the webhook mounts what the [`state::PublishedState`] offers.

pub mod arch;
pub mod config;
pub mod fault;
pub mod glob;
pub mod image;
pub mod layout;
pub mod manifest;
pub mod mount;
pub mod names;
pub mod pin;
pub mod recipe;
pub mod relpath;
pub mod report;
pub mod runner_sets;
pub mod selection;
pub mod staged;
pub mod state;
pub mod version;

//! The companion controller: the only writer of cluster state.
//!
//! One replica leads and does the duties of [`lead`]: it keeps the webhook's [`certificates`], decides what is
//! [`publish`]ed from the reports of [`nodes`] and from [`probe`]s, tells nodes what is known of them, and warns where
//! [`paired`] runners need what is not allowed any more.

pub mod args;
pub mod certificates;
pub mod config;
pub mod lead;
pub mod metrics;
pub mod nodes;
pub mod paired;
pub mod probe;
pub mod publish;
pub mod watched;

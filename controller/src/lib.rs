//! The companion controller: the only writer of cluster state.
//!
//! One replica leads and does the duties of [`lead`]: it keeps the webhook's [`certificates`], and [`round`] after round it
//! decides what is [`publish`]ed from the reports of [`nodes`] and from [`probe`]s, tells nodes what is known of them, tells
//! people what changed ([`events`]), and warns where [`paired`] runners need what is not allowed any more. [`actions`] is its
//! way to GitHub.

pub mod actions;
pub mod args;
mod bucket;
pub mod certificates;
pub mod config;
pub mod creation;
pub mod events;
pub mod lead;
pub mod metrics;
pub mod news;
pub mod nodes;
pub mod paired;
pub mod places;
pub mod probe;
pub mod publish;
mod relevant;
pub mod round;
pub mod watched;

//! The making of runners: a burst of them at once, where ARC makes one after the other.
//!
//! The [`engine`] decides and is pure: it knows every runner set that asks for it ([`borrow`]) and every runner that we make
//! ([`runner`]), what may be called at a time ([`gate`]), and what is written down beforehand ([`journal`]). It names the calls to be made
//! ([`call`]); whoever runs it makes them and tells what came of them.

pub mod borrow;
pub mod call;
pub mod engine;
pub mod gate;
pub mod journal;
pub mod names;
pub mod plan;
pub mod report;
pub mod runner;
pub mod view;

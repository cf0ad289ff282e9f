//! Load on the webhook: a client that costs little, requests of known sizes, and what came of them.

pub mod client;
pub mod figures;
pub mod phases;
pub mod reviews;
pub mod subject;

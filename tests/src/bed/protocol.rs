//! What owner, supervisor and service runner say to each other: one JSON document per line.

use serde::{Deserialize, Serialize};

use super::place::Place;

/// From the owner to the service runner. The end of the pipe is a message too: the owner is gone.
#[derive(Debug, Deserialize, Serialize)]
pub enum Request {
    /// Starts a service, and again whenever it ends by itself.
    Start(Service),
    /// Starts a service again that was stopped or killed.
    StartAgain(String),
    /// Asks it to end, and lets it stay away.
    Stop(String),
    /// Kills it, and lets it stay away.
    Kill(String),
    /// Kills it; it comes back at once, as under systemd.
    Crash(String),
    /// Sends it SIGUSR1, upon which some programs tell what they have done.
    Prod(String),
}

/// A program that is kept running.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Service {
    /// Its name, also that of its log.
    pub name: String,
    /// Path and arguments.
    pub words: Vec<String>,
    /// Folders that its search path begins with.
    pub path: Vec<String>,
}

/// To the owner.
#[derive(Debug, Deserialize, Serialize)]
pub enum Reply {
    /// From the supervisor: the place is there. In a node's box `process` is its first process.
    Placed {
        /// Where.
        place: Place,
        /// The box's first process, as this machine counts.
        process: Option<i32>,
    },
    /// From the service runner: done, or ready for requests.
    Done,
    /// It did not work, and why.
    Failed(String),
}

/// Prints a reply for the owner. Whether anybody listens makes no difference: without an owner all ends anyway.
pub fn reply(reply: &Reply) {
    use std::io::Write as _;
    if let Ok(line) = serde_json::to_string(reply) {
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }
}

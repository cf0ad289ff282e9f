//! Archives from servers: fetched if that is possible in any way, else refused with the right reason; trusted, and
//! told, only what they should be.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod transfers;
mod trust;

use std::sync::Arc;

use headstart_tests::agent::{Agent, Node};
use headstart_tests::archive::{Tar, config, config_of, sha256};
use headstart_tests::origin::{Answer, Asked, Origin};
use serde_json::Value;

/// A sound archive, long enough to be cut anywhere: most of it is noise that is not kept.
pub(crate) fn archive() -> Arc<[u8]> {
    let noise = std::iter::successors(Some(1_u32), |seed| {
        let seed = seed ^ (seed << 13);
        let seed = seed ^ (seed >> 17);
        Some(seed ^ (seed << 5))
    });
    let noise: Vec<u8> = noise.map(|seed| seed as u8).take(100_000).collect();
    Tar::sound().file("externals/noise", &noise, 0o644).packed("gz").into()
}

/// An agent without proxies.
pub(crate) fn start(node: &Node, flags: &[&str]) -> Agent {
    let mut command = node.command();
    for variable in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
        command.env_remove(variable);
    }
    command.args(flags);
    Agent::spawn(command)
}

/// A server, and a node that wants the archive from it.
pub(crate) async fn site(
    answers: impl Fn(usize, &Asked) -> Answer + Send + Sync + 'static,
) -> (Origin, Node) {
    let origin = Origin::serve(None, answers).await;
    let node = Node::new(&config(&format!("{}/source.tar.gz", origin.url), &sha256(&archive())));
    (origin, node)
}

pub(crate) fn message(status: &Value) -> &str {
    status["versions"][0]["fault"]["message"].as_str().unwrap()
}

/// A node that wants the archive from these addresses, in this order.
pub(crate) fn mirrored(urls: &[String]) -> Node {
    let mirrors: Vec<String> = urls[1..].iter().map(|url| format!("{{url: '{url}'}}")).collect();
    let (first, mirrors, digest) = (&urls[0], mirrors.join(", "), sha256(&archive()));
    Node::new(&config_of(&format!(
        "{{url: '{first}', format: tar.gz, mirrors: [{mirrors}], sha256: '{digest}'}}"
    )))
}

//! From inside a runner image: `headstart-cachesync stage` leaves a copy on the node, the agent installs from it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod agent;
mod program;

use std::fs;
use std::path::Path;
use std::process::Command;

use headstart_cachesync::tree::inspect::inspect;
use headstart_externals::config::Config;
use headstart_externals::layout::{Root, StagedDir};
use headstart_externals::manifest::tree_digest;
use headstart_externals::staged::{SourceRecord, StageOutcome};
use headstart_tests::agent::{Agent, Node};
use headstart_tests::programs::program;
use headstart_tests::tree::{self, NODE16, node16_config};

const IMAGE: &str = "example.com/runner:2.304.0";

/// Breaks something at a path.
type Spoiler = fn(&Path);

/// A node, and a runner's home with its externals as the stage sees them inside the image.
struct Site {
    node: Node,
}

impl Site {
    fn new() -> Self {
        let node = Node::new(&node16_config(&format!("{{runnerImage: {{image: '{IMAGE}'}}}}")));
        tree::write(&node.path("home/externals"), &NODE16);
        Self { node }
    }

    fn stage_of(&self, program: &Path, image: &str) -> Command {
        let mut command = Command::new(program);
        command.args(["--log-format", "json", "stage", "--image", image]);
        command.arg("--root").arg(self.node.root()).arg("--config").arg(self.node.path("config.yaml"));
        // Flags and variables are equally good.
        command.args(["--profile", "node16"]);
        command.arg("--externals").arg(self.node.path("home/externals"));
        command.env_remove("ACTIONS_RUNNER_CONTAINER_HOOK_TEMPLATE");
        command
    }

    fn stage(&self, image: &str) -> Command {
        self.stage_of(&program("headstart-cachesync"), image)
    }

    /// Stages from the right image.
    fn staged(&self) -> String {
        let output = self.stage(IMAGE).output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{log}");
        log
    }

    /// Stages in vain; the one message of the error.
    fn not_staged(&self, image: &str) -> String {
        let output = self.stage(image).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let log = String::from_utf8(output.stderr).unwrap();
        let errors: Vec<&str> = log.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{log}");
        errors[0].to_owned()
    }

    fn dir(&self) -> StagedDir {
        let text = fs::read_to_string(self.node.path("config.yaml")).unwrap();
        let version = Config::parse(&text).unwrap().revisions().next().unwrap().1.version.clone();
        Root::new(self.node.root()).staged_source(&version)
    }

    fn record(&self) -> SourceRecord {
        SourceRecord::parse(&fs::read(self.dir().record()).unwrap()).unwrap()
    }

    /// Whether a copy is there; if it is, it must be whole, and nothing may lie about.
    fn holds_copy(&self) -> bool {
        if !self.dir().record().exists() {
            assert!(!self.dir().path().exists(), "nothing half");
            return false;
        }
        let StageOutcome::Staged { tree_sha256, .. } = self.record().outcome else { panic!() };
        assert_eq!(tree_digest(&inspect(&self.dir().tree()).unwrap()), tree_sha256);
        true
    }
}

pub(crate) async fn logged(process: &Agent, message: &str) {
    process.says(message).await;
}

/// How often a message was logged.
pub(crate) fn count(process: &Agent, message: &str) -> usize {
    process.log().iter().filter(|line| line["message"] == message).count()
}

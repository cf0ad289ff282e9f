//! `kill -9` at every named step of an install, a repair and a removal: never a partial version, always convergence, nothing left over.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use headstart_cachesync::progress::Step;
use headstart_cachesync::tree::inspect::inspect;
use headstart_externals::config::Config;
use headstart_externals::layout::Root;
use headstart_externals::manifest::Manifest;
use headstart_externals::state::Phase;
use headstart_externals::version::VersionName;
use headstart_tests::agent::{Agent, Node};
use headstart_tests::archive::{Tar, config_for_file};
use headstart_tests::programs::program;
use headstart_tests::published::Publisher;
use headstart_tests::wait::until;

struct Case {
    node: Node,
    version: VersionName,
}

impl Case {
    fn new() -> Self {
        let node = Node::new("");
        let config = config_for_file(&node.path("source.tar.gz"), &Tar::sound().packed("gz"));
        node.configure(&config);
        let version = Config::parse(&config).unwrap().revisions().next().unwrap().1.version.clone();
        Self { node, version }
    }

    /// Runs the agent until it kills itself at `step`.
    async fn kill_at(&self, step: Step) {
        let mut command = self.node.command_of(Path::new(env!("CARGO_BIN_EXE_killed-agent")));
        command.env("KILL_AT", format!("{step:?}"));
        let mut agent = Agent::spawn(command);
        assert_eq!(agent.ended().await.signal(), Some(9), "{step:?}: {:?}", agent.log());
    }

    /// Whether the version is visible; if it is, it must be whole.
    fn visible(&self) -> bool {
        let dir = Root::new(self.node.root()).version(&self.version);
        if !dir.manifest().exists() {
            return false;
        }
        let manifest = Manifest::parse(&fs::read(dir.manifest()).unwrap()).unwrap();
        assert_eq!(inspect(&dir.tree()).unwrap(), manifest.files, "a visible version is whole");
        assert_eq!(fs::read_dir(dir.farm()).unwrap().count(), manifest.entries().len());
        true
    }

    /// Whoever mounts the version by its name finds something there.
    fn has_kept_its_name(&self, step: Step) {
        let found = self.node.list("versions");
        assert_eq!(found, [self.version.to_string()], "{step:?}: the name is never missing");
    }

    /// How many of the folders that gave way hold `path`.
    fn replaced_with(&self, path: &str) -> usize {
        let folders =
            self.node.list("replaced").into_iter().map(|name| self.node.root().join("replaced").join(name));
        folders.filter(|folder| folder.join(path).exists()).count()
    }

    /// A normal agent gets ready and leaves nothing but the version, and so many folders that gave way to it.
    async fn converges(&self, step: Step, replaced: usize) {
        let agent = self.node.start();
        agent.ready().await;
        assert!(self.visible());
        assert_eq!(self.node.list("versions"), [self.version.to_string()], "{step:?}");
        for folder in ["staging", "trash"] {
            assert_eq!(self.node.list(folder), [""; 0], "{step:?}: {folder} is swept");
        }
        assert_eq!(self.node.list("replaced").len(), replaced, "{step:?}: what gave way, and no build");
    }
}

#[tokio::test]
async fn a_first_install_is_all_or_nothing() {
    for step in Step::ALL.into_iter().filter(|step| *step != Step::MovedBeside) {
        let case = Case::new();
        case.kill_at(step).await;
        assert_eq!(case.visible(), step >= Step::Published, "{step:?}");
        assert_eq!(
            case.node.list("versions").is_empty(),
            step < Step::Published,
            "{step:?}: no partial version"
        );
        case.converges(step, 0).await;
    }
}

#[tokio::test]
async fn a_replacement_never_loses_the_name_nor_what_was_there() {
    for step in Step::ALL {
        let case = Case::new();
        let foreign = case.node.root().join("versions").join(case.version.as_str()).join("tree/precious");
        fs::create_dir_all(foreign.parent().unwrap()).unwrap();
        fs::write(&foreign, "in use").unwrap();
        case.kill_at(step).await;
        case.has_kept_its_name(step);
        case.converges(step, 1).await;
        assert_eq!(case.replaced_with("tree/precious"), 1, "{step:?}: what was there is kept");
    }
}

#[tokio::test]
async fn empty_folders_that_a_container_runtime_made_give_way() {
    for step in [Step::Synced, Step::MovedBeside, Step::NameSynced] {
        let case = Case::new();
        let made = case.node.root().join("versions").join(case.version.as_str()).join("tree");
        fs::create_dir_all(made).unwrap();
        case.kill_at(step).await;
        case.converges(step, 0).await;
    }
}

#[tokio::test]
async fn a_repair_is_all_or_nothing() {
    for step in Step::ALL {
        let case = Case::new();
        case.converges(step, 0).await;
        let node = case.node.root().join("versions").join(case.version.as_str()).join("tree/node16/bin/node");
        fs::write(&node, "damaged").unwrap();
        case.kill_at(step).await;
        case.has_kept_its_name(step);
        case.converges(step, 1).await;
    }
}

#[tokio::test]
async fn a_removal_takes_everything_or_is_taken_up_again() {
    let cluster = Publisher::start().await;
    let retired = "node16-ba9876543210";
    for step in Step::REMOVAL {
        let case = Case::new();
        let config =
            fs::read_to_string(case.node.path("config.yaml")).unwrap() + "\nrollout: {keepSeconds: 0}\n";
        case.node.configure(&config);
        let root = case.node.root();
        for folder in
            [format!("versions/{retired}"), format!("replaced/{retired}-1"), format!("staged/{retired}")]
        {
            fs::create_dir_all(root.join(&folder)).unwrap();
            fs::write(root.join(&folder).join("manifest.json"), "{}").unwrap();
        }
        cluster.publish(&config, &[(retired, Phase::Retired)]);
        let mut command = cluster.command(&case.node, Path::new(env!("CARGO_BIN_EXE_killed-agent")));
        command.env("KILL_AT", format!("{step:?}"));
        let mut agent = Agent::spawn(command);
        assert_eq!(agent.ended().await.signal(), Some(9), "{step:?}: {:?}", agent.log());
        assert!(case.visible(), "{step:?}: what is wanted is not touched");
        let agent = Agent::spawn(cluster.command(&case.node, &program("headstart-cachesync")));
        agent.ready().await;
        let gone = || async {
            let left = ["replaced", "staged", "trash", "staging"].map(|folder| case.node.list(folder).len());
            (left == [0; 4] && case.node.list("versions").len() == 1).then_some(())
        };
        until("nothing of it is left", gone).await;
        assert!(case.visible(), "{step:?}");
    }
}

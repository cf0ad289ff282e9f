//! What is interrupted: a node with something to do, and what must hold of it at any time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use headstart_cachesync::progress::Step;
use headstart_cachesync::tree::inspect::inspect;
use headstart_externals::config::Config;
use headstart_externals::layout::Root;
use headstart_externals::manifest::{Manifest, tree_digest};
use headstart_externals::staged::{SourceRecord, StageOutcome};
use headstart_externals::state::Phase;
use headstart_externals::version::VersionName;
use headstart_tests::agent::{Agent, Node};
use headstart_tests::archive::{Tar, config_for_file};
use headstart_tests::power::Power;
use headstart_tests::programs::program;
use headstart_tests::published::Publisher;
use headstart_tests::tree::{self, NODE16, node16_config};
use headstart_tests::wait::until;

const IMAGE: &str = "example.com/runner:2.304.0";

/// What takes the place of Node.js in a damaged version.
const DAMAGE: &str = "damaged";

/// A version that nobody wants.
pub(crate) const RETIRED: &str = "node16-ba9876543210";

/// What is interrupted.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Work {
    /// The first install of a version.
    Install,
    /// The repair of a damaged one.
    Repair,
    /// An install where something foreign lies under the name.
    Replace,
    /// A stage run.
    Stage,
    /// The removal of everything.
    Purge,
    /// The removal of a version that no pod names any more.
    Retire,
}

pub(crate) const WORKS: [Work; 6] =
    [Work::Install, Work::Repair, Work::Replace, Work::Stage, Work::Purge, Work::Retire];

/// How an agent or a stage run came to its end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    /// It killed itself at the step that it was told.
    Killed,
    /// The disk had no power any more.
    PowerFailed,
    /// All was done before.
    Done,
}

/// A node with something to do.
pub(crate) struct Site<'c> {
    pub(crate) node: Node,
    pub(crate) version: VersionName,
    pub(crate) work: Work,
    /// Where versions are retired.
    pub(crate) cluster: Option<&'c Publisher>,
}

/// A cluster in which [`RETIRED`] is.
pub(crate) async fn retiring() -> Publisher {
    let cluster = Publisher::start().await;
    let site = Site::new(Work::Install).await;
    let config = fs::read_to_string(site.node.path("config.yaml")).unwrap();
    cluster.publish(&config, &[(RETIRED, Phase::Retired)]);
    cluster
}

/// The version that the configuration asks for.
pub(crate) fn wanted(node: &Node) -> VersionName {
    let config = Config::parse(&fs::read_to_string(node.path("config.yaml")).unwrap()).unwrap();
    config.revisions().next().unwrap().1.version.clone()
}

impl<'c> Site<'c> {
    /// For work that needs no cluster.
    pub(crate) async fn new(work: Work) -> Self {
        Self::make(work, None).await
    }

    /// For any work, with what [`retiring`] gave.
    pub(crate) async fn with(work: Work, cluster: &'c Publisher) -> Self {
        Self::make(work, (work == Work::Retire).then_some(cluster)).await
    }

    async fn make(work: Work, cluster: Option<&'c Publisher>) -> Self {
        let node = Node::new("");
        let config = match work {
            Work::Stage => node16_config(&format!("{{runnerImage: {{image: '{IMAGE}'}}}}")),
            _ => config_for_file(&node.path("source.tar.gz"), &Tar::sound().packed("gz")),
        };
        let config = format!("{}\nrollout: {{keepSeconds: 0}}\n", config.trim_end());
        node.configure(&config);
        tree::write(&node.path("home/externals"), &NODE16);
        fs::create_dir(node.root()).unwrap();
        let site = Self { version: wanted(&node), node, work, cluster };
        match work {
            Work::Install | Work::Stage => {}
            Work::Repair => {
                site.node.start().ready().await;
                fs::write(site.binary(), DAMAGE).unwrap();
            }
            Work::Replace => tree::write_file(&site.binary(), DAMAGE.as_bytes(), 0o644),
            Work::Purge | Work::Retire => {
                site.node.start().ready().await;
                for folder in [format!("replaced/{RETIRED}-1"), format!("staged/{RETIRED}")] {
                    tree::write_file(&site.node.root().join(folder).join("file"), b"x", 0o644);
                }
                let old = site.layout().version(&RETIRED.parse().unwrap());
                tree::write_file(&old.manifest(), b"{}", 0o644);
                tree::write_file(&old.tree().join("node16/bin/node"), b"old", 0o755);
            }
        }
        site
    }

    fn layout(&self) -> Root {
        Root::new(self.node.root())
    }

    /// A file of the version that is damaged, or that somebody else made.
    fn binary(&self) -> PathBuf {
        self.layout().version(&self.version).tree().join("node16/bin/node")
    }

    /// The work as a command of `program`.
    pub(crate) fn command(&self, program: &Path) -> Command {
        if let Some(cluster) = self.cluster {
            return cluster.command(&self.node, program);
        }
        let mut command = Command::new(program);
        if self.work == Work::Purge {
            command.args(["--log-format", "json", "purge", "--standalone", "--root"]).arg(self.node.root());
            return command;
        }
        if self.work != Work::Stage {
            return self.node.command_of(program);
        }
        command.args(["--log-format", "json", "stage", "--profile", "node16", "--image", IMAGE, "--root"]);
        command.arg(self.node.root()).arg("--config").arg(self.node.path("config.yaml"));
        command.arg("--externals").arg(self.node.path("home/externals"));
        command.env_remove("ACTIONS_RUNNER_CONTAINER_HOOK_TEMPLATE");
        command
    }

    /// Works until it is done, or killed at `step`, or the power fails; then it is killed in any case.
    pub(crate) async fn work(&self, step: Option<Step>, power: &Power) -> End {
        let mut command = self.command(Path::new(env!("CARGO_BIN_EXE_killed-agent")));
        if let Some(step) = step {
            command.env("KILL_AT", format!("{step:?}"));
        }
        let agent = Agent::spawn(command);
        until(&format!("the end of {:?} at {step:?}", self.work), || async {
            if power.has_failed() {
                return Some(End::PowerFailed);
            }
            if agent.end().is_some_and(|end| end.killed()) {
                return Some(End::Killed);
            }
            self.is_done(&agent).await.then_some(End::Done)
        })
        .await
    }

    pub(crate) async fn is_done(&self, agent: &Agent) -> bool {
        if matches!(self.work, Work::Stage | Work::Purge) {
            return agent.end().is_some_and(|end| end.exit_status() == Some(0));
        }
        let Some((_, status)) = agent.get("/v1/status").await else { return false };
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        status["ready"] == true && self.is_whole() && self.is_retired()
    }

    /// Whether the work is done, by what is on the disk.
    pub(crate) fn has_been_done(&self) -> bool {
        match self.work {
            Work::Purge => !self.node.root().exists(),
            Work::Retire => self.is_retired(),
            _ => self.is_whole(),
        }
    }

    /// Whether nothing is left of what was to be removed.
    fn is_retired(&self) -> bool {
        let left = |folder: &str| self.node.list(folder).iter().any(|name| name.starts_with(RETIRED));
        self.work != Work::Retire
            || !(left("versions")
                || left("replaced")
                || left("staged")
                || !self.node.list("trash").is_empty())
    }

    /// Whether the result of the work is there, whole.
    pub(crate) fn is_whole(&self) -> bool {
        if self.work == Work::Stage {
            let staged = self.layout().staged_source(&self.version);
            let Ok(record) = fs::read(staged.record()) else { return false };
            let Ok(StageOutcome::Staged { tree_sha256, .. }) =
                SourceRecord::parse(&record).map(|record| record.outcome)
            else {
                return false;
            };
            return inspect(&staged.tree()).is_ok_and(|files| tree_digest(&files) == tree_sha256);
        }
        self.is_version_whole()
    }

    fn is_version_whole(&self) -> bool {
        let dir = self.layout().version(&self.version);
        let Some(manifest) = fs::read(dir.manifest()).ok().and_then(|text| Manifest::parse(&text).ok())
        else {
            return false;
        };
        let links = fs::read_dir(dir.farm()).map_or(0, Iterator::count);
        links == manifest.entries().len() && inspect(&dir.tree()).is_ok_and(|files| files == manifest.files)
    }

    /// What is there after a crash, before anybody looks after it.
    pub(crate) fn is_sound(&self, context: &str) {
        let folder = if self.work == Work::Stage { "staged" } else { "versions" };
        let is_there = self.node.list(folder).contains(&self.version.to_string());
        match self.work {
            Work::Install | Work::Stage => {
                assert!(!is_there || self.is_whole(), "{context}: half a version in {folder}");
            }
            Work::Purge => assert!(!is_there || self.is_whole(), "{context}: half a version is left"),
            Work::Retire => assert!(self.is_whole(), "{context}: what is wanted is not touched"),
            Work::Repair | Work::Replace => {
                assert!(is_there, "{context}: the name is never missing");
                assert!(self.is_as_before() || self.is_whole(), "{context}: the old folder or the new one");
            }
        }
    }

    fn is_as_before(&self) -> bool {
        fs::read_to_string(self.binary()).is_ok_and(|text| text == DAMAGE)
    }

    /// Whether what was under the name, if anything was, still is, or gave way.
    pub(crate) fn has_kept_the_old(&self) -> bool {
        if !matches!(self.work, Work::Repair | Work::Replace) {
            return true;
        }
        let replaced = self.node.list("replaced").into_iter();
        let mut binaries =
            replaced.map(|name| self.node.root().join("replaced").join(name).join("tree/node16/bin/node"));
        self.is_as_before()
            || binaries.any(|binary| fs::read_to_string(binary).is_ok_and(|text| text == DAMAGE))
    }

    /// A normal agent gets everything ready and leaves nothing else.
    pub(crate) async fn converges(&self, context: &str) {
        if self.work == Work::Stage {
            let output = self.command(&program("headstart-cachesync")).output().unwrap();
            assert!(output.status.success(), "{context}: {}", String::from_utf8_lossy(&output.stderr));
            assert!(self.is_whole(), "{context}");
            assert_eq!(self.node.list("staged/building"), [""; 0], "{context}");
        }
        if self.work == Work::Purge {
            let output = self.command(&program("headstart-cachesync")).output().unwrap();
            assert!(output.status.success(), "{context}: {}", String::from_utf8_lossy(&output.stderr));
            assert!(!self.node.root().exists(), "{context}: nothing is left");
            return;
        }
        let agent = Agent::spawn(match self.cluster {
            Some(cluster) => cluster.command(&self.node, &program("headstart-cachesync")),
            None => self.node.command(),
        });
        agent.ready().await;
        until(&format!("{context}: nothing of the retired version"), || async {
            self.is_retired().then_some(())
        })
        .await;
        until(&format!("{context}: a whole version"), || async { self.is_version_whole().then_some(()) })
            .await;
        assert_eq!(self.node.list("versions"), [self.version.to_string()], "{context}");
        for folder in ["staging", "trash"] {
            assert_eq!(self.node.list(folder), [""; 0], "{context}: {folder} is swept");
        }
        if self.work == Work::Install {
            assert_eq!(self.node.list("replaced"), [""; 0], "{context}: nothing was in the way");
        }
    }
}

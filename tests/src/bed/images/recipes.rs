//! What is in each test image.

use std::path::Path;

use clap::ValueEnum;

use super::externals::{self, Externals};
use super::host;
use super::npm::Packages;
use crate::bed::image::{Config, Image, Layer, Owner, ROOT};

const PAUSE: &str = include_str!("../../../bed/images/pause.c");
const SUDO: &str = include_str!("../../../bed/images/sudo.c");
const PASSWD: &str = include_str!("../../../bed/images/passwd");
const GROUP: &str = include_str!("../../../bed/images/group");
const RUN: &str = include_str!("../../../bed/images/run.sh");
const INDEX: &str = include_str!("../../../bed/images/index.js");
const COPY: &str = include_str!("../../../bed/images/copy.js");
const MEASURE: &str = include_str!("../../../bed/images/measure.js");
const NOVOLUME: &str = include_str!("../../../bed/images/novolume.js");
const START: &str = include_str!("../../../bed/images/start.sh");

/// The files of the repository that go into images.
pub(super) const FILES: [&str; 10] = [PAUSE, SUDO, PASSWD, GROUP, RUN, INDEX, COPY, MEASURE, NOVOLUME, START];

/// Owner of the runner's home.
const RUNNER: Owner = Owner { uid: 1001, gid: 1001 };

/// Owner of what the runner image puts there.
const RUNNER_FILES: Owner = Owner { uid: 1001, gid: 123 };

const HOME: &str = "/home/runner";

/// Where images of the older controller keep the runner until their start script fills its folder.
const ASSETS: &str = "/runnertmp";

/// An image that plays a part in tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TestImage {
    /// The sandbox of every pod.
    Pause,
    /// A shell and small tools, static.
    Busybox,
    /// What a job may run in: the small tools, bash, and the C library that Node.js needs.
    Job,
    /// What the built-in profile keeps of the externals, as the root of an image; for image volumes.
    Externals,
    /// The runner, with real externals; its `run.sh` makes the copy of the legacy hooks.
    Runner,
    /// A later runner, whose hooks read templates; of its externals, the programs.
    NewerRunner,
    /// A runner of the older controller, whose start script copies real externals.
    OlderRunner,
}

impl TestImage {
    /// All of them, small ones first.
    pub const ALL: [Self; 7] = [
        Self::Pause,
        Self::Busybox,
        Self::Job,
        Self::Externals,
        Self::OlderRunner,
        Self::NewerRunner,
        Self::Runner,
    ];

    /// The name that pods use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pause => "bed.test/pause:1",
            Self::Busybox => "bed.test/busybox:1",
            Self::Job => "bed.test/job:1",
            Self::Externals => "bed.test/externals:1",
            Self::Runner => "ghcr.io/actions/actions-runner:2.304.0",
            Self::NewerRunner => "ghcr.io/actions/actions-runner:2.317.0",
            Self::OlderRunner => "summerwind/actions-runner:v2.304.0-ubuntu-22.04",
        }
    }

    /// The name of its archive, without the end.
    pub(super) fn file_name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Busybox => "busybox",
            Self::Job => "job",
            Self::Externals => "externals",
            Self::Runner => "runner",
            Self::NewerRunner => "newer-runner",
            Self::OlderRunner => "older-runner",
        }
    }
}

/// What recipes work with.
pub(super) struct Inputs<'a> {
    pub(super) packages: Packages,
    /// Where downloads are kept.
    pub(super) cache: &'a Path,
    /// Where things are made that go into a layer.
    pub(super) work: &'a Path,
}

/// Prepares an image.
pub(super) fn image(image: TestImage, inputs: &Inputs<'_>) -> anyhow::Result<Image> {
    let name = image.name().to_owned();
    let (layers, config) = match image {
        TestImage::Pause => {
            let config = Config { entrypoint: vec!["/pause".to_owned()], ..Config::default() };
            (vec![pause(inputs.work)?], config)
        }
        TestImage::Busybox => (vec![tools(inputs.cache)?], Config::default()),
        TestImage::Job => (vec![tools(inputs.cache)?, libraries()?], Config::default()),
        TestImage::Externals => (vec![externals::kept(&inputs.packages, inputs.work)?], Config::default()),
        TestImage::Runner => {
            (runner(inputs, |externals, layer| externals.whole(layer, externals::RUNNER))?, runner_config())
        }
        TestImage::NewerRunner => {
            (runner(inputs, |externals, layer| externals.programs(layer, externals::NEWER))?, runner_config())
        }
        TestImage::OlderRunner => (older_runner(inputs)?, older_config()),
    };
    Ok(Image { name, layers, config })
}

fn pause(work: &Path) -> anyhow::Result<Layer> {
    let program = work.join("pause");
    host::compile(PAUSE, &program)?;
    Ok(Layer::default().file("/pause", program.as_path(), 0o755, ROOT))
}

/// busybox under all its names, and who is who.
fn tools(cache: &Path) -> anyhow::Result<Layer> {
    let busybox = host::busybox(cache)?;
    let mut layer = Layer::default()
        .file("/bin/busybox", busybox.as_path(), 0o755, ROOT)
        .link("/usr/bin/env", "/bin/busybox", ROOT)
        .file("/etc/passwd", PASSWD, 0o644, ROOT)
        .file("/etc/group", GROUP, 0o644, ROOT)
        .folder("/root", 0o700, ROOT)
        .folder("/tmp", 0o1777, ROOT);
    for applet in host::applets(&busybox)? {
        layer = layer.link(&format!("/bin/{applet}"), "busybox", ROOT);
    }
    Ok(layer)
}

/// bash, and what it and Node.js need to run.
fn libraries() -> anyhow::Result<Layer> {
    let bash = Path::new("/bin/bash");
    let node = crate::tree::real_node();
    let release = "ID=ubuntu\nNAME=Ubuntu\nPRETTY_NAME=\"stands in for Ubuntu\"\n";
    let mut layer =
        Layer::default().file("/bin/bash", bash, 0o755, ROOT).file("/etc/os-release", release, 0o644, ROOT);
    for (path, file) in host::libraries(&[bash, &node])? {
        layer = layer.file(&path, file.as_path(), 0o755, ROOT);
    }
    Ok(layer)
}

fn runner(
    inputs: &Inputs<'_>,
    add: impl FnOnce(Externals<'_>, Layer) -> anyhow::Result<Layer>,
) -> anyhow::Result<Vec<Layer>> {
    let Inputs { packages, work, .. } = inputs;
    let path = &format!("{HOME}/externals");
    let layer = home().folder(path, 0o755, RUNNER_FILES);
    let externals = add(Externals { path, owner: RUNNER_FILES, packages, work }, layer)?;
    Ok(vec![tools(inputs.cache)?, libraries()?, sudo(work)?, externals, program(packages, work)?])
}

/// Everything belongs to root until the start script copies it.
fn older_runner(inputs: &Inputs<'_>) -> anyhow::Result<Vec<Layer>> {
    let Inputs { packages, work, .. } = inputs;
    let path = &format!("{ASSETS}/externalstmp");
    let externals = Externals { path, owner: ROOT, packages, work };
    let externals = externals.whole(Layer::default(), externals::OLDER)?;
    let program = Layer::default().file("/usr/bin/start.sh", START, 0o755, ROOT).file(
        &format!("{ASSETS}/measure.js"),
        MEASURE,
        0o644,
        ROOT,
    );
    Ok(vec![tools(inputs.cache)?, libraries()?, sudo(work)?, externals, program])
}

/// The home as Ubuntu's adduser makes it: closed to others.
fn home() -> Layer {
    Layer::default().folder(HOME, 0o750, RUNNER)
}

fn sudo(work: &Path) -> anyhow::Result<Layer> {
    let program = work.join("sudo");
    host::compile(SUDO, &program)?;
    Ok(Layer::default().file("/usr/bin/sudo", program.as_path(), 0o4755, ROOT))
}

/// What plays the runner and its hooks.
fn program(packages: &Packages, work: &Path) -> anyhow::Result<Layer> {
    let io = work.join("io");
    packages.unpack("@actions/io@1.1.2", &io)?;
    let folder = |layer: Layer, name: &str| layer.folder(&format!("{HOME}/{name}"), 0o755, RUNNER_FILES);
    let file = |layer: Layer, name: &str, content: &str, mode| {
        layer.file(&format!("{HOME}/{name}"), content, mode, RUNNER_FILES)
    };
    let folders = ["k8s", "k8s/node_modules", "k8s/node_modules/@actions", "k8s-novolume"];
    let layer = folders.into_iter().fold(home(), folder);
    let layer = file(layer, "run.sh", RUN, 0o755);
    let layer = file(layer, "k8s/index.js", INDEX, 0o644);
    let layer = file(layer, "k8s/copy.js", COPY, 0o644);
    let layer = file(layer, "k8s/measure.js", MEASURE, 0o644);
    let layer = file(layer, "k8s-novolume/index.js", NOVOLUME, 0o644);
    layer.tree(&format!("{HOME}/k8s/node_modules/@actions/io"), &io, RUNNER_FILES)
}

fn runner_config() -> Config {
    Config {
        entrypoint: Vec::new(),
        env: ["RUNNER_MANUALLY_TRAP_SIG=1", "ACTIONS_RUNNER_PRINT_LOG_TO_STDOUT=1"].map(str::to_owned).into(),
        user: "runner".to_owned(),
        working_dir: HOME.to_owned(),
    }
}

fn older_config() -> Config {
    Config {
        entrypoint: ["/bin/bash", "/usr/bin/start.sh"].map(str::to_owned).into(),
        env: vec![format!("RUNNER_ASSETS_DIR={ASSETS}")],
        user: "runner".to_owned(),
        working_dir: String::new(),
    }
}

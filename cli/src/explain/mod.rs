//! `headstart explain`: the webhook's own decision over pods in files, with the patch and the reason.

mod input;
mod output;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use headstart_externals::config::Config;
use headstart_externals::state::{MountKind, Phase, PublishedState, PublishedVersion};
use headstart_webhook::decide::{Context, decide};

use input::{Subject, Unreadable};
use output::{Explanation, Format};

/// Exit code where an input could not be read; what could be read was explained.
const UNREADABLE: u8 = 2;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Pods, Jobs or AdmissionReviews as JSON or YAML: files, folders of them, or `-` for standard input
    #[arg(required = true, value_name = "FILE")]
    inputs: Vec<PathBuf>,

    /// Configuration file; by default the built-in profile
    #[arg(long, env = "HEADSTART_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// How the tree gets into the pod
    #[arg(long, default_value = "hostpath", value_parser = parse_kind, value_name = "hostpath|image")]
    mount: MountKind,

    /// Let the first profile stand for every image, and for the version that a workflow pod's label would name
    #[arg(long)]
    any_image: bool,

    /// How to print: readable text, or one JSON object per pod
    #[arg(short, long, default_value = "text")]
    output: Format,
}

fn parse_kind(text: &str) -> Result<MountKind, String> {
    match text {
        "hostpath" => Ok(MountKind::HostPath),
        "image" => Ok(MountKind::Image),
        _ => Err("must be hostpath or image".to_owned()),
    }
}

/// Explains every input and reports those that cannot be read.
pub(crate) fn run(args: &Args) -> ExitCode {
    match explain_all(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(UNREADABLE),
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => headstart_runtime::program::fail(&error),
    }
}

/// Nobody reads any more, as in `headstart explain … | head`: not an error.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Whether every input could be read.
fn explain_all(args: &Args) -> anyhow::Result<bool> {
    let state = PublishedState::immediate(&load_config(args.config.as_deref())?);
    let assumed = args.any_image.then(|| newest_of_first_profile(&state)).flatten();
    let mut all_read = true;
    for file in input::files(&args.inputs) {
        for subject in file.map_or_else(|unreadable| vec![Err(unreadable)], |file| input::read(&file)) {
            match subject {
                Ok(subject) => output::print(args.output, &explain(subject, &state, assumed, args.mount))?,
                Err(Unreadable { skipped: true, place, cause }) => eprintln!("skipped: {place}: {cause}"),
                Err(Unreadable { skipped: false, place, cause }) => {
                    all_read = false;
                    eprintln!("error: {place}: {cause}");
                }
            }
        }
    }
    Ok(all_read)
}

/// The configuration at `path`, or the one that the program brings along.
pub(crate) fn load_config(path: Option<&Path>) -> anyhow::Result<Config> {
    let Some(path) = path else { return Config::embedded().context("bad embedded configuration") };
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("failed to read {}; give an existing file with --config", path.display()))?;
    Config::parse(&text).with_context(|| format!("bad configuration {}", path.display()))
}

fn newest_of_first_profile(state: &PublishedState) -> Option<&PublishedVersion> {
    state.versions.iter().find(|version| version.phase == Phase::Offered)
}

fn explain(
    subject: Subject,
    state: &PublishedState,
    assumed: Option<&PublishedVersion>,
    kind: MountKind,
) -> Explanation {
    let Subject { input, namespace, pod: before } = subject;
    let mut after = before.clone();
    let context = Context { namespace: &namespace, kinds: &[kind], state: Ok(state), assumed };
    let decision = decide(&mut after, context);
    Explanation { input, before, after, decision }
}

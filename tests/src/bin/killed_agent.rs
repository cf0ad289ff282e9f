//! The agent's own library, killed by SIGKILL the moment an install, a stage run or a removal reaches the step named in `KILL_AT`.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use headstart_cachesync::args::{Args, Command, prepare};
use headstart_cachesync::{purge, stage};
use headstart_runtime::program;

fn main() -> ExitCode {
    let Args { command, log } = Args::parse();
    log.init();
    let kill_at = std::env::var("KILL_AT").unwrap_or_default();
    let on_step = Arc::new(move |step| {
        if format!("{step:?}") == kill_at {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    });
    match command {
        Command::Run(args) => {
            program::run(async |shutdown| prepare(args, on_step, shutdown).await?.run().await)
        }
        Command::Stage(args) => program::run(async |shutdown| stage::run(args, on_step, shutdown).await),
        Command::Purge(args) => program::run(async |shutdown| purge::run(args, on_step, shutdown).await),
        Command::CopyProgram(_) | Command::Idle => ExitCode::FAILURE,
    }
}

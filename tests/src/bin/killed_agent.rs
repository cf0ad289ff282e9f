//! The agent's own library, killed by SIGKILL the moment an install reaches the step named in `KILL_AT`.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use headstart_cachesync::args::{Args, Command, prepare};

fn main() -> ExitCode {
    let Args { command: Command::Run(args), log } = Args::parse();
    log.init();
    let kill_at = std::env::var("KILL_AT").unwrap_or_default();
    let on_step = Arc::new(move |step| {
        if format!("{step:?}") == kill_at {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    });
    headstart_runtime::program::run(async |shutdown| prepare(args, on_step, shutdown).await?.run().await)
}

//! `headstart-cachesync`: parse the flags, run what they ask for.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use headstart_cachesync::args::{Args, Command, prepare};
use headstart_cachesync::{copy_program, purge, stage};
use headstart_runtime::program;

fn main() -> ExitCode {
    let Args { command, log } = Args::parse();
    log.init();
    match command {
        Command::Run(args) => {
            program::run(async |shutdown| prepare(args, Arc::new(|_| {}), shutdown).await?.run().await)
        }
        Command::Stage(args) => {
            program::run(async |shutdown| stage::run(args, Arc::new(|_| {}), shutdown).await)
        }
        Command::Purge(args) => {
            program::run(async |shutdown| purge::run(args, Arc::new(|_| {}), shutdown).await)
        }
        Command::CopyProgram(args) => {
            copy_program::run(&args).map_or_else(|error| program::fail(&error), |()| ExitCode::SUCCESS)
        }
        Command::Idle => program::run(async |shutdown| {
            tracing::info!("idle until a signal comes");
            shutdown.begun().await;
            Ok(())
        }),
    }
}

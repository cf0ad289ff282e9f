//! The test bed by hand: builds what tests run on.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use headstart_tests::bed::images;

/// The test bed of Headstart
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Container images, built without a daemon
    Images(images::Args),
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Images(args) => images::main(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => headstart_runtime::program::fail(&error),
    }
}

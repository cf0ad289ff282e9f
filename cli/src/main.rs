//! `headstart`: explain what Headstart does to a pod, and show it at work on this machine.

mod demo;
mod diff;
mod explain;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// GitHub Actions jobs on Kubernetes that start at once.
#[derive(Parser)]
#[command(name = "headstart", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Tell what Headstart does to pods, without a cluster
    Explain(explain::Args),
    /// Show Headstart's main job on this machine: no cluster, no root, no network
    Demo(demo::Args),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Explain(args) => explain::run(&args),
        Command::Demo(args) => {
            headstart_runtime::program::run(async |shutdown| demo::run(args, shutdown).await)
        }
    }
}

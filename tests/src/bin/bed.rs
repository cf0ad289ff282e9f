//! The test bed by hand: what the Makefile calls, and what the harness starts as its own helpers.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use headstart_tests::bed::programs::Programs;
use headstart_tests::bed::versions::Minor;

#[derive(Parser)]
#[command(about = "A real Kubernetes on this machine, for tests")]
struct Args {
    #[command(subcommand)]
    command: Do,
}

#[derive(Subcommand)]
enum Do {
    /// Build programs into the cache
    Programs {
        /// Names of programs
        names: Vec<String>,
        /// Of the oldest supported Kubernetes
        #[arg(long)]
        oldest: bool,
    },
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => headstart_runtime::program::fail(&error),
    }
}

fn run(command: Do) -> Result<()> {
    match command {
        Do::Programs { names, oldest } => {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let minor = if oldest { Minor::Oldest } else { Minor::Newest };
            let programs = Programs::obtain(&names, minor)?;
            for name in names {
                println!("{}", programs.path(name)?.display());
            }
            Ok(())
        }
    }
}

//! `headstart-cachesync`: parse the flags, run.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use headstart_cachesync::args::{Args, Command, prepare};

/// musl's own allocator is several times slower.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let Args { command, log } = Args::parse();
    log.init();
    match command {
        Command::Run(args) => headstart_runtime::program::run(async |shutdown| {
            prepare(args, Arc::new(|_| {}), shutdown).await?.run().await
        }),
    }
}

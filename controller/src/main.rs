//! `headstart-controller`: parse the flags, run.

use std::process::ExitCode;

use clap::Parser;
use headstart_controller::args::{Args, prepare};

/// musl's own allocator is several times slower.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    args.log.init();
    headstart_runtime::program::run(async |shutdown| prepare(args, shutdown).await?.run().await)
}

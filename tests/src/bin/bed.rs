//! The test bed by hand: what the Makefile calls, and what the harness starts as its own helpers.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use headstart_tests::bed::kept::Wish;
use headstart_tests::bed::place::Place;
use headstart_tests::bed::programs::Programs;
use headstart_tests::bed::supervise::{self, Shape};
use headstart_tests::bed::{Minor, cluster, images, init, kept};
use headstart_tests::power;

#[derive(Parser)]
#[command(about = "A real Kubernetes on this machine, for tests")]
struct Args {
    #[command(subcommand)]
    command: Do,
}

#[derive(Subcommand)]
enum Do {
    /// Start a cluster that stays, with Headstart installed
    Up {
        /// Without Headstart
        #[arg(long)]
        bare: bool,
    },
    /// Take it down; fails if anything is left
    Down,
    /// Say which tests that need rights of this machine run, and which are passed over
    Node,
    /// Container images, built without a daemon
    Images(images::Args),
    /// Build programs into the cache
    Programs {
        /// Names of programs; without any, all that the tests use on this machine
        names: Vec<String>,
        /// Of the oldest supported Kubernetes
        #[arg(long)]
        oldest: bool,
    },
    /// Own a cluster until SIGTERM; started by `up`
    #[command(hide = true)]
    Hold {
        #[command(flatten)]
        wish: Wish,
    },
    /// Make a bed and clean up behind it; started by its owner
    #[command(hide = true)]
    Supervise {
        #[arg(long)]
        node: bool,
        #[arg(long)]
        kept: bool,
    },
    /// Hold the namespaces of a box; started by the supervisor
    #[command(hide = true)]
    Box {
        #[arg(long, value_parser = place)]
        place: Place,
    },
    /// Run a bed's services; started by the supervisor or as the first process of a box
    #[command(hide = true)]
    Init {
        #[arg(long, value_parser = place)]
        place: Place,
        #[arg(long)]
        boxed: bool,
    },
}

fn place(text: &str) -> serde_json::Result<Place> {
    serde_json::from_str(text)
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => headstart_runtime::program::fail(&error),
    }
}

fn run(command: Do) -> Result<()> {
    match command {
        Do::Up { bare } => kept::up(Wish { kept: true, bare }),
        Do::Down => kept::down(),
        Do::Node => {
            say_whether_they_run("a real node", cluster::node_unavailable());
            say_whether_they_run("power cuts", power::unavailable());
            Ok(())
        }
        Do::Images(args) => images::main(args),
        Do::Programs { names, .. } if names.is_empty() => cluster::prepare(),
        Do::Programs { names, oldest } => {
            programs(&names, if oldest { Minor::Oldest } else { Minor::Newest })
        }
        Do::Hold { wish } => tokio::runtime::Runtime::new()?.block_on(kept::hold(wish)),
        Do::Supervise { node, kept } => {
            supervise::supervise(Shape { node, kept }).inspect_err(supervise::report)
        }
        Do::Box { place } => supervise::enter_box(&place),
        Do::Init { place, boxed } => init::run(&place, boxed),
    }
}

fn say_whether_they_run(what: &str, unavailable: Option<String>) {
    let verdict = unavailable.map(|reason| format!("are passed over: {reason}"));
    println!("tests of {what} {}", verdict.as_deref().unwrap_or("run"));
}

fn programs(names: &[String], minor: Minor) -> Result<()> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let programs = Programs::obtain(&names, minor)?;
    for name in names {
        println!("{}", programs.path(name)?.display());
    }
    Ok(())
}

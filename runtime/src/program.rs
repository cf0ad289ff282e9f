//! The frame of a program: runtime, signals, supervision of its tasks, exit code.

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::{Resource, Rlimit};
use tokio::task::JoinSet;

use crate::shutdown::{Shutdown, Signals};

/// How long blocking work may go on after everything else has ended; it is safe to kill at any point.
const BLOCKING_GRACE: Duration = Duration::from_millis(200);

/// Runs `main` until it ends; the first signal begins the shutdown, a second one aborts.
pub fn run(main: impl AsyncFnOnce(Shutdown) -> anyhow::Result<()>) -> ExitCode {
    install_crypto();
    allow_many_connections();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("failed to start the async runtime")),
    };
    let result = runtime.block_on(until_aborted(main));
    runtime.shutdown_timeout(BLOCKING_GRACE);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Makes the one crypto provider of the workspace the process default.
pub fn install_crypto() {
    // An error only says that it was installed before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Lets the process have as many open files as it may: container runtimes give programs few unless they ask, and a
/// server that has none left cannot even answer its probes.
fn allow_many_connections() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    // It goes on with what it has; connections are bounded anyway.
    let _ = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Prints an error with its causes on one line, for people; the exit code is for programs.
pub fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

async fn until_aborted(main: impl AsyncFnOnce(Shutdown) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let shutdown = Shutdown::new();
    let main = main(shutdown.clone());
    tokio::pin!(main);
    tokio::select! {
        result = &mut main => return result,
        name = signals.next() => tracing::info!(signal = name, "shutting down; a second signal aborts"),
    }
    shutdown.begin();
    tokio::select! {
        result = &mut main => result,
        name = signals.next() => anyhow::bail!("aborted by a second signal ({name})"),
    }
}

/// A task that must live as long as the process.
type Task = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

/// The tasks of a program: if one ends before the shutdown, the process ends with its reason.
pub struct Tasks {
    shutdown: Shutdown,
    tasks: Vec<(&'static str, Task)>,
}

impl Tasks {
    /// No tasks yet.
    pub fn new(shutdown: Shutdown) -> Self {
        Self { shutdown, tasks: Vec::new() }
    }

    /// Adds a task; it must end by itself soon after the shutdown begins.
    pub fn add(
        &mut self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.tasks.push((name, Box::pin(task)));
    }

    /// Runs all tasks to their end. The first one that ends early takes the others down with it.
    pub async fn run(self) -> anyhow::Result<()> {
        let mut running = JoinSet::new();
        for (name, task) in self.tasks {
            running.spawn(async move { (name, task.await) });
        }
        let mut outcome = Ok(());
        while let Some(ended) = running.join_next().await {
            let early = !self.shutdown.has_begun();
            self.shutdown.begin();
            let error = match ended {
                Ok((name, Err(error))) => error.context(format!("{name} failed")),
                Ok((name, Ok(()))) if early => anyhow::anyhow!("{name} ended too early"),
                Ok(_) => continue,
                Err(error) => anyhow::Error::new(error).context("a task panicked"),
            };
            if outcome.is_ok() {
                outcome = Err(error);
            }
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_early_ends_all_with_its_reason() {
        let shutdown = Shutdown::new();
        let mut tasks = Tasks::new(shutdown.clone());
        tasks.add("watcher", async { anyhow::bail!("lost its connection") });
        tasks.add("server", async move {
            shutdown.begun().await;
            Ok(())
        });
        let error = tasks.run().await.unwrap_err();
        assert_eq!(format!("{error:#}"), "watcher failed: lost its connection");
    }

    #[tokio::test]
    async fn tasks_that_end_after_the_shutdown_are_fine() {
        let shutdown = Shutdown::new();
        shutdown.begin();
        let mut tasks = Tasks::new(shutdown);
        tasks.add("server", async { Ok(()) });
        assert!(tasks.run().await.is_ok());
    }
}

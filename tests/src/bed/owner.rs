//! The owner's end of a bed: as long as this is there, so is the bed.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::command::{command, output, say};
use super::leftovers;
use super::place::Place;
use super::protocol::{Reply, Request, Service};
use super::supervise::Shape;
use crate::programs::program;
use crate::wait::blocking;

/// Longest wait for a bed to be taken down.
const PATIENCE: Duration = Duration::from_secs(60);

/// A place with services in it. When this is dropped, or its process ends in any way, all of it goes.
pub struct Bed {
    place: Place,
    process: Option<i32>,
    supervisor: Child,
    pipe: Mutex<Option<Pipe>>,
}

struct Pipe {
    requests: ChildStdin,
    replies: BufReader<ChildStdout>,
}

impl Bed {
    /// Makes an empty one.
    pub fn make(shape: Shape) -> Result<Self> {
        let mut command = Command::new(helper()?);
        command.arg("supervise").args(shape.node.then_some("--node")).args(shape.kept.then_some("--kept"));
        // A group of its own: Ctrl-C ends the owner, and then the supervisor still has to clean up.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut supervisor = command.spawn().context("the bed's supervisor does not start")?;
        let (requests, replies) = (supervisor.stdin.take(), supervisor.stdout.take());
        let mut pipe = Pipe {
            requests: requests.context("no pipe")?,
            replies: BufReader::new(replies.context("no pipe")?),
        };
        let Reply::Placed { place, process } = pipe.reply()? else { bail!("the supervisor gave no place") };
        let bed = Self { place, process, supervisor, pipe: Mutex::new(Some(pipe)) };
        bed.with_pipe(Pipe::done).with_context(|| bed.tail("box"))?;
        Ok(bed)
    }

    /// Where it is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The process that started all others of this bed outside the box, for tests of its end.
    pub fn supervisor(&self) -> u32 {
        self.supervisor.id()
    }

    /// Asks the service runner for something and waits until it is done.
    pub fn ask(&self, request: &Request) -> Result<()> {
        let line = serde_json::to_string(request)?;
        self.with_pipe(|pipe| {
            writeln!(pipe.requests, "{line}")?;
            pipe.done()
        })
        .with_context(|| format!("bed {}: {request:?}", self.place.index))
    }

    /// Starts a service.
    pub fn start(&self, service: Service) -> Result<()> {
        self.ask(&Request::Start(service))
    }

    /// A command that runs inside the box, or as it is where there is none.
    pub fn inside(&self, words: &[&str]) -> Command {
        let Some(process) = self.process else { return command(words) };
        let mut nsenter = Command::new("nsenter");
        nsenter
            .args(["-t", &process.to_string(), "-m", "-p", "-n", "-u", "-i", "-C", "--wd=/", "--"])
            .args(words);
        nsenter
    }

    /// Runs a command inside to its end and gives what it printed.
    pub fn run_inside(&self, words: &[&str]) -> Result<String> {
        output(&mut self.inside(words))
    }

    /// The log of a service.
    pub fn log(&self, service: &str) -> PathBuf {
        self.place.path("log").join(format!("{service}.log"))
    }

    /// The last lines of the logs of these services, as far as they run here.
    pub fn tails(&self, services: &[&str]) -> String {
        let here = services.iter().filter(|service| self.log(service).exists());
        here.map(|service| self.tail(service)).collect()
    }

    fn tail(&self, service: &str) -> String {
        let text = fs::read(self.log(service)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        format!("== log of {service}\n{}\n", lines[lines.len().saturating_sub(25)..].join("\n"))
    }

    fn with_pipe(&self, work: impl FnOnce(&mut Pipe) -> Result<()>) -> Result<()> {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        work(pipe.as_mut().context("the bed is being taken down")?)
    }
}

impl Pipe {
    fn reply(&mut self) -> Result<Reply> {
        let mut line = String::new();
        if self.replies.read_line(&mut line)? == 0 {
            bail!("the bed has ended by itself");
        }
        match serde_json::from_str(&line).with_context(|| line.clone())? {
            Reply::Failed(why) => bail!(why),
            reply => Ok(reply),
        }
    }

    fn done(&mut self) -> Result<()> {
        match self.reply()? {
            Reply::Done => Ok(()),
            other => bail!("unexpected reply {other:?}"),
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.pipe.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ = blocking(PATIENCE, || self.supervisor.try_wait().ok().flatten());
        let left = leftovers::remains(&self.place);
        if !left.is_empty() {
            say(&format!("bed {} was not taken down cleanly, left: {}", self.place.index, left.join(", ")));
        }
    }
}

/// The program of the test bed's helpers: this one, or the one that goes with this test.
fn helper() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(if own.file_name().is_some_and(|name| name == "bed") { own } else { program("bed") })
}

//! The service runner (`bed init`): starts, stops and restarts a bed's services, and ends with its owner. In a box it
//! is the first process, so that everything in the box ends with it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufRead as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use super::boxed;
use super::place::Place;
use super::protocol::{Reply, Request, Service, reply};
use super::supervise::die_with_parent;
use crate::wait::blocking;

/// How often ended processes are looked for.
const TICK: Duration = Duration::from_millis(20);
/// How long a service that ended by itself stays away.
const RESTART: Duration = Duration::from_millis(300);
/// How long a service may take to end when asked to.
const GRACE: Duration = Duration::from_secs(8);

/// Runs until the owner is gone.
pub fn run(place: &Place, in_box: bool) -> Result<()> {
    if in_box {
        boxed::furnish(place).inspect_err(|error| reply(&Reply::Failed(format!("{error:#}"))))?;
    } else {
        die_with_parent()?;
    }
    let requests = read_requests();
    let mut runner = Runner { logs: place.path("log"), in_box, services: BTreeMap::new() };
    reply(&Reply::Done);
    loop {
        match requests.recv_timeout(TICK) {
            Ok(request) => match runner.obey(request) {
                Ok(()) => reply(&Reply::Done),
                Err(error) => reply(&Reply::Failed(format!("{error:#}"))),
            },
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        runner.tick();
    }
    runner.end();
    Ok(())
}

/// Requests as they come in; the channel closes with the pipe.
fn read_requests() -> Receiver<Request> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let sent = serde_json::from_str(&line).is_ok_and(|request| sender.send(request).is_ok());
            if !sent {
                break;
            }
        }
    });
    receiver
}

struct Runner {
    logs: PathBuf,
    in_box: bool,
    services: BTreeMap<String, Running>,
}

struct Running {
    service: Service,
    process: Option<Pid>,
    wanted: bool,
    ended: Instant,
}

impl Runner {
    fn obey(&mut self, request: Request) -> Result<()> {
        match request {
            Request::Start(service) => self.start(service),
            Request::StartAgain(name) => {
                let service = self.running(&name)?.service.clone();
                self.start(service)
            }
            Request::Stop(name) => self.stop(&name, Signal::TERM),
            Request::Kill(name) => self.stop(&name, Signal::KILL),
            Request::Crash(name) => self.signal(&name, Signal::KILL),
            Request::Prod(name) => self.signal(&name, Signal::USR1),
        }
    }

    fn signal(&mut self, name: &str, signal: Signal) -> Result<()> {
        let process = self.running(name)?.process.with_context(|| format!("{name} is not running"))?;
        Ok(kill_process(process, signal)?)
    }

    fn running(&mut self, name: &str) -> Result<&mut Running> {
        self.services.get_mut(name).with_context(|| format!("there is no service {name}"))
    }

    fn start(&mut self, service: Service) -> Result<()> {
        let name = service.name.clone();
        if self.services.get(&name).is_some_and(|running| running.wanted) {
            bail!("{name} is running");
        }
        let process = Some(self.spawn(&service)?);
        self.services.insert(name, Running { service, process, wanted: true, ended: Instant::now() });
        Ok(())
    }

    /// Returns when it has ended.
    fn stop(&mut self, name: &str, signal: Signal) -> Result<()> {
        let running = self.running(name)?;
        running.wanted = false;
        let Some(process) = running.process else { return Ok(()) };
        kill_process(process, signal)?;
        for patience in [GRACE, GRACE] {
            let ended = blocking(patience, || {
                self.tick();
                self.running(name).ok()?.process.is_none().then_some(())
            });
            if ended.is_some() {
                return Ok(());
            }
            kill_process(process, Signal::KILL)?;
        }
        bail!("{name} does not end, not even when killed")
    }

    /// Notices what has ended, and brings back what should run. In a box, orphans of services end up here as well.
    fn tick(&mut self) {
        while let Ok(Some((process, _))) = wait(WaitOptions::NOHANG) {
            for running in self.services.values_mut().filter(|running| running.process == Some(process)) {
                running.process = None;
                running.ended = Instant::now();
            }
        }
        let absent = |running: &&Running| {
            running.wanted && running.process.is_none() && running.ended.elapsed() >= RESTART
        };
        let due: Vec<Service> =
            self.services.values().filter(absent).map(|running| running.service.clone()).collect();
        for service in due {
            let process = self.spawn(&service).inspect_err(|error| eprintln!("{error:#}")).ok();
            if let Ok(running) = self.running(&service.name) {
                (running.process, running.ended) = (process, Instant::now());
            }
        }
    }

    fn spawn(&self, service: &Service) -> Result<Pid> {
        let log = self.logs.join(format!("{}.log", service.name));
        let log = File::options().create(true).append(true).open(&log).with_context(|| format!("{log:?}"))?;
        // Outside a box nothing else would end them if this process were killed.
        let prefix = if self.in_box { &[][..] } else { &["setpriv", "--pdeathsig", "KILL"] };
        let mut words = prefix.iter().copied().chain(service.words.iter().map(String::as_str));
        let mut command = Command::new(words.next().context("no program")?);
        command.args(words).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let search = std::env::var("PATH").unwrap_or_default();
        let folders: Vec<&str> = service.path.iter().map(String::as_str).chain([search.as_str()]).collect();
        let child = command.env("PATH", folders.join(":")).spawn();
        let child = child.with_context(|| format!("{} does not start", service.name))?;
        Ok(Pid::from_child(&child))
    }

    /// Kills everything. In a box the kernel does that, to the last process.
    fn end(&mut self) {
        if self.in_box {
            return;
        }
        let processes = self.services.values_mut().filter_map(|running| {
            running.wanted = false;
            running.process
        });
        for process in processes {
            let _ = kill_process(process, Signal::KILL);
        }
        let _ = blocking(GRACE, || {
            self.tick();
            self.services.values().all(|running| running.process.is_none()).then_some(())
        });
    }
}

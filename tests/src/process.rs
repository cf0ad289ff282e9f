//! A program as a process of its own, whose structured log can be waited for; killed when dropped.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process, waitid};
use serde_json::Value;

use crate::programs::program;
use crate::wait::until;

/// A running program.
pub struct Process {
    child: Child,
    log: Arc<Mutex<Vec<Value>>>,
}

/// One of the shipped programs, with JSON logs: decisions too, but nothing below the client of the API.
pub fn shipped(name: &str) -> Command {
    let mut command = with_owner(&program(name));
    command.args([
        "--log",
        "info,headstart_webhook=debug,headstart_controller::creation=debug",
        "--log-format",
        "json",
    ]);
    command
}

/// A program that ends with the thread that starts it, also when a test is killed.
pub fn with_owner(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

impl Process {
    /// Starts a prepared command and follows its log.
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, sink) = (BufReader::new(child.stderr.take().unwrap()).lines(), log.clone());
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                sink.lock().unwrap().push(line);
            }
        });
        Self { child, log }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The log so far.
    pub fn log(&self) -> Vec<Value> {
        self.log.lock().unwrap().clone()
    }

    /// Whether a line with this message was logged.
    pub fn has_said(&self, message: &str) -> bool {
        self.log().iter().any(|line| line["message"] == message)
    }

    /// Waits for a line with this message.
    pub async fn says(&self, message: &str) -> Value {
        let said = || async { self.log().into_iter().find(|line| line["message"] == message) };
        until(&format!("{message:?} in the log"), said).await
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// Lets it stand still, as a machine does that is short of everything.
    pub fn stand_still(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
    }

    /// Sends SIGKILL, and does not wait.
    pub fn strike(&self) {
        kill_process(Pid::from_child(&self.child), Signal::KILL).unwrap();
    }

    /// How it has ended, if it has.
    pub fn end(&self) -> Option<WaitIdStatus> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(Pid::from_child(&self.child)), options).unwrap()
    }

    /// Waits for the end.
    pub async fn ended(&mut self) -> ExitStatus {
        let child = Mutex::new(&mut self.child);
        until("the program ends", || async { child.lock().unwrap().try_wait().unwrap() }).await
    }

    /// Kills it, as a machine that fails would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<String> = log.iter().rev().take(30).rev().map(Value::to_string).collect();
            eprintln!("the end of its log:\n{}", tail.join("\n"));
        }
        self.kill();
    }
}

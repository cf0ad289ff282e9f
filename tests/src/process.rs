//! A shipped program as a process of its own, whose structured log can be waited for; killed when dropped.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::programs::program;
use crate::wait::until;

/// A running program.
pub struct Process {
    child: Child,
    log: Arc<Mutex<Vec<Value>>>,
}

impl Process {
    /// Starts `name` with JSON logs at level debug.
    pub fn start<A: AsRef<OsStr>>(name: &str, arguments: &[A]) -> Self {
        Self::start_with(name, arguments, &[])
    }

    /// As [`Process::start`], with these variables.
    pub fn start_with<A: AsRef<OsStr>>(name: &str, arguments: &[A], variables: &[(&str, &OsStr)]) -> Self {
        let mut command = Command::new(program(name));
        command.args(arguments).args(["--log", "info,headstart_webhook=debug", "--log-format", "json"]);
        command.envs(variables.iter().copied()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, sink) = (BufReader::new(child.stderr.take().unwrap()).lines(), log.clone());
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                sink.lock().unwrap().push(serde_json::from_str(&line).unwrap_or(Value::String(line)));
            }
        });
        Self { child, log }
    }

    /// Waits for a log line with this message.
    pub async fn says(&self, message: &str) -> Value {
        let said = || async { self.log().into_iter().find(|line| line["message"] == message) };
        until(&format!("{message:?} in the log"), said).await
    }

    /// Everything it has logged so far.
    pub fn log(&self) -> Vec<Value> {
        self.log.lock().unwrap().clone()
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
            let tail = log.iter().rev().take(30).rev().map(Value::to_string).collect::<Vec<_>>().join("\n");
            eprintln!("the end of its log:\n{tail}");
        }
        self.kill();
    }
}

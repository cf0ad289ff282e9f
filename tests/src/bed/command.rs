//! Running other programs with one clear message when they fail, and progress that also shows below a test runner.

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// A command from words.
pub fn command<S: AsRef<OsStr>>(words: &[S]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

/// Runs it to its end and gives what it printed; what it complained about is in the error.
pub fn output(command: &mut Command) -> Result<String> {
    let line = line(command);
    let output = command.output().with_context(|| format!("{line}: does not start"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{line}: {}: {}", output.status, complaint.trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs words to their end.
pub fn run(words: &[&str]) -> Result<String> {
    output(&mut command(words))
}

/// Whether a program of that name is in the search path.
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// One line of progress. Written past the test runner, which would hold it back until a test fails.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "… {line}");
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    let line = line.join(" ");
    if line.len() > 300 { format!("{} …", line.chars().take(300).collect::<String>()) } else { line }
}

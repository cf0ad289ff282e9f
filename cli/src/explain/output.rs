//! Printing an explanation: readable text with a diff, or one JSON object per line.

use std::io::{self, Write};

use headstart_webhook::decide::Decision;
use serde::Serialize;
use serde_json::Value;

use crate::diff::{self, Style};

/// How to print.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// What became of one pod.
pub(crate) struct Explanation {
    pub(crate) input: String,
    pub(crate) before: Value,
    pub(crate) after: Value,
    pub(crate) decision: Decision,
}

/// The JSON form; its field names are a fixed interface.
#[derive(Serialize)]
struct Line<'a> {
    input: &'a str,
    decision: &'static str,
    rule: Option<&'static str>,
    reason: &'static str,
    version: Option<&'a str>,
    patch: &'a [json_patch::PatchOperation],
    pod: &'a Value,
}

/// Prints one explanation to standard output.
pub(crate) fn print(format: Format, explanation: &Explanation) -> io::Result<()> {
    let out = &mut io::stdout().lock();
    match format {
        Format::Text => print_text(out, explanation),
        Format::Json => print_json(out, explanation),
    }
}

fn outcome(decision: &Decision) -> &'static str {
    if decision.patch.is_empty() { "unchanged" } else { "rewritten" }
}

fn print_json(out: &mut impl Write, explanation: &Explanation) -> io::Result<()> {
    let Explanation { input, before: _, after, decision } = explanation;
    let line = Line {
        input,
        decision: outcome(decision),
        rule: decision.rule.map(|rule| rule.code()),
        reason: decision.reason.code(),
        version: decision.version.as_deref(),
        patch: &decision.patch,
        pod: after,
    };
    serde_json::to_writer(&mut *out, &line)?;
    writeln!(out)
}

/// What happened and, where something can be done, what.
fn advice(meaning: &str, remedy: &str) -> String {
    if remedy.is_empty() { meaning.to_owned() } else { format!("{meaning}; {remedy}") }
}

fn print_text(out: &mut impl Write, explanation: &Explanation) -> io::Result<()> {
    let Explanation { input, before, after, decision } = explanation;
    let style = Style::of_stdout();
    let rule = decision.rule.map_or_else(String::new, |rule| format!("{rule}: "));
    let reason = decision.reason;
    writeln!(out, "{}: {} ({rule}{reason})", style.bold(input), outcome(decision))?;
    writeln!(out, "    {}", advice(reason.meaning(), reason.remedy()))?;
    if let Some(why) = decision.unpaired {
        writeln!(out, "    not paired ({why}): {}", advice(why.meaning(), why.remedy()))?;
    }
    if let Some(version) = &decision.version {
        writeln!(out, "    version {version}")?;
    }
    diff::write(out, style, before, after)?;
    writeln!(out)
}

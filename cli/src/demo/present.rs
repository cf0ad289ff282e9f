//! What the demo prints: results on standard output, progress on standard error.

use std::io::{self, Write as _};
use std::path::Path;

use serde_json::Value;

use super::copy::{Comparison, Measured};
use super::reviews::{self, Answer, Review};
use super::setup::Running;
use super::source::Source;
use crate::diff::{self, Style};

pub(crate) fn headline(text: &str) -> io::Result<()> {
    eprintln!("… {text}");
    writeln!(io::stdout().lock(), "\n{}", Style::of_stdout().bold(text))
}

pub(crate) fn source(source: &Source) -> io::Result<()> {
    let (out, size) = (&mut io::stdout().lock(), source.size);
    writeln!(out, "  {} with {}", source.path.display(), source.entries.join(", "))?;
    writeln!(out, "  {} files, {} MB", thousands(size.files), size.bytes / 1_000_000)
}

pub(crate) fn progress(progress: &Value) {
    let number = |key: &str| progress[key].as_u64().unwrap_or_default();
    eprintln!("… installing: {} files, {} MB written", number("filesDone"), number("bytesDone") / 1_000_000);
}

pub(crate) fn round(round: usize, of: usize) {
    eprintln!("… copied both, round {round} of {of}");
}

pub(crate) fn status(running: &Running, status: &Value) -> anyhow::Result<()> {
    let out = &mut io::stdout().lock();
    writeln!(out, "  webhook {}", running.review_url)?;
    writeln!(out, "  status  {}", running.status_url)?;
    for line in serde_json::to_string_pretty(&status["versions"])?.lines() {
        writeln!(out, "    {line}")?;
    }
    Ok(())
}

pub(crate) fn answer(review: &Review, answer: &Answer) -> io::Result<()> {
    let out = &mut io::stdout().lock();
    let style = Style::of_stdout();
    let outcome = if answer.before == answer.after { "unchanged" } else { "rewritten" };
    writeln!(out, "\n  {}: {outcome} ({})", style.bold(&review.title), answer.decision)?;
    diff::write(out, style, &answer.before, &answer.after)
}

pub(crate) fn comparison(comparison: &Comparison) -> io::Result<()> {
    let Comparison { stock, lean } = comparison;
    let out = &mut io::stdout().lock();
    writeln!(out, "  {:34} {:>8} {:>15}   seconds: min, median, max", "", "files", "bytes")?;
    row(out, "stock hook's copy", stock)?;
    row(out, "Headstart, runner (lean)", lean)?;
    writeln!(out, "  {:34} {:>8} {:>15}   nothing is copied", "Headstart, current workflow pod", 0, 0)?;
    let ratio = |stock: f64, lean: f64| if lean > 0.0 { stock / lean } else { f64::INFINITY };
    writeln!(
        out,
        "  stock / lean: {:.0} times the files, {:.1} times the bytes, {:.1} times the seconds (medians)",
        ratio(stock.size.files as f64, lean.size.files as f64),
        ratio(stock.size.bytes as f64, lean.size.bytes as f64),
        ratio(stock.median(), lean.median()),
    )?;
    writeln!(
        out,
        "  This is a local disk and its page cache. On network volumes each file costs round trips."
    )
}

fn row(out: &mut impl io::Write, name: &str, measured: &Measured) -> io::Result<()> {
    let Measured { size, seconds } = measured;
    let (min, max) =
        (seconds.first().copied().unwrap_or_default(), seconds.last().copied().unwrap_or_default());
    let (files, bytes, median) = (thousands(size.files), thousands(size.bytes), measured.median());
    writeln!(out, "  {name:34} {files:>8} {bytes:>15}   {min:.3}, {median:.3}, {max:.3}")
}

pub(crate) fn serving(running: &Running, folder: &Path) -> anyhow::Result<()> {
    let review = folder.join("review.json");
    std::fs::write(&review, reviews::sample())?;
    headline("5. Serving until Ctrl-C")?;
    let out = &mut io::stdout().lock();
    writeln!(out, "  curl {}", running.status_url)?;
    writeln!(
        out,
        "  curl --cacert '{}' -H 'content-type: application/json' --data '@{}' {}",
        running.ca.display(),
        review.display(),
        running.review_url
    )?;
    out.flush()?;
    Ok(())
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

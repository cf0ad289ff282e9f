//! `make bench-cache`: installs from every source beside `tar -x` or `cp -a` and `sync -f` of the same kept files, in turns;
//! then scrub and rest. The one argument is the agent to measure; HEADSTART_ROUNDS (5) says how often.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use headstart_tests::bed::images::RunnerExternals;
use headstart_tests::cache_bench::source::{Kind, Sources};
use headstart_tests::cache_bench::usage::Usage;
use headstart_tests::cache_bench::{agent, rival};
use headstart_tests::load::figures::{Aim, Spread, Verdict};

const VERSIONS_AT_REST: usize = 10;
const REST: Duration = Duration::from_secs(60);

/// One source of one profile, by round.
struct Row {
    profile: &'static str,
    kind: Kind,
    megabytes: f64,
    own: Vec<Usage>,
    rival: Vec<Usage>,
}

#[tokio::main]
async fn main() -> ExitCode {
    headstart_runtime::program::install_crypto();
    let program = PathBuf::from(std::env::args_os().nth(1).expect("usage: bench-cache <program>"));
    let program = std::path::absolute(program).unwrap();
    let rounds = std::env::var("HEADSTART_ROUNDS").map_or(5, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let sources = [RunnerExternals::Node16, RunnerExternals::Node20And24]
        .map(|externals| Sources::make(externals, folder.path()));
    let mut rows = Vec::new();
    let mut scrubs = Vec::new();
    for sources in &sources {
        for kind in [Kind::Directory, Kind::Archive, Kind::Staged] {
            rows.push(compare(&program, sources, kind, rounds, folder.path()).await);
        }
        scrubs.push(scrub(&program, sources, rounds).await);
    }
    print_rows(&rows);
    println!();
    for (sources, (own, rival)) in sources.iter().zip(&scrubs) {
        let (own, rival) = (Spread::new(own.iter().copied()), Spread::new(rival.iter().copied()));
        println!(
            "scrub of {}: {:.0} MB/s ({:.0} to {:.0}) as fast as it can; sha256sum of the same files {:.0} MB/s ({:.0} to {:.0})",
            sources.profile, own.median, own.low, own.high, rival.median, rival.low, rival.high
        );
    }
    eprintln!("… an agent at rest with {VERSIONS_AT_REST} versions, {REST:?}");
    let (memory, processor) = agent::rest(&program, &sources[0], VERSIONS_AT_REST, REST).await;
    judge(&rows, memory, processor)
}

async fn compare(program: &Path, sources: &Sources, kind: Kind, rounds: usize, folder: &Path) -> Row {
    let mut row = Row {
        profile: sources.profile,
        kind,
        megabytes: sources.megabytes(),
        own: Vec::new(),
        rival: Vec::new(),
    };
    for round in 1..=rounds {
        eprintln!("… {} from {kind:?}, round {round} of {rounds}", sources.profile);
        let to = folder.join("rival");
        // In turns, so that neither always comes after the other.
        if round % 2 == 0 {
            row.rival.push(rival::install(sources, kind, &to));
        }
        let (usage, node) = agent::install(program, sources, kind).await;
        row.own.push(usage);
        drop(node);
        if round % 2 == 1 {
            row.rival.push(rival::install(sources, kind, &to));
        }
        std::fs::remove_dir_all(&to).unwrap();
    }
    row
}

/// MB per second of the scrub and of `sha256sum`, by round.
async fn scrub(program: &Path, sources: &Sources, rounds: usize) -> (Vec<f64>, Vec<f64>) {
    let (_, node) = agent::install(program, sources, Kind::Directory).await;
    let (mut own, mut other) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        own.push(agent::scrub(program, sources, &node).await);
        other.push(sources.megabytes() / rival::hash(sources, &agent::tree(&node)).seconds);
    }
    (own, other)
}

fn ratio(row: &Row) -> Spread {
    Spread::new(row.own.iter().zip(&row.rival).map(|(own, rival)| own.seconds / rival.seconds))
}

fn print_rows(rows: &[Row]) {
    println!(
        "| profile | source | kept MB | agent s (spread) | cp or tar s (spread) | ratio (spread) | written MB, agent | other | processor s, agent | other | peak MB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for row in rows {
        let of = |all: &[Usage], value: fn(&Usage) -> f64| Spread::new(all.iter().map(value));
        let (own, other) = (of(&row.own, |usage| usage.seconds), of(&row.rival, |usage| usage.seconds));
        let ratio = ratio(row);
        println!(
            "| {} | {:?} | {:.0} | {:.2} ({:.2} to {:.2}) | {:.2} ({:.2} to {:.2}) | {:.2} ({:.2} to {:.2}) | {:.0} | {:.0} | {:.2} | {:.2} | {:.1} |",
            row.profile,
            row.kind,
            row.megabytes,
            own.median,
            own.low,
            own.high,
            other.median,
            other.low,
            other.high,
            ratio.median,
            ratio.low,
            ratio.high,
            of(&row.own, |usage| usage.written).median,
            of(&row.rival, |usage| usage.written).median,
            of(&row.own, |usage| usage.processor).median,
            of(&row.rival, |usage| usage.processor).median,
            of(&row.own, |usage| usage.peak).high,
        );
    }
}

fn judge(rows: &[Row], memory: f64, processor: f64) -> ExitCode {
    let of = |kind: Kind| rows.iter().filter(move |row| row.kind == kind).map(|row| ratio(row).median);
    let worst = |kind: Kind| of(kind).fold(0.0, f64::max);
    let peak = rows.iter().flat_map(|row| &row.own).map(|usage| usage.peak).fold(0.0, f64::max);
    let figure = |figure, value, unit, aim| Verdict { figure, value, unit, aim: Aim::AtMost(aim) };
    let verdicts = [
        figure("cache-directory-to-cp", worst(Kind::Directory), "ratio", 1.3),
        figure("cache-archive-to-tar", worst(Kind::Archive), "ratio", 1.3),
        figure("cache-staged-to-cp", worst(Kind::Staged), "ratio", 1.3),
        figure("cache-install-peak-memory", peak, "MB", 64.0),
        figure("cache-rest-memory", memory, "MB", 15.0),
        figure("cache-rest-processor", processor, "percent", 0.2),
    ];
    println!();
    for verdict in &verdicts {
        println!("{verdict}");
    }
    if verdicts.iter().all(Verdict::is_met) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

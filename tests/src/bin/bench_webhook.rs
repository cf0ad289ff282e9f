//! `make bench-webhook`: admissions per second and their times, beside the cheapest answer of the same server. The one
//! argument is the webhook to measure.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use headstart_tests::load::figures::{Aim, Sample, Spread, Verdict};
use headstart_tests::load::phases::{paced, saturated};
use headstart_tests::load::reviews::{self, Question};
use headstart_tests::load::subject::{Subject, processors, stay_on};
use tokio::runtime::Builder;

/// As the server has it, so that the client gets in its way as little as it can.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 5;
const CONNECTIONS: [usize; 3] = [1, 8, 32];
const PHASE: Duration = Duration::from_secs(2);
const PACE: u32 = 1000;
const PACED_CONNECTIONS: usize = 8;
const PACED_PHASE: Duration = Duration::from_secs(5);

/// The samples of one question at one number of connections, by round.
struct Row {
    question: usize,
    connections: usize,
    samples: Vec<Sample>,
    /// Processor time of the server for each answer, in microseconds.
    processor: Vec<f64>,
}

fn main() -> ExitCode {
    headstart_runtime::program::install_crypto();
    let program = PathBuf::from(std::env::args_os().nth(1).expect("usage: bench-webhook <program>"));
    let questions = [
        reviews::floor(),
        reviews::bystander(),
        reviews::rewritten(),
        reviews::large_bystander(),
        reviews::large_rewritten(),
    ];
    let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
    let (rows, memory) = runtime.block_on(saturate(&program, &questions));
    drop(runtime);
    print_rows(&questions, &rows);
    println!("\nresident memory: {:.1} MB idle, {:.1} MB after the load\n", memory.0, memory.1);
    let pace =
        std::thread::spawn(move || pace(&program, &[reviews::floor(), reviews::rewritten()])).join().unwrap();
    let verdicts = [
        share("webhook-bystander-share-of-floor", &rows, 1, 0.4),
        share("webhook-rewritten-share-of-floor", &rows, 2, 0.25),
        Verdict { figure: "webhook-paced-p99", value: pace.median, unit: "ms", aim: Aim::AtMost(2.0) },
        Verdict { figure: "webhook-idle-memory", value: memory.0, unit: "MB", aim: Aim::AtMost(20.0) },
    ];
    println!();
    for verdict in &verdicts {
        println!("{verdict}");
    }
    if verdicts.iter().all(Verdict::is_met) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Every question at every number of connections, in turns, and the memory before and after.
async fn saturate(program: &Path, questions: &[Question]) -> (Vec<Row>, (f64, f64)) {
    let subject = Subject::start(program).await;
    let idle = subject.memory().await;
    let all =
        CONNECTIONS.iter().flat_map(|connections| (0..questions.len()).map(move |at| (*connections, at)));
    let mut rows: Vec<Row> = all
        .map(|(connections, question)| Row {
            question,
            connections,
            samples: Vec::new(),
            processor: Vec::new(),
        })
        .collect();
    for round in 1..=ROUNDS {
        eprintln!("… round {round} of {ROUNDS}, {} s", rows.len() as u64 * PHASE.as_secs());
        for row in &mut rows {
            let request = &questions[row.question].request;
            let before = subject.processor().await;
            let sample = saturated(&subject.target, request, row.connections, PHASE).await;
            let used = subject.processor().await - before;
            row.processor.push(used * 1e6 / (sample.rate * PHASE.as_secs_f64()));
            row.samples.push(sample);
        }
    }
    (rows, (idle, subject.memory().await))
}

/// How a row's rate relates to that of the floor, round by round.
fn to_floor(rows: &[Row], row: &Row) -> Spread {
    let floor =
        rows.iter().find(|other| other.question == 0 && other.connections == row.connections).unwrap();
    Spread::new(row.samples.iter().zip(&floor.samples).map(|(own, floor)| own.rate / floor.rate))
}

fn share(figure: &'static str, rows: &[Row], question: usize, aim: f64) -> Verdict {
    let most = CONNECTIONS[CONNECTIONS.len() - 1];
    let row = rows.iter().find(|row| row.question == question && row.connections == most).unwrap();
    Verdict { figure, value: to_floor(rows, row).median, unit: "ratio", aim: Aim::AtLeast(aim) }
}

fn print_rows(questions: &[Question], rows: &[Row]) {
    println!(
        "| request | connections | per second (spread) | server µs | p50 ms | p99 ms | p99.9 ms | share of floor (spread) |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for row in rows {
        let rate = Spread::new(row.samples.iter().map(|sample| sample.rate));
        let time = |share| Spread::new(row.samples.iter().map(|sample| sample.within(share))).median;
        let floor = to_floor(rows, row);
        println!(
            "| {} | {} | {:.0} ({:.0} to {:.0}) | {:.1} | {:.2} | {:.2} | {:.2} | {:.2} ({:.2} to {:.2}) |",
            questions[row.question].name,
            row.connections,
            rate.median,
            rate.low,
            rate.high,
            Spread::new(row.processor.iter().copied()).median,
            time(0.5),
            time(0.99),
            time(0.999),
            floor.median,
            floor.low,
            floor.high,
        );
    }
}

/// The same pace for each question, with the server alone on one processor; the p99 of the last one.
fn pace(program: &Path, questions: &[Question]) -> Spread {
    let processors = processors();
    let (server, client) = (processors[0], processors[processors.len() - 1]);
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    stay_on(server);
    let subject = runtime.block_on(Subject::start(program));
    stay_on(client);
    let mut samples: Vec<Vec<Sample>> = questions.iter().map(|_| Vec::new()).collect();
    for round in 1..=ROUNDS {
        eprintln!("… {PACE} requests per second, round {round} of {ROUNDS}");
        for (question, samples) in questions.iter().zip(&mut samples) {
            let phase = paced(&subject.target, &question.request, PACED_CONNECTIONS, PACE, PACED_PHASE);
            samples.push(runtime.block_on(phase));
        }
    }
    let mut last = Spread::new([f64::NAN]);
    for (question, samples) in questions.iter().zip(&samples) {
        let times =
            [0.5, 0.99, 0.999].map(|share| Spread::new(samples.iter().map(|each| each.within(share))));
        let [p50, p99, p999] = times;
        println!(
            "paced at {PACE}/s, server on one processor, {}: p50 {:.2} ms, p99 {:.2} ms ({:.2} to {:.2}), p99.9 {:.2} ms",
            question.name, p50.median, p99.median, p99.low, p99.high, p999.median
        );
        last = p99;
    }
    last
}

//! What was measured, as tables and verdicts.

use super::matrix::{Cell, DEFAULT, LARGE, SLOW_SERVICE, SMALL};
use super::site::Sample;
use crate::arc::timeline::Milestone;
use crate::load::figures::{Aim, Spread, Verdict};

/// One side's bursts of one cell.
#[derive(Debug)]
pub struct Row {
    /// Which.
    pub cell: Cell,
    /// The concurrency of Headstart; `None` without it.
    pub concurrency: Option<u32>,
    /// By round.
    pub samples: Vec<Sample>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Rows(pub Vec<Row>);

impl Row {
    /// Some value of each burst.
    pub fn spread(&self, value: impl Fn(&Sample) -> f64) -> Spread {
        Spread::new(self.samples.iter().map(value))
    }

    fn median(&self, value: impl Fn(&Sample) -> f64) -> f64 {
        self.spread(value).median
    }

    fn each(&self, value: impl Fn(&Sample) -> f64) -> f64 {
        self.median(value) / self.cell.runners as f64
    }
}

/// Seconds until every runner had its Pod: what both sides are compared by. Until it runs is up to the node.
pub fn last_pod(sample: &Sample) -> f64 {
    last(sample, Milestone::Pod)
}

fn last(sample: &Sample, milestone: Milestone) -> f64 {
    let found = sample.figures.last.iter().find(|(at, _)| *at == milestone);
    found.map_or(f64::NAN, |(_, time)| time.as_secs_f64())
}

fn first_pod(sample: &Sample) -> f64 {
    sample.figures.first_pod.as_secs_f64()
}

fn median_pod(sample: &Sample) -> f64 {
    sample.figures.median_pod.as_secs_f64()
}

impl Rows {
    /// The row of one side.
    pub fn of(&self, runners: usize, registration: u64, concurrency: Option<u32>) -> Option<&Row> {
        let is_it = |row: &&Row| {
            let Cell { runners: many, registration: slow, .. } = row.cell;
            (many, slow, row.concurrency) == (runners, registration, concurrency)
        };
        self.0.iter().find(is_it)
    }

    fn stock_of(&self, row: &Row) -> Option<&Row> {
        self.of(row.cell.runners, row.cell.registration, None)
    }

    /// How many times as fast as stock ARC this row is, by something that takes time.
    fn speedup(&self, row: &Row, time: fn(&Sample) -> f64) -> Option<f64> {
        Some(self.stock_of(row)?.median(time) / row.median(time))
    }

    /// How long bursts took.
    pub fn print_times(&self) {
        println!(
            "| runners | registration ms | side | rounds | last pod s (spread) | to stock | last runs s | first pod s | median pod s | ARC says so s |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|");
        for row in &self.0 {
            let pods = row.spread(last_pod);
            let speedup = self.speedup(row, last_pod).unwrap_or(f64::NAN);
            println!(
                "{} | {} | {:.2} ({:.2} to {:.2}) | {speedup:.1}× | {:.2} | {:.2} | {:.2} | {:.1} |",
                head(row),
                row.samples.len(),
                pods.median,
                pods.low,
                pods.high,
                row.median(|sample| last(sample, Milestone::Running)),
                row.median(first_pod),
                row.median(median_pod),
                row.median(|sample| last(sample, Milestone::Reported)),
            );
        }
    }

    /// What they cost: medians.
    pub fn print_costs(&self) {
        println!(
            "| runners | registration ms | side | processor s: ARC | Headstart | API server | etcd | peak MB: ARC | Headstart | API server | requests per runner: ARC's manager | Headstart | everybody |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
        for row in &self.0 {
            println!(
                "{} | {:.2} | {:.2} | {:.2} | {:.2} | {:.0} | {:.0} | {:.0} | {:.1} | {:.1} | {:.1} |",
                head(row),
                row.median(|sample| sample.arc.processor),
                row.median(|sample| sample.own.processor),
                row.median(|sample| sample.server.processor),
                row.median(|sample| sample.store.processor),
                row.median(|sample| sample.arc.peak),
                row.median(|sample| sample.own.peak),
                row.median(|sample| sample.server.peak),
                row.each(|sample| sample.calls.manager),
                row.each(|sample| sample.calls.own),
                row.each(|sample| sample.calls.all),
            );
        }
    }

    /// Where Headstart's time goes: the first burst of each row.
    pub fn print_phases(&self) {
        println!("| runners | registration ms | side | calls by phase: how many × milliseconds each |");
        println!("|---|---|---|---|");
        for row in self.0.iter().filter(|row| row.concurrency.is_some()) {
            let phases = row.samples[0].phases.iter();
            let each =
                phases.map(|(phase, count, sum)| format!("{phase} {count} × {:.1}", sum * 1e3 / count));
            println!("{} | {} |", head(row), each.collect::<Vec<_>>().join(", "));
        }
    }

    /// What is promised, as far as it was measured.
    pub fn verdicts(&self) -> Vec<Verdict> {
        let at_least = |figure, value: Option<f64>, aim| {
            value.map(|value| Verdict { figure, value, unit: "times", aim: Aim::AtLeast(aim) })
        };
        let at_most = |figure, unit, value: Option<f64>, aim| {
            value.map(|value| Verdict { figure, value, unit, aim: Aim::AtMost(aim) })
        };
        let speedup = |registration, concurrency| {
            self.speedup(self.of(100, registration, Some(concurrency))?, last_pod)
        };
        let all = [
            at_least("burst-150ms-to-stock", speedup(150, DEFAULT), 4.0),
            at_least("burst-150ms-at-50-to-stock", speedup(150, LARGE), 6.0),
            at_least("burst-400ms-at-50-to-stock", speedup(400, LARGE), 10.0),
            at_most("burst-first-pod", "s", self.worst(|row| Some(row.median(first_pod))), 1.0),
            at_most(
                "burst-median-pod-to-stock",
                "ratio",
                self.worst(|row| Some(1.0 / self.speedup(row, median_pod)?)),
                0.5,
            ),
            at_most(
                "burst-3000ms",
                "s",
                self.of(100, 3000, Some(SLOW_SERVICE)).map(|row| row.median(last_pod)),
                30.0,
            ),
            at_most("burst-small-to-allowed", "ratio", self.small(), 1.0),
        ];
        all.into_iter().flatten().collect()
    }

    /// The worst of what 100 runners are judged by.
    fn worst(&self, value: impl Fn(&Row) -> Option<f64>) -> Option<f64> {
        let is_judged = |row: &&Row| {
            row.cell.runners == 100
                && [150, 400].contains(&row.cell.registration)
                && row.concurrency.is_some()
        };
        self.0.iter().filter(is_judged).filter_map(value).reduce(f64::max)
    }

    /// A few runners, to what they may take: a tenth more than without us, and 100 ms.
    fn small(&self) -> Option<f64> {
        let rows = self.0.iter().filter(|row| SMALL.contains(&row.cell.runners) && row.concurrency.is_some());
        let each = rows.filter_map(|row| {
            let allowed = self.stock_of(row)?.median(last_pod) * 1.1 + 0.1;
            Some(row.median(last_pod) / allowed)
        });
        each.reduce(f64::max)
    }
}

fn head(row: &Row) -> String {
    let Cell { runners, registration, .. } = row.cell;
    let side = row.concurrency.map_or("stock".to_owned(), |at_once| format!("Headstart at {at_once}"));
    format!("| {runners} | {registration} | {side}")
}

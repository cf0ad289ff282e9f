//! `make bench-burst`: bursts of runners on stock ARC and with Headstart, in turns, each on a control plane of its own. The
//! arguments are the controller and the webhook to measure; HEADSTART_BURSTS=quick measures the two main bursts once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark fails by panicking")]

use std::process::ExitCode;
use std::sync::Arc;

use headstart_tests::actions_service::ActionsService;
use headstart_tests::arc::UnderTest;
use headstart_tests::arc::driver::Modelled;
use headstart_tests::arc::model::Generation;
use headstart_tests::arc::real::{Installed, Real};
use headstart_tests::bed::{ControlPlane, Minor};
use headstart_tests::burst_bench::matrix::{Cell, DEFAULT, SMALL, SMALL_ROUNDS, cells};
use headstart_tests::burst_bench::rows::{Row, Rows, last_pod};
use headstart_tests::burst_bench::shipped::Controller;
use headstart_tests::burst_bench::site::{Counted, Sample, Site};
use headstart_tests::load::figures::Verdict;
use headstart_tests::programs::measure;

#[tokio::main]
async fn main() -> ExitCode {
    headstart_runtime::program::install_crypto();
    let programs: Vec<_> =
        std::env::args_os().skip(1).map(|path| std::path::absolute(path).unwrap()).collect();
    assert_eq!(programs.len(), 2, "usage: bench-burst <controller> <webhook>");
    measure(programs);
    let is_quick = std::env::var("HEADSTART_BURSTS").is_ok_and(|text| text == "quick");
    let planes = [
        ControlPlane::start(Minor::Newest).await.unwrap(),
        ControlPlane::start(Minor::Newest).await.unwrap(),
    ];
    let services = [Arc::new(ActionsService::start().await), Arc::new(ActionsService::start().await)];
    let [stock, own] = &planes;
    let [stock_service, own_service] = services;
    match Real::from_environment() {
        Some(real) => {
            let stock = Site::start(stock, Installed::on(stock, &real).await, stock_service).await;
            let own = Site::start(own, Installed::on(own, &real).await, own_service).await;
            compare(&stock, &own.with_headstart().await, is_quick).await
        }
        None => {
            let arc = Modelled::on(stock, Generation::Release, stock_service.clone()).await;
            let stock = Site::start(stock, arc, stock_service).await;
            let arc = Modelled::on(own, Generation::Release, own_service.clone()).await;
            let own = Site::start(own, arc, own_service).await;
            compare(&stock, &own.with_headstart().await, is_quick).await
        }
    }
}

async fn compare<A: UnderTest>(stock: &Site<'_, A>, own: &Site<'_, A>, is_quick: bool) -> ExitCode
where
    A::Manager: Counted,
{
    let mut rows = Rows::default();
    for (at, cell) in cells(is_quick).into_iter().enumerate() {
        rows.0.extend(turns(stock, own, cell).await);
        // What decides comes first; the small ones take a while and are next.
        if at == 1 && !is_quick {
            for runners in SMALL {
                rows.0.extend(small(stock, own, Cell::new(runners, 150, SMALL_ROUNDS)).await);
            }
        }
    }
    println!("\nARC: {}\n", stock.name());
    rows.print_times();
    println!();
    rows.print_costs();
    println!();
    rows.print_phases();
    let verdicts = rows.verdicts();
    println!();
    for verdict in &verdicts {
        println!("{verdict}");
    }
    if verdicts.iter().all(Verdict::is_met) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Both sides of a cell in turns; stock's rounds are spread over those of all concurrencies.
async fn turns<A: UnderTest>(stock: &Site<'_, A>, own: &Site<'_, A>, cell: Cell) -> Vec<Row>
where
    A::Manager: Counted,
{
    let mut rows = vec![Row { cell, concurrency: None, samples: Vec::new() }];
    for (nth, concurrency) in cell.concurrencies.into_iter().enumerate() {
        let controller = controller(own, concurrency).await;
        let mut row = Row { cell, concurrency: Some(concurrency), samples: Vec::new() };
        for round in 1..=cell.rounds {
            let due = nth * cell.rounds + round;
            if rows[0].samples.len() * cell.concurrencies.len() < due {
                let sample = stock.burst(cell, None).await;
                tell(cell, None, &sample);
                rows[0].samples.push(sample);
            }
            let sample = own.burst(cell, Some(&controller)).await;
            tell(cell, Some(concurrency), &sample);
            row.samples.push(sample);
        }
        controller.stop().await;
        rows.push(row);
    }
    rows
}

/// Few runners, many times: where nothing is to be gained.
async fn small<A: UnderTest>(stock: &Site<'_, A>, own: &Site<'_, A>, cell: Cell) -> [Row; 2]
where
    A::Manager: Counted,
{
    let samples = stock.bursts(cell, cell.rounds, None).await;
    let without = Row { cell, concurrency: None, samples };
    let controller = controller(own, DEFAULT).await;
    let samples = own.bursts(cell, cell.rounds, Some(&controller)).await;
    controller.stop().await;
    let with = Row { cell, concurrency: Some(DEFAULT), samples };
    for row in [&without, &with] {
        row.samples.iter().for_each(|sample| tell(cell, row.concurrency, sample));
    }
    [without, with]
}

async fn controller<A: UnderTest>(own: &Site<'_, A>, concurrency: u32) -> Controller
where
    A::Manager: Counted,
{
    own.shipped.as_ref().unwrap().controller(concurrency).await
}

fn tell(cell: Cell, concurrency: Option<u32>, sample: &Sample) {
    let side = concurrency.map_or("stock".to_owned(), |at_once| format!("Headstart at {at_once}"));
    let Cell { runners, registration, .. } = cell;
    eprintln!("… {runners} runners at {registration} ms, {side}: {:.2} s", last_pod(sample));
}

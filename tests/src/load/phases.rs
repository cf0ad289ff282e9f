//! One phase of load: as fast as the server answers, or at a fixed pace.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::load::client::{Connection, Request, Target};
use crate::load::figures::Sample;

/// Answers before the clock starts, for each connection.
const WARM_UP: usize = 50;

/// Every connection sends its next request as soon as it has the answer to the last one.
pub async fn saturated(target: &Target, request: &Request, connections: usize, time: Duration) -> Sample {
    let connections = open(target, request, connections).await;
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for mut connection in connections {
        tasks.spawn(async move {
            let mut latencies = Vec::with_capacity(1 << 16);
            let mut sent = Instant::now();
            while begun.elapsed() < time {
                connection.ask().await;
                let now = Instant::now();
                latencies.push(now - sent);
                sent = now;
            }
            latencies
        });
    }
    let latencies = tasks.join_all().await.concat();
    Sample::new(latencies, begun.elapsed())
}

/// So many requests per second over all connections, whatever the answers take. A request that had to wait for the
/// answer before it counts from the moment when it was due.
pub async fn paced(
    target: &Target,
    request: &Request,
    connections: usize,
    rate: u32,
    time: Duration,
) -> Sample {
    let period = Duration::from_secs(1) / rate;
    let share = period * u32::try_from(connections).unwrap();
    let connections = open(target, request, connections).await;
    let begun = tokio::time::Instant::now();
    let mut tasks = JoinSet::new();
    for (number, mut connection) in (1..).zip(connections) {
        let mut ticks = tokio::time::interval_at(begun + period * number, share);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        tasks.spawn(async move {
            let mut latencies = Vec::with_capacity(1 << 12);
            let mut free = tokio::time::Instant::now();
            while begun.elapsed() < time {
                let due = ticks.tick().await;
                let sent = if free > due { due } else { tokio::time::Instant::now() };
                connection.ask().await;
                free = tokio::time::Instant::now();
                latencies.push(free - sent);
            }
            latencies
        });
    }
    let latencies = tasks.join_all().await.concat();
    Sample::new(latencies, begun.elapsed())
}

async fn open(target: &Target, request: &Request, count: usize) -> Vec<Connection> {
    let mut connections = Vec::new();
    for _ in 0..count {
        let mut connection = Connection::open(target, request).await;
        for _ in 0..WARM_UP {
            connection.ask().await;
        }
        connections.push(connection);
    }
    connections
}

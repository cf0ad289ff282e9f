//! Which bursts are measured, the important ones first.

use std::time::Duration;

/// As the flags have it without further words.
pub const DEFAULT: u32 = 10;

/// What larger clusters are given.
pub const LARGE: u32 = 50;

/// The least that makes 100 runners in 30 s where one registration takes 3 s.
pub const SLOW_SERVICE: u32 = 12;

/// Sizes at which nothing is to be gained, and nothing may be lost.
pub const SMALL: [usize; 3] = [1, 3, 5];

/// How often each of them is measured.
pub const SMALL_ROUNDS: usize = 10;

/// One size of burst at one speed of the Actions service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// How many runners.
    pub runners: usize,
    /// How long one registration takes, in milliseconds.
    pub registration: u64,
    /// How often each side does it.
    pub rounds: usize,
    /// With which concurrencies Headstart does it.
    pub concurrencies: [u32; 2],
}

impl Cell {
    /// One at the usual concurrencies.
    pub const fn new(runners: usize, registration: u64, rounds: usize) -> Self {
        Self { runners, registration, rounds, concurrencies: [DEFAULT, LARGE] }
    }

    /// Longest wait for it: several times what stock ARC needs on an idle machine, which goes from runner to runner.
    pub fn patience(self) -> Duration {
        let each = Duration::from_millis(self.registration.max(200));
        Duration::from_secs(120) + each * u32::try_from(self.runners).unwrap() * 3
    }
}

/// All that are measured; in a hurry the two by which the product is judged, once.
pub fn cells(is_quick: bool) -> Vec<Cell> {
    if is_quick {
        return vec![Cell::new(100, 150, 1), Cell::new(100, 400, 1)];
    }
    let slow = Cell { concurrencies: [SLOW_SERVICE, LARGE], ..Cell::new(100, 3000, 1) };
    let mut all = vec![Cell::new(100, 150, 5), Cell::new(100, 400, 5), Cell::new(100, 0, 1), slow];
    for runners in [10, 50, 500] {
        all.extend([0, 150, 400].map(|registration| Cell::new(runners, registration, 1)));
    }
    all
}

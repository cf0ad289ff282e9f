//! How much an install may write: the reserve of the node's file system, and the budget of the cache.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use headstart_externals::fault::FaultReason;

use crate::fault::{Fault, Outcome};
use crate::store::free_bytes;

/// Every how many pieces of work the file system is asked; a piece is at most 256 KiB.
const PIECES: u64 = 32;

/// The room for one install.
pub struct Room {
    root: PathBuf,
    reserve: u64,
    budget: u64,
    written: AtomicU64,
    pieces: AtomicU64,
}

impl Room {
    /// Room below `root`: `reserve` bytes of its file system stay free, and at most `budget` bytes of a tree are written.
    pub fn new(root: PathBuf, reserve: u64, budget: u64) -> Self {
        Self { root, reserve, budget, written: AtomicU64::new(0), pieces: AtomicU64::new(0) }
    }

    /// A fault if the file system has become too full; asked now and then.
    pub(crate) fn look(&self) -> Outcome<()> {
        if !self.pieces.fetch_add(1, Ordering::Relaxed).is_multiple_of(PIECES) {
            return Ok(());
        }
        match free_bytes(&self.root) {
            Some(free) if free <= self.reserve => Err(full(&self.root, free, self.reserve)),
            _ => Ok(()),
        }
    }

    /// Takes room for so many bytes of a tree.
    pub(crate) fn take(&self, bytes: u64) -> Outcome<()> {
        let written = self.written.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if written > self.budget {
            return Err(over_budget(self.budget));
        }
        Ok(())
    }
}

/// The fault of a file system with too little left.
pub(crate) fn full(root: &std::path::Path, free: u64, reserve: u64) -> Fault {
    let root = root.display();
    let message = format!(
        "the file system of {root} has {free} bytes left, and {reserve} are kept (limits.reserveBytes)"
    );
    Fault::new(FaultReason::DiskFull, message)
}

/// The fault of a cache that may not grow.
pub(crate) fn over_budget(left: u64) -> Fault {
    let message =
        format!("of the bytes that all versions may take together {left} were left (limits.cacheBytes)");
    Fault::new(FaultReason::OverBudget, message)
}

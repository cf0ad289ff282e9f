//! Bringing files to the disk while others are still written, run and checked: nothing needs them there before the tree is
//! published, and waiting for a disk takes no processor.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use headstart_externals::fault::FaultReason;

use crate::fault::{Fault, IoContext as _, Outcome};

/// Files that wait at most; each one is open.
const WAITING: usize = 64;

/// Threads that wait for the disk: file systems bring what is asked for at the same time there in one go.
const THREADS: usize = 4;

/// Files on their way to the disk.
pub(crate) struct Flusher {
    queue: SyncSender<(PathBuf, File)>,
    threads: Vec<JoinHandle<Outcome<()>>>,
}

impl Flusher {
    /// Nothing is on its way yet.
    pub(crate) fn begin() -> Outcome<Self> {
        let (queue, waiting) = sync_channel(WAITING);
        let waiting = Arc::new(Mutex::new(waiting));
        let mut threads = Vec::new();
        for _ in 0..THREADS {
            let waiting = waiting.clone();
            let thread = thread::Builder::new().name("flush".to_owned()).spawn(move || flush(&waiting));
            threads.push(thread.map_err(|error| {
                Fault::new(FaultReason::Io, format!("failed to start a thread: {error}"))
            })?);
        }
        Ok(Self { queue, threads })
    }

    /// Brings a file to the disk that was written whole.
    ///
    /// It is opened anew, for reading: a program that is open for writing cannot be run.
    pub(crate) fn add(&self, path: &Path) -> Outcome<()> {
        let file = File::open(path).doing("open", path)?;
        // Where the threads have ended, one of them has a fault to tell.
        let _ = self.queue.send((path.to_owned(), file));
        Ok(())
    }

    /// Waits until all of them are there.
    pub(crate) fn wait(self) -> Outcome<()> {
        let Self { queue, threads } = self;
        drop(queue);
        let ended = threads.into_iter().map(|thread| {
            let panicked = |_| Err(Fault::new(FaultReason::Io, "a thread that flushes files broke off"));
            thread.join().unwrap_or_else(panicked)
        });
        // All of them first: after a fault nothing of this may still be at work.
        let ended: Vec<Outcome<()>> = ended.collect();
        ended.into_iter().collect()
    }
}

/// Flushes one file after the other until there are no more.
fn flush(waiting: &Mutex<Receiver<(PathBuf, File)>>) -> Outcome<()> {
    let mut first = Ok(());
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((path, file)) = next else { return first };
        // After a fault the rest is only taken off the queue.
        if first.is_ok() {
            first = file.sync_all().doing("sync", &path);
        }
    }
}

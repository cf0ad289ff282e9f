//! What a process costs: seconds, processor time, bytes written, memory at its peak; from the proc file system.

use std::fs;
use std::time::Duration;

/// Clock ticks per second (proc_pid_stat(5)); the same on all Linux that there is.
const TICKS: f64 = 100.0;

/// The cost of one piece of work.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// How long it took.
    pub seconds: f64,
    /// Processor time, in seconds.
    pub processor: f64,
    /// Bytes written to disk, in MB.
    pub written: f64,
    /// Most memory at a time, in MB; 0 where that is not known.
    pub peak: f64,
}

/// Counters of a process that only grow.
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    processor: f64,
    written: f64,
}

impl Counters {
    /// Those of a process that has just begun.
    pub const NONE: Self = Self { processor: 0.0, written: 0.0 };

    /// Those of a process now, with its ended children.
    pub fn of(process: &str) -> Self {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
        let io = fs::read_to_string(format!("/proc/{process}/io")).unwrap();
        let written = field(&io, "write_bytes:");
        Self { processor: (11..15).map(ticks).sum::<f64>() / TICKS, written: written / 1e6 }
    }

    /// What was used since.
    pub fn until(self, now: Self, took: Duration) -> Usage {
        Usage {
            seconds: took.as_secs_f64(),
            processor: now.processor - self.processor,
            written: now.written - self.written,
            peak: 0.0,
        }
    }

    /// Processor time between two moments, in seconds.
    pub fn processor_until(self, now: Self) -> f64 {
        now.processor - self.processor
    }
}

/// Memory of a process in MB: `VmHWM:` at its peak, `VmRSS:` now.
pub fn memory(process: u32, name: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    field(&status, name) * 1024.0 / 1e6
}

fn field(text: &str, name: &str) -> f64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value.unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

//! What a burst costs the programs that take part: processor time, and memory at its peak.

use std::path::Path;

use crate::bed::ControlPlane;
use crate::cache_bench::usage::{Counters, memory};

/// What some processes used together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Processor time, in seconds.
    pub processor: f64,
    /// The sum of what each had at most, in MB.
    pub peak: f64,
}

/// Processes that are looked at together; none where they are part of this one.
pub struct Meter(Vec<(u32, Counters)>);

impl Meter {
    /// Begins; the peaks begin anew.
    pub fn begin(processes: impl IntoIterator<Item = u32>) -> Self {
        let begun = processes.into_iter().map(|process| {
            // proc_pid_clear_refs(5): the peak of the resident set is what it is now.
            std::fs::write(format!("/proc/{process}/clear_refs"), "5").unwrap();
            (process, Counters::of(&process.to_string()))
        });
        Self(begun.collect())
    }

    /// What was used since.
    pub fn end(&self) -> Cost {
        let each = self.0.iter().map(|(process, before)| Cost {
            processor: before.processor_until(Counters::of(&process.to_string())),
            peak: memory(*process, "VmHWM:"),
        });
        each.fold(Cost::default(), |all, one| Cost {
            processor: all.processor + one.processor,
            peak: all.peak + one.peak,
        })
    }
}

/// The processes of a control plane's own program of that name.
pub fn processes(control_plane: &ControlPlane, program: &str) -> Vec<u32> {
    let folder = control_plane.bed().place().folder.display().to_string();
    let is_it = |process: &u32| {
        let words = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        let mut words = words.split('\0');
        words.next().is_some_and(|path| Path::new(path).ends_with(program))
            && words.any(|word| word.contains(&folder))
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let all = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    all.filter(is_it).collect()
}

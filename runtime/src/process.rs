//! Metrics of the process itself, in the names that Prometheus clients agree on.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, Opts};

/// Reads memory, processor time and open files of this process when it is scraped.
pub struct ProcessCollector {
    cpu_seconds: Gauge,
    resident_bytes: Gauge,
    open_files: Gauge,
}

impl ProcessCollector {
    /// A collector to register once.
    pub fn new() -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| Gauge::with_opts(Opts::new(name, help));
        Ok(Self {
            cpu_seconds: gauge("process_cpu_seconds_total", "Processor time used, in seconds")?,
            resident_bytes: gauge("process_resident_memory_bytes", "Resident memory, in bytes")?,
            open_files: gauge("process_open_fds", "Open file descriptors")?,
        })
    }

    fn refresh(&self) {
        if let Some((cpu, resident)) = read_stat() {
            self.cpu_seconds.set(cpu);
            self.resident_bytes.set(resident);
        }
        if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
            self.open_files.set(entries.count() as f64);
        }
    }
}

/// Processor seconds and resident bytes, from proc(5).
fn read_stat() -> Option<(f64, f64)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in brackets and may hold anything; count from behind it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    let ticks = number(11)? + number(12)?;
    let pages = number(21)?;
    let cpu = ticks / rustix::param::clock_ticks_per_second() as f64;
    Some((cpu, pages * rustix::param::page_size() as f64))
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        [&self.cpu_seconds, &self.resident_bytes, &self.open_files]
            .into_iter()
            .flat_map(Collector::desc)
            .collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.refresh();
        [&self.cpu_seconds, &self.resident_bytes, &self.open_files]
            .into_iter()
            .flat_map(Collector::collect)
            .collect()
    }
}

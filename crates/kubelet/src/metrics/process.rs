//! `process_*`, as Prometheus' own client libraries name them, read from `/proc` at
//! each scrape. Where there is none, not on Linux, they are left out.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// The kernel's clock ticks in a second, as `/proc` counts on Linux everywhere.
const TICKS: f64 = 100.0;

/// This process.
#[derive(Debug)]
pub(super) struct Process;

#[derive(Debug, PartialEq)]
struct Reading {
    cpu_seconds: f64,
    start_time_seconds: f64,
    resident_memory_bytes: f64,
    virtual_memory_bytes: f64,
    max_fds: f64,
}

impl Reading {
    fn of_this_process() -> Option<Self> {
        let own = |file: &str| fs::read_to_string(format!("/proc/self/{file}")).ok();
        let system = fs::read_to_string("/proc/stat").ok()?;
        Self::of(&own("stat")?, &own("status")?, &own("limits")?, &system)
    }

    /// Of `stat`, `status` and `limits` of a process, and `stat` of the system: proc(5).
    fn of(stat: &str, status: &str, limits: &str, system: &str) -> Option<Self> {
        // The name, in brackets, may hold anything.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        // The third field of the manual is the first here.
        let ticks = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let booted: f64 = after(system, "btime")?.parse().ok()?;
        let memory = |name| Some(after(status, name)?.parse::<f64>().ok()? * 1024.0);
        let open_files = after(limits, "Max open files")?;
        Some(Self {
            cpu_seconds: (ticks(14)? + ticks(15)?) / TICKS,
            start_time_seconds: booted + ticks(22)? / TICKS,
            resident_memory_bytes: memory("VmRSS:")?,
            virtual_memory_bytes: memory("VmSize:")?,
            max_fds: open_files.parse().unwrap_or(f64::INFINITY),
        })
    }
}

/// The word behind a name at the beginning of a line.
fn after<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix(name)?.split_whitespace().next())
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(now) = Reading::of_this_process() else {
            return Ok(());
        };
        let cpu = encoder.encode_descriptor(
            "process_cpu_seconds",
            "Processor time of this process, of the system and its own",
            None,
            MetricType::Counter,
        )?;
        ConstCounter::new(now.cpu_seconds).encode(cpu)?;
        let mut gauge = |name, help, value: f64| {
            let encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(encoder)
        };
        gauge(
            "process_start_time_seconds",
            "Unix time at which this process began",
            now.start_time_seconds,
        )?;
        gauge(
            "process_resident_memory_bytes",
            "Memory of this process that is in use",
            now.resident_memory_bytes,
        )?;
        gauge(
            "process_virtual_memory_bytes",
            "Addresses of this process that stand for something",
            now.virtual_memory_bytes,
        )?;
        gauge(
            "process_max_fds",
            "Files, sockets among them, that this process may have open",
            now.max_fds,
        )?;
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // One of them is the folder's own.
            let open = u32::try_from(open.count().saturating_sub(1)).unwrap_or(u32::MAX);
            gauge(
                "process_open_fds",
                "Files, sockets among them, that this process has open",
                open.into(),
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_as_the_kernel_shows_it() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194560 900 0 3 0 250 50 0 0 20 0 5 0 12345 \
                    1000000 500 18446744073709551615";
        let status = "Name:\ta ) b\nVmSize:\t    2048 kB\nVmRSS:\t     512 kB\nThreads:\t5\n";
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 524288               files     \n";
        let system = "cpu  1 2 3\nbtime 1700000000\nprocesses 9\n";
        let wanted = Reading {
            cpu_seconds: 3.0,
            start_time_seconds: 1_700_000_123.45,
            resident_memory_bytes: 524_288.0,
            virtual_memory_bytes: 2_097_152.0,
            max_fds: 1024.0,
        };
        assert_eq!(Reading::of(stat, status, limits, system), Some(wanted));
        let unlimited = limits.replace("1024 ", "unlimited ");
        let reading = Reading::of(stat, status, &unlimited, system).unwrap();
        assert!(reading.max_fds.is_infinite());
        assert_eq!(Reading::of("", "", "", ""), None);
    }
}

//! What processes use, from `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use jiff::Timestamp;
use rustix::process::Pid;
use tokio::task::spawn_blocking;
use vk_provider::stats::{ContainerStats, Cpu, Memory, NodeStats, PodStats, Usage};
use vk_provider::{BackendError, Stats};

use super::family::{Mark, marked};
use super::{Processes, unavailable};

/// A number that only rises: the time of processes that have ended is lost.
#[derive(Default)]
pub(super) struct Rising(AtomicU64);

impl Rising {
    fn to(&self, now: u64) -> u64 {
        self.0.fetch_max(now, Ordering::Relaxed).max(now)
    }
}

/// Of some processes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Used {
    nanos: u64,
    anonymous: u64,
    shared: u64,
    files: u64,
}

impl std::ops::AddAssign for Used {
    fn add_assign(&mut self, other: Self) {
        self.nanos += other.nanos;
        self.anonymous += other.anonymous;
        self.shared += other.shared;
        self.files += other.files;
    }
}

#[async_trait]
impl Stats for Processes {
    /// Measured now. A node is the sum of its pods.
    async fn stats(&self, node: &str) -> Result<NodeStats, BackendError> {
        if !self.0.nodes.contains_key(node) {
            return Err(BackendError::NotFound);
        }
        let used = spawn_blocking(measure).await.map_err(unavailable)?;
        let at = self.0.clock.now();
        let mut all = NodeStats {
            started_at: Some(self.0.began),
            ..NodeStats::default()
        };
        let mut sum = (0, Used::default());
        let pods = self.pods();
        for pod in pods.values().filter(|pod| *pod.node == *node) {
            let running = pod.containers.iter().filter(|c| c.now.end().is_none());
            let containers = running.map(|container| {
                let used = of(container.now.mark(), &used);
                let nanos = container.now.cpu.to(used.nanos);
                sum.0 += nanos;
                sum.1 += used;
                ContainerStats {
                    name: container.name.clone(),
                    started_at: Some(container.now.started_at()),
                    usage: usage(nanos, used, at),
                }
            });
            let containers: Vec<_> = containers.collect();
            let started_at = containers.iter().filter_map(|c| c.started_at).min();
            if !containers.is_empty() {
                all.pods.push(PodStats {
                    key: pod.key.clone(),
                    started_at,
                    usage: Usage::default(),
                    containers,
                });
            }
        }
        // Pods come and go: their sum may fall, which no such number may.
        all.usage = usage(sum.0, sum.1, at);
        if let Some(cpu) = &mut all.usage.cpu {
            cpu.total_nanos = None;
        }
        Ok(all)
    }
}

fn usage(nanos: u64, used: Used, at: Timestamp) -> Usage {
    Usage {
        cpu: Some(Cpu {
            at,
            total_nanos: Some(nanos),
            nano_cores: None,
        }),
        memory: Some(Memory {
            at,
            working_set: Some(used.anonymous + used.shared),
            usage: Some(used.anonymous + used.shared + used.files),
            rss: Some(used.anonymous),
            available: None,
        }),
    }
}

/// By mark.
fn measure() -> BTreeMap<String, Used> {
    let mut all = BTreeMap::<String, Used>::new();
    for (pid, mark) in marked() {
        if let Some(used) = one(pid) {
            *all.entry(mark).or_default() += used;
        }
    }
    all
}

fn of(mark: &Mark, all: &BTreeMap<String, Used>) -> Used {
    let mut sum = Used::default();
    for (_, used) in all.iter().filter(|(other, _)| mark.holds(other)) {
        sum += *used;
    }
    sum
}

fn one(pid: Pid) -> Option<Used> {
    let folder = format!("/proc/{}", pid.as_raw_nonzero());
    let stat = fs::read_to_string(format!("{folder}/stat")).ok()?;
    let status = fs::read_to_string(format!("{folder}/status")).ok()?;
    let ticks = ticks(&stat)?;
    let nanos = u128::from(ticks) * 1_000_000_000;
    let nanos = nanos / u128::from(rustix::param::clock_ticks_per_second().max(1));
    Some(Used {
        nanos: u64::try_from(nanos).unwrap_or(u64::MAX),
        anonymous: bytes(&status, "RssAnon:"),
        shared: bytes(&status, "RssShmem:"),
        files: bytes(&status, "RssFile:"),
    })
}

/// Its own and its ended children's, `utime` to `cstime` in proc(5).
fn ticks(stat: &str) -> Option<u64> {
    // The name in brackets may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let times = fields.split_whitespace().skip(11).take(4);
    times.map(|time| time.parse::<u64>().ok()).sum()
}

fn bytes(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|n| n.parse::<u64>().ok())
        .map_or(0, |kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_proc_are_read() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 88 9 0 0 3 4 5 6 20 0 1 0 100 0 0";
        assert_eq!(ticks(stat), Some(18));
        let status = "VmRSS:\t  30 kB\nRssAnon:\t      12 kB\nRssFile:\t 8 kB\n";
        assert_eq!(bytes(status, "RssAnon:"), 12 << 10);
        assert_eq!(bytes(status, "RssShmem:"), 0);
    }
}

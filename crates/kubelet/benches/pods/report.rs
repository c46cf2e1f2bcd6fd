//! The table.

use std::fmt;
use std::time::Duration;

use crate::generator::Burst;
use crate::requests::Requests;

/// One subject's burst.
pub struct Row {
    pub name: String,
    pub pods: usize,
    pub created: Burst,
    pub deleted: Burst,
    pub started_for: Duration,
    pub ended_for: Duration,
    pub started_with: Requests,
    pub ended_with: Requests,
    pub rss: f64,
    pub peak: f64,
}

/// Everything measured.
pub struct Report {
    size: usize,
    rows: Vec<Row>,
    lines: Vec<String>,
    crowds: Vec<Crowd>,
}

/// Many idle nodes in one process.
pub struct Crowd {
    pub name: &'static str,
    pub nodes: usize,
    pub connections: usize,
    pub watches: f64,
    pub requests_per_minute: f64,
    pub registered: Duration,
    /// Part of a core.
    pub cpu: f64,
    pub rss: f64,
    pub peak: f64,
}

impl Report {
    pub fn new(size: usize) -> Self {
        Self {
            size,
            rows: Vec::new(),
            lines: Vec::new(),
            crowds: Vec::new(),
        }
    }

    pub fn row(&mut self, row: Row) {
        self.rows.push(row);
        // A run that is broken off has shown something.
        eprintln!("{self}");
    }

    pub fn crowd(&mut self, crowd: Crowd) {
        self.crowds.push(crowd);
    }

    pub fn memory(&mut self, pods: usize, rss: f64, peak: f64) {
        self.lines.push(format!(
            "| RSS with {pods} pods | {rss:.1} MB (peak {peak:.1}) |"
        ));
    }

    pub fn line(&mut self, what: &str, measured: &str) {
        self.lines.push(format!("| {what} | {measured} |"));
    }

    pub fn idle(&mut self, pods: usize, part: f64) {
        self.lines.push(format!(
            "| idle with {pods} pods | {:.2} % of a core |",
            part * 100.0
        ));
    }

    pub fn restart(
        &mut self,
        pods: usize,
        ready: Duration,
        settled: Duration,
        writes: usize,
        rss: f64,
    ) {
        self.lines.push(format!(
            "| restart with {pods} pods | ready after {:.1} s, at rest after {:.1} s, {writes} writes, RSS {rss:.1} MB |",
            ready.as_secs_f64(),
            settled.as_secs_f64(),
        ));
    }

    /// The better of the ceiling's runs.
    fn ceiling(&self) -> Option<f64> {
        let ceilings = self.rows.iter().filter(|r| r.name.starts_with("ceiling"));
        ceilings.map(|r| r.created.rate()).reduce(f64::max)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{} pods: created → Running\n", self.size)?;
        writeln!(
            f,
            "| subject | pods/s | % of ceiling | p50 | p99 | CPU-s per 1,000 | RSS (peak) MB | requests per pod |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|")?;
        for row in &self.rows {
            writeln!(
                f,
                "| {} | {:.0} | {:.0} % | {} | {} | {} | {:.1} ({:.1}) | {} |",
                row.name,
                row.created.rate(),
                100.0 * row.created.rate() / self.ceiling().unwrap_or(f64::NAN),
                seconds(row.created.quantile(0.5)),
                seconds(row.created.quantile(0.99)),
                per_thousand(row.started_for, row.pods),
                row.rss,
                row.peak,
                row.started_with.per_pod(row.pods),
            )?;
        }
        writeln!(f, "\n{} pods: deleted → gone\n", self.size)?;
        writeln!(
            f,
            "| subject | pods/s | p50 | p99 | CPU-s per 1,000 | requests per pod |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|")?;
        for row in &self.rows {
            writeln!(
                f,
                "| {} | {:.0} | {} | {} | {} | {} |",
                row.name,
                row.deleted.rate(),
                seconds(row.deleted.quantile(0.5)),
                seconds(row.deleted.quantile(0.99)),
                per_thousand(row.ended_for, row.pods),
                row.ended_with.per_pod(row.pods),
            )?;
        }
        if !self.lines.is_empty() {
            writeln!(
                f,
                "\nmock on one node\n\n| what | measured |\n|---|---|\n{}",
                self.lines.join("\n")
            )?;
        }
        if !self.crowds.is_empty() {
            writeln!(
                f,
                "\n| nodes in one process | connections | watches | requests a minute | CPU, of a core | RSS (peak) MB | all Ready after |\n|---|---|---|---|---|---|---|"
            )?;
        }
        for crowd in &self.crowds {
            writeln!(
                f,
                "| {}, {} | {} | {:.0} | {:.0} | {:.1} % | {:.1} ({:.1}) | {} |",
                crowd.nodes,
                crowd.name,
                crowd.connections,
                crowd.watches,
                crowd.requests_per_minute,
                crowd.cpu * 100.0,
                crowd.rss,
                crowd.peak,
                seconds(crowd.registered),
            )?;
        }
        Ok(())
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn per_thousand(time: Duration, pods: usize) -> String {
    format!("{:.2}", time.as_secs_f64() * 1000.0 / pods as f64)
}

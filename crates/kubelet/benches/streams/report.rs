//! What came out, as tables for docs/benchmarks.md.

use std::fmt;
use std::time::Duration;

use crate::transfer::Way;

/// One transfer of one subject.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    pub took: Duration,
    /// Of the subject alone, without the processes it started.
    pub cpu: Duration,
    /// Most memory meanwhile, in MB.
    pub peak: f64,
    /// Of that what is its own, and no page of a file.
    pub own: f64,
}

/// Many sessions of one subject. Memory in MB.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    /// Memory before.
    pub rest: f64,
    pub rss: f64,
    pub peak: f64,
    /// Of one core.
    pub cpu: f64,
    /// What they all did together each second.
    pub rate: f64,
}

pub struct Report {
    bytes: u64,
    rounds: usize,
    sessions: usize,
    echoes: Vec<Duration>,
    transfers: Vec<(Way, usize, Transfer)>,
    moments: Vec<(&'static str, [Vec<Duration>; 2])>,
    execs: Vec<Crowd>,
    follows: Vec<Crowd>,
}

impl Report {
    pub fn new(bytes: u64, rounds: usize, sessions: usize) -> Self {
        Self {
            bytes,
            rounds,
            sessions,
            echoes: Vec::new(),
            transfers: Vec::new(),
            moments: Vec::new(),
            execs: Vec::new(),
            follows: Vec::new(),
        }
    }

    pub fn echo(&mut self, took: Duration) {
        eprintln!("plain echo: {took:.2?}");
        self.echoes.push(took);
    }

    pub fn transfer(&mut self, way: Way, subject: usize, transfer: Transfer) {
        eprintln!("{way:?}, {}: {transfer:.2?}", ["ours", "theirs"][subject]);
        self.transfers.push((way, subject, transfer));
    }

    pub fn moments(&mut self, what: &'static str, times: [Vec<Duration>; 2]) {
        self.moments.push((what, times));
    }

    /// In the order of the subjects.
    pub fn execs(&mut self, crowd: Crowd) {
        eprintln!("{crowd:.1?}");
        self.execs.push(crowd);
    }

    pub fn follows(&mut self, crowd: Crowd) {
        eprintln!("{crowd:.1?}");
        self.follows.push(crowd);
    }

    fn rate(&self, took: Duration) -> f64 {
        self.bytes as f64 / 1e6 / took.as_secs_f64()
    }

    /// The middle one of the rounds, of each.
    fn median(&self, way: Way, subject: usize) -> Transfer {
        let rounds = || {
            let all = self.transfers.iter();
            all.filter(|(w, s, _)| (*w, *s) == (way, subject))
                .map(|(_, _, transfer)| *transfer)
        };
        Transfer {
            took: middle(rounds().map(|t| t.took)),
            cpu: middle(rounds().map(|t| t.cpu)),
            peak: middle(rounds().map(|t| t.peak)),
            own: middle(rounds().map(|t| t.own)),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mib, rounds, sessions) = (self.bytes >> 20, self.rounds, self.sessions);
        writeln!(
            f,
            "\n| {mib} MiB there and back, middle of {rounds} | MB/s | % of the echo | MB/s of the library | ours / library | CPU-s per GiB | library | peak RSS MB | library | without its program | library |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|---|---|")?;
        let echo = self.rate(middle(self.echoes.iter().copied()));
        writeln!(
            f,
            "| plain echo through the API server | {echo:.0} | 100 % | | | | | | | | |"
        )?;
        let gib = self.bytes as f64 / f64::from(1 << 30);
        for way in Way::ALL {
            let [ours, theirs] = [0, 1].map(|subject| self.median(way, subject));
            let [our_rate, their_rate] = [ours, theirs].map(|t| self.rate(t.took));
            writeln!(
                f,
                "| {} | {our_rate:.0} | {:.0} % | {their_rate:.0} | {:.2} | {:.2} | {:.2} | {:.1} | {:.1} | {:.1} | {:.1} |",
                name(way),
                our_rate / echo * 100.0,
                our_rate / their_rate,
                ours.cpu.as_secs_f64() / gib,
                theirs.cpu.as_secs_f64() / gib,
                ours.peak,
                theirs.peak,
                ours.own,
                theirs.own,
            )?;
        }
        writeln!(
            f,
            "\n| exec of `echo` | p50 | p99 | library p50 | library p99 |"
        )?;
        writeln!(f, "|---|---|---|---|---|")?;
        for (what, times) in &self.moments {
            let [ours, theirs] = times
                .each_ref()
                .map(|times| [0.5, 0.99].map(|p| quantile(times, p)));
            writeln!(
                f,
                "| {what} | {} | {} | {} | {} |",
                ms(ours[0]),
                ms(ours[1]),
                ms(theirs[0]),
                ms(theirs[1]),
            )?;
        }
        writeln!(
            f,
            "\n| {sessions} sessions | RSS MB before | RSS MB (peak) | CPU of a core | answers a second |"
        )?;
        writeln!(f, "|---|---|---|---|---|")?;
        let subjects = ["execs of `cat`", "the same, library", "log follows"];
        for (what, crowd) in subjects.iter().zip(self.execs.iter().chain(&self.follows)) {
            writeln!(
                f,
                "| {what} | {:.1} | {:.1} ({:.1}) | {:.1} % | {:.0} |",
                crowd.rest,
                crowd.rss,
                crowd.peak,
                crowd.cpu * 100.0,
                crowd.rate,
            )?;
        }
        Ok(())
    }
}

fn name(way: Way) -> &'static str {
    match way {
        Way::KubectlWebSocket => "`kubectl exec`, WebSocket",
        Way::KubectlSpdy => "`kubectl exec`, SPDY",
        Way::Direct => "exec at the node itself, WebSocket",
        Way::ForwardOne => "`kubectl port-forward`, 1 connection",
        Way::ForwardMany => "`kubectl port-forward`, 50 connections",
    }
}

fn middle<T: PartialOrd + Copy>(values: impl Iterator<Item = T>) -> T {
    quantile(&values.collect::<Vec<_>>(), 0.5)
}

/// What `part` of them stay under.
fn quantile<T: PartialOrd + Copy>(values: &[T], part: f64) -> T {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).expect("all are numbers"));
    let last = sorted.len() - 1;
    sorted[(last as f64 * part).round() as usize]
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

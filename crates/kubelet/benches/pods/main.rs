//! `make bench`: how fast, and with how much, pods become Running and go away
//! on a real API server. In one run: the *ceiling* (a client that does nothing
//! but the writes no kubelet can do without), the framework under the `mock`
//! example, and kwok. `docs/benchmarks.md` tells what each column means.
//!
//! `SIZE=500 make bench` is quick; `ONLY=mock-1` runs one subject beside the
//! ceiling.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    reason = "a benchmark ends at what it did not expect"
)]

mod ceiling;
mod generator;
#[path = "../../../../tests/real/harness/mod.rs"]
mod harness;
mod inputs;
mod report;
mod requests;
mod subject;

use std::path::Path;
use std::time::{Duration, Instant};

use generator::Generator;
use harness::control_plane::ControlPlane;
use harness::number;
use kube::Client;
use report::{Crowd, Report, Row};
use requests::Requests;
use subject::{Kind, Subject};

/// Pods of a burst, unless `SIZE` says otherwise.
const SIZE: usize = 5_000;
/// How long the idle process is watched: one listing of the backend falls into it.
const IDLE: Duration = Duration::from_secs(60);
/// Sizes at which memory is looked at, in fifths of the burst.
const GROWTH: [usize; 3] = [2, 5, 10];

/// After a start, until idle connections are given up.
const SETTLED: Duration = Duration::from_secs(100);
/// Nodes of the process that has many, unless `NODES` says otherwise.
const NODES: usize = 500;

/// The subjects in their order; the ceiling twice, because the machine warms up.
const SUBJECTS: [(&str, Kind, usize); 6] = [
    ("ceiling", Kind::Ceiling, 1),
    ("mock-1", Kind::Mock, 1),
    ("mock-10", Kind::Mock, 10),
    ("mock-100", Kind::Mock, 100),
    ("kwok", Kind::Kwok, 1),
    ("ceiling again", Kind::Ceiling, 1),
];

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(ceiling::COMMAND) {
        let kubeconfig = arguments.next().expect("a kubeconfig");
        return ceiling::run(client(Path::new(&kubeconfig)).await).await;
    }
    let Some(tools) = harness::tools() else {
        return;
    };
    let size = number("SIZE").unwrap_or(SIZE);
    let idle = number("IDLE").map_or(IDLE, Duration::from_secs);
    let plane = tokio::task::spawn_blocking(move || ControlPlane::start_server(&tools))
        .await
        .unwrap();
    let client = client(&plane.kubeconfig()).await;
    let mut generator = Generator::start(client.clone()).await;
    let bench = Bench {
        plane: &plane,
        client,
        size,
    };

    // Caches, connections, the first compaction: not a subject's matter.
    let mut warm = bench.start(Kind::Ceiling, 1, &mut generator).await;
    generator.create(size / 5, &warm.nodes).await;
    generator.delete().await;
    warm.stop();

    let only = std::env::var("ONLY").ok();
    let wanted = |name: &str| {
        let alone = |only: &str| matches!(only, "nodes" | "inputs");
        let beside = name == "ceiling" && only.as_deref().is_some_and(|o| !alone(o));
        beside || only.as_deref().is_none_or(|o| o == name)
    };
    let mut report = Report::new(size);
    for (name, kind, nodes) in SUBJECTS {
        if wanted(name) {
            let row = bench.burst(name, kind, nodes, &mut generator).await;
            report.row(row);
        }
    }
    if wanted("growth") {
        bench.growth(idle, &mut generator, &mut report).await;
    }
    if wanted("inputs") {
        inputs::measure(&bench, &mut generator, &mut report).await;
    }
    if wanted("nodes") {
        let nodes = number("NODES").unwrap_or(NODES);
        for (name, kind) in [("HTTP/1.1", Kind::MockHttp1), ("HTTP/2", Kind::Mock)] {
            let crowd = bench.crowd(name, kind, nodes, idle, &mut generator).await;
            report.crowd(crowd);
        }
    }
    println!("{report}");
}

struct Bench<'a> {
    plane: &'a ControlPlane,
    client: Client,
    size: usize,
}

impl Bench<'_> {
    async fn start(&self, kind: Kind, nodes: usize, generator: &mut Generator) -> Subject {
        let subject = Subject::start(self.plane, &self.client, kind, nodes).await;
        generator.clear();
        subject
    }

    /// A burst of pods comes and goes.
    async fn burst(&self, name: &str, kind: Kind, nodes: usize, generator: &mut Generator) -> Row {
        eprintln!("{name}: {} pods on {nodes} nodes", self.size);
        let mut subject = self.start(kind, nodes, generator).await;
        subject.quiet().await;
        let (cpu, asked) = (subject.cpu(), Requests::read(&self.client).await);
        let created = generator.create(self.size, &subject.nodes).await;
        subject.quiet().await;
        let started_for = subject.cpu() - cpu;
        let started_with = Requests::read(&self.client).await.since(&asked);
        let (rss, peak) = subject.memory();

        let (cpu, asked) = (subject.cpu(), Requests::read(&self.client).await);
        let deleted = generator.delete().await;
        subject.quiet().await;
        let row = Row {
            name: name.into(),
            pods: self.size,
            created,
            deleted,
            started_for,
            ended_for: subject.cpu() - cpu,
            started_with: started_with.without("POST pods", self.size),
            ended_with: Requests::read(&self.client)
                .await
                .since(&asked)
                .without("DELETE pods", self.size),
            rss,
            peak,
        };
        eprintln!("{}", subject.log());
        subject.stop();
        row
    }

    /// Many idle nodes.
    async fn crowd(
        &self,
        name: &'static str,
        kind: Kind,
        nodes: usize,
        idle: Duration,
        generator: &mut Generator,
    ) -> Crowd {
        eprintln!("{nodes} nodes over {name}");
        let (_, others) = Requests::all(&self.client).await;
        let begun = Instant::now();
        let mut subject = self.start(kind, nodes, generator).await;
        let registered = begun.elapsed();
        // The connections of the start are given up when they were idle for 90 s.
        tokio::time::sleep(SETTLED).await;
        let (cpu, begun) = (subject.cpu(), Instant::now());
        let (before, _) = Requests::all(&self.client).await;
        tokio::time::sleep(idle).await;
        let (after, watches) = Requests::all(&self.client).await;
        let took = begun.elapsed().as_secs_f64();
        let (rss, peak) = subject.memory();
        let crowd = Crowd {
            name,
            nodes,
            connections: subject.connections(self.plane.port()),
            watches: watches - others,
            requests_per_minute: (after - before) / took * 60.0,
            registered,
            cpu: (subject.cpu() - cpu).as_secs_f64() / took,
            rss,
            peak,
        };
        eprintln!("{}", subject.log());
        subject.stop();
        crowd
    }

    /// Memory at three sizes; at the middle one also an idle process and a restart.
    async fn growth(&self, idle: Duration, generator: &mut Generator, report: &mut Report) {
        let mut subject = self.start(Kind::Mock, 1, generator).await;
        let mut pods = 0;
        for fifths in GROWTH {
            let target = self.size * fifths / 5;
            eprintln!("growth: {target} pods");
            generator.create(target - pods, &subject.nodes).await;
            pods = target;
            subject.quiet().await;
            let (rss, peak) = subject.memory();
            report.memory(pods, rss, peak);
            if pods == self.size {
                let (cpu, begun) = (subject.cpu(), Instant::now());
                tokio::time::sleep(idle).await;
                let used = subject.cpu() - cpu;
                report.idle(pods, used.as_secs_f64() / begun.elapsed().as_secs_f64());

                subject.stop();
                let asked = Requests::read(&self.client).await;
                let begun = Instant::now();
                subject = Subject::start(self.plane, &self.client, Kind::Mock, 1).await;
                let ready = begun.elapsed();
                let settled = subject.quiet().await - begun;
                let writes = Requests::read(&self.client).await.since(&asked).writes();
                let (rss, _) = subject.memory();
                report.restart(pods, ready, settled, writes, rss);
            }
        }
        generator.delete().await;
        subject.stop();
    }
}

async fn client(kubeconfig: &Path) -> Client {
    Client::try_from(harness::reached(kubeconfig).await).unwrap()
}

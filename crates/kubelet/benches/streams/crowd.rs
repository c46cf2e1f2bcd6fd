//! Many sessions at once that do little: what they take of memory and processor.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::{AsyncBufReadExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use kube::{Api, Client};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::door::Exec;
use crate::harness;
use crate::report::{Crowd, Report};
use crate::stage::{LINE, NAMESPACE, Stage, Subject};

/// Begun at once.
const AT_ONCE: usize = 20;
/// Between the last session's begin and the first look, and between the looks.
const SETTLE: Duration = Duration::from_secs(5);
const WATCHED: Duration = Duration::from_secs(20);
/// What each session says each second.
const WORD: [u8; 64] = [b'x'; 64];

/// First of all, while nobody's memory is stretched by anything else.
pub async fn measure(stage: &Stage, sessions: usize, report: &mut Report) {
    for subject in &stage.subjects {
        eprintln!("{sessions} execs, {}", subject.pod);
        report.execs(execs(stage, subject, sessions).await);
    }
    let [ours, _] = &stage.subjects;
    eprintln!("{sessions} log follows, {}", ours.pod);
    report.follows(follows(stage, ours, sessions).await);
}

async fn execs(stage: &Stage, subject: &Subject, sessions: usize) -> Crowd {
    // One, so that what is there once for all is there.
    drop(stage.api.exec(subject.pod, true, "cat").await);
    sleep(SETTLE).await;
    let (rest, _) = subject.process.memory();
    subject.process.forget_peak();
    let all: Vec<Exec> = stream::iter(0..sessions)
        .map(|_| stage.api.exec(subject.pod, true, "cat"))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let echoed = Arc::<AtomicU64>::default();
    let mut talking = JoinSet::new();
    for exec in all {
        talking.spawn(talk(exec, echoed.clone()));
    }
    watch(subject, rest, &echoed).await
    // Whose ends hang up.
}

async fn talk(mut exec: Exec, echoed: Arc<AtomicU64>) {
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut back = [0; WORD.len()];
    loop {
        seconds.tick().await;
        exec.stdin.write_all(&WORD).await.unwrap();
        exec.stdout.read_exact(&mut back).await.unwrap();
        assert_eq!(back, WORD);
        echoed.fetch_add(1, Ordering::Relaxed);
    }
}

async fn follows(stage: &Stage, subject: &Subject, sessions: usize) -> Crowd {
    sleep(SETTLE).await;
    let (rest, _) = subject.process.memory();
    subject.process.forget_peak();
    let pods: Api<Pod> = Api::namespaced(client(&stage.plane.kubeconfig()).await, NAMESPACE);
    let lines = Arc::<AtomicU64>::default();
    let mut following = JoinSet::new();
    for _ in 0..sessions {
        let (pods, lines, pod) = (pods.clone(), lines.clone(), subject.pod);
        following.spawn(async move {
            let how = LogParams {
                follow: true,
                tail_lines: Some(0),
                ..LogParams::default()
            };
            let mut log = pods.log_stream(pod, &how).await.unwrap().lines();
            while let Some(line) = log.next().await {
                assert_eq!(line.unwrap(), LINE);
                lines.fetch_add(1, Ordering::Relaxed);
            }
            panic!("a log that is followed came to an end");
        });
    }
    watch(subject, rest, &lines).await
}

/// What it takes while it is at work.
async fn watch(subject: &Subject, rest: f64, done: &AtomicU64) -> Crowd {
    sleep(SETTLE).await;
    let (begun, cpu, before) = (
        Instant::now(),
        subject.process.cpu(),
        done.load(Ordering::Relaxed),
    );
    sleep(WATCHED).await;
    let took = begun.elapsed().as_secs_f64();
    let (rss, peak) = subject.process.memory();
    Crowd {
        rest,
        rss,
        peak,
        cpu: (subject.process.cpu() - cpu).as_secs_f64() / took,
        rate: (done.load(Ordering::Relaxed) - before) as f64 / took,
    }
}

async fn client(kubeconfig: &Path) -> Client {
    Client::try_from(harness::reached(kubeconfig).await).unwrap()
}

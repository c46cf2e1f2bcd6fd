//! How soon the first byte of a command comes.

use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::door::Door;
use crate::report::Report;
use crate::stage::{NAMESPACE, Stage};

/// Of our own client.
const SAMPLES: usize = 100;
/// Of kubectl, which takes its time to start.
const KUBECTLS: usize = 10;
/// Before, for what is remembered: connections, who may do what.
const WARM: usize = 5;

pub async fn measure(stage: &Stage, report: &mut Report) {
    eprintln!("first bytes");
    let mut through = [Vec::new(), Vec::new()];
    let mut direct = [Vec::new(), Vec::new()];
    for sample in 0..WARM + SAMPLES {
        for (number, subject) in stage.subjects.iter().enumerate() {
            let times = [
                first_byte(&stage.api, subject.pod).await,
                first_byte(&subject.node, subject.pod).await,
            ];
            if sample >= WARM {
                through[number].push(times[0]);
                direct[number].push(times[1]);
            }
        }
    }
    report.moments("first byte, through the API server", through);
    report.moments("first byte, straight from the node", direct);
    let mut kubectls = [Vec::new(), Vec::new()];
    for _ in 0..KUBECTLS {
        for (number, subject) in stage.subjects.iter().enumerate() {
            kubectls[number].push(kubectl(stage, subject.pod).await);
        }
    }
    report.moments("first byte of `kubectl exec`, its start included", kubectls);
}

/// From the first packet of a connection of its own.
async fn first_byte(door: &Door, pod: &str) -> Duration {
    let begun = Instant::now();
    let mut exec = door.exec(pod, false, "echo").await;
    exec.stdout.read_u8().await.unwrap();
    begun.elapsed()
}

async fn kubectl(stage: &Stage, pod: &str) -> Duration {
    let begun = Instant::now();
    let args = ["exec", "-n", NAMESPACE, pod, "--", "echo"];
    let mut command: Command = stage.plane.kubectl_command(&args).into();
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_u8().await.unwrap();
    let took = begun.elapsed();
    assert!(child.wait().await.unwrap().success());
    took
}

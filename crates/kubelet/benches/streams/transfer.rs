//! How many bytes a second go through a session and come back.

use std::pin::Pin;
use std::process::Stdio;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::report::{Report, Transfer};
use crate::stage::{NAMESPACE, Stage, Subject};

/// Connections of the second port-forward.
const MANY: usize = 50;
/// Written at once.
const CHUNK: usize = 64 << 10;
/// A transfer that stands still has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// How kubectl is told to speak SPDY.
const SPDY: [(&str, &str); 2] = [
    ("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false"),
    ("KUBECTL_PORT_FORWARD_WEBSOCKETS", "false"),
];

/// What is sent, over and over: nothing that compresses, and of a length that no
/// buffer has, so that a piece that is lost, doubled or moved is seen.
static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..(1 << 20) + 7).map(|_| next()).collect()
});

/// The client's ends of something that echoes.
pub struct Ends {
    pub to: Pin<Box<dyn AsyncWrite + Send>>,
    pub from: Pin<Box<dyn AsyncRead + Send>>,
}

/// What is measured, in the report's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    KubectlWebSocket,
    KubectlSpdy,
    /// Without kubectl and API server.
    Direct,
    ForwardOne,
    ForwardMany,
}

impl Way {
    pub const ALL: [Self; 5] = [
        Self::KubectlWebSocket,
        Self::KubectlSpdy,
        Self::Direct,
        Self::ForwardOne,
        Self::ForwardMany,
    ];
}

pub async fn measure(stage: &Stage, bytes: u64, rounds: usize, report: &mut Report) {
    for round in 1..=rounds {
        eprintln!("transfers: round {round} of {rounds}");
        let [_, theirs] = &stage.subjects;
        let echo = stage.api.echo(theirs.pod, stage.echoes.upgraded).await;
        report.echo(there_and_back(vec![echo], bytes).await);
        for way in Way::ALL {
            for (number, subject) in stage.subjects.iter().enumerate() {
                subject.process.forget_peak();
                let cpu = subject.process.cpu();
                let took = one(stage, subject, way, bytes).await;
                let cpu = subject.process.cpu() - cpu;
                let (_, peak) = subject.process.memory();
                let own = peak - subject.process.files();
                let transfer = Transfer {
                    took,
                    cpu,
                    peak,
                    own,
                };
                report.transfer(way, number, transfer);
            }
        }
    }
}

async fn one(stage: &Stage, subject: &Subject, way: Way, bytes: u64) -> Duration {
    let pod = subject.pod;
    match way {
        Way::KubectlWebSocket | Way::KubectlSpdy => {
            let args = ["exec", "-i", "-n", NAMESPACE, pod, "--", "cat"];
            let mut command: Command = stage.plane.kubectl_command(&args).into();
            if way == Way::KubectlSpdy {
                command.envs(SPDY);
            }
            let mut child = spawn(command);
            let ends = Ends {
                to: Box::pin(child.stdin.take().unwrap()),
                from: Box::pin(child.stdout.take().unwrap()),
            };
            there_and_back(vec![ends], bytes).await
        }
        Way::Direct => {
            let exec = subject.node.exec(pod, true, "cat").await;
            let (ends, _handle) = exec.into_ends();
            there_and_back(vec![ends], bytes).await
        }
        Way::ForwardOne => forward(stage, pod, 1, bytes).await,
        Way::ForwardMany => forward(stage, pod, MANY, bytes).await,
    }
}

async fn forward(stage: &Stage, pod: &str, connections: usize, bytes: u64) -> Duration {
    let port = format!(":{}", stage.echoes.plain);
    let args = [
        "port-forward",
        "-n",
        NAMESPACE,
        pod,
        "--address=127.0.0.1",
        &port,
    ];
    let mut child = spawn(stage.plane.kubectl_command(&args).into());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().expect("it forwards");
    let local = line.strip_prefix("Forwarding from 127.0.0.1:").unwrap();
    let local: u16 = local.split_once(' ').unwrap().0.parse().unwrap();
    // It writes a line for every connection.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    let mut all = Vec::new();
    for _ in 0..connections {
        let socket = TcpStream::connect(("127.0.0.1", local)).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let (from, to) = socket.into_split();
        all.push(Ends {
            to: Box::pin(to),
            from: Box::pin(from),
        });
    }
    there_and_back(all, bytes / connections as u64).await
}

/// Ends with its handle.
fn spawn(mut command: Command) -> Child {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("kubectl starts")
}

/// Sends so many bytes through each and awaits them back, every one of them right.
/// The clock starts when all have given the first one back.
async fn there_and_back(all: Vec<Ends>, bytes: u64) -> Duration {
    let ready = all.into_iter().map(async |mut ends| {
        ends.to.write_all(&BYTES[..1]).await.unwrap();
        ends.to.flush().await.unwrap();
        let back = tokio::time::timeout(PATIENCE, ends.from.read_u8()).await;
        assert_eq!(back.expect("the first byte comes back").unwrap(), BYTES[0]);
        ends
    });
    let ready = join_all(ready).await;
    let begun = Instant::now();
    let going = ready.into_iter().map(|ends| {
        let Ends { to, from } = ends;
        let said = tokio::spawn(say(to, bytes));
        let heard = tokio::spawn(hear(from, bytes));
        async move {
            heard.await.unwrap();
            let took = begun.elapsed();
            // Held until here: its end would end the session.
            drop(said.await.unwrap());
            took
        }
    });
    let each = join_all(going).await;
    each.into_iter().max().unwrap()
}

async fn say(mut to: Pin<Box<dyn AsyncWrite + Send>>, bytes: u64) -> impl Sized {
    let mut sent = 0;
    while sent < bytes {
        let place = place(sent);
        let length = (BYTES.len() - place)
            .min(CHUNK)
            .min((bytes - sent) as usize);
        to.write_all(&BYTES[place..place + length]).await.unwrap();
        sent += length as u64;
    }
    to.flush().await.unwrap();
    to
}

async fn hear(mut from: Pin<Box<dyn AsyncRead + Send>>, bytes: u64) {
    let mut chunk = vec![0; CHUNK];
    let mut heard = 0;
    while heard < bytes {
        let read = tokio::time::timeout(PATIENCE, from.read(&mut chunk)).await;
        let mut length = read.expect("bytes move").unwrap();
        assert_ne!(length, 0, "cut off after {heard} bytes");
        let mut got = &chunk[..length];
        while length > 0 {
            let place = place(heard);
            let part = (BYTES.len() - place).min(length);
            assert!(
                got[..part] == BYTES[place..place + part],
                "other bytes at {heard}"
            );
            got = &got[part..];
            length -= part;
            heard += part as u64;
        }
    }
    assert_eq!(heard, bytes, "more came back than was sent");
}

/// Of the byte at this offset behind the first one.
fn place(offset: u64) -> usize {
    ((offset + 1) % BYTES.len() as u64) as usize
}

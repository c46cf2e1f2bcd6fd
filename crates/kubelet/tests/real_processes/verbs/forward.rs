//! `kubectl port-forward`.

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Child;

use super::kubectl::{Kubectl, container, ended, lines, next};
use crate::harness::process::free_port;
use crate::rig::{Death, in_time};

const CONNECTIONS: usize = 50;

/// A pod that answers each connection with its process's number and what it says.
pub async fn echo(kubectl: &Kubectl, name: &str) -> u16 {
    let port = free_port();
    // So many may wait to be accepted as there are `l`s.
    let listen = "l".repeat(CONNECTIONS);
    let script = format!("exec nc -{listen} -p {port} -e sh -c 'echo $$; exec cat'");
    kubectl
        .starts(
            name,
            "Always",
            json!([container("app", &script, json!({}))]),
        )
        .await;
    kubectl
        .until("it listens", async || {
            TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
    port
}

/// Ports of this machine that lead to those of the pod.
async fn forwarding(kubectl: &Kubectl, pod: &str, ports: &[u16]) -> (Child, Vec<u16>) {
    let ports: Vec<String> = ports.iter().map(|port| format!(":{port}")).collect();
    let mut args = vec!["port-forward", pod, "--address=127.0.0.1"];
    args.extend(ports.iter().map(String::as_str));
    let mut child = kubectl.start(&args);
    let mut lines = lines(&mut child);
    let mut local = Vec::new();
    for _ in &ports {
        let line = next(&mut lines).await;
        let place = line.strip_prefix("Forwarding from 127.0.0.1:").unwrap();
        local.push(place.split_once(' ').unwrap().0.parse().unwrap());
    }
    // It writes a line for every connection.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, local)
}

/// A connection, and the process at its other end.
async fn connection(port: u16) -> (BufReader<TcpStream>, Death) {
    let connection = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut connection = BufReader::new(connection);
    let mut pid = String::new();
    in_time(connection.read_line(&mut pid)).await.unwrap();
    (connection, Death::of(&pid))
}

pub async fn fifty_at_once(kubectl: &Kubectl) {
    let port = echo(kubectl, "echo").await;
    let (mut child, local) = forwarding(kubectl, "echo", &[port]).await;
    let bytes: Vec<u8> = (0_u32..200_000).map(|n| (n ^ (n >> 8)) as u8).collect();
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        open.push(connection(local[0]).await);
    }
    // All are there; each says something else, and all of it comes back.
    let talks = open
        .into_iter()
        .enumerate()
        .map(|(number, (connection, death))| {
            let said = bytes[number..].to_vec();
            tokio::spawn(async move {
                let (mut from, mut to) = tokio::io::split(connection);
                let say = async {
                    to.write_all(&said).await.unwrap();
                    to.shutdown().await.unwrap();
                };
                let mut heard = Vec::new();
                let hear = from.read_to_end(&mut heard);
                in_time(async { tokio::join!(say, hear) }).await.1.unwrap();
                assert!(heard == said, "{} bytes came back", heard.len());
                death.comes().await;
            })
        });
    for talk in talks.collect::<Vec<_>>() {
        talk.await.unwrap();
    }
    assert!(child.try_wait().unwrap().is_none(), "it forwards on");
    let (_held, death) = connection(local[0]).await;
    child.kill().await.unwrap();
    death.comes().await;
}

/// kubectl ends at the first connection that fails, with a kubelet too.
pub async fn refused(kubectl: &Kubectl) {
    let containers = json!([container("app", "exec sleep 100000", json!({}))]);
    kubectl.starts("closed", "Always", containers).await;
    let port = free_port();
    let (child, local) = forwarding(kubectl, "closed", &[port]).await;
    let mut connection = TcpStream::connect(("127.0.0.1", local[0])).await.unwrap();
    let mut heard = Vec::new();
    // Closed or reset.
    let _ = in_time(connection.read_to_end(&mut heard)).await;
    assert_eq!(heard, b"");
    let printed = ended(child, b"").await;
    assert_eq!(printed.code, Some(1), "{printed:?}");
    let words = format!(
        "error forwarding port {port} to pod closed_{}, uid ",
        kubectl.way.namespace
    );
    assert!(printed.stderr.contains(&words), "{printed:?}");
    assert!(printed.stderr.contains("refused"), "{printed:?}");
    assert!(
        printed.stderr.ends_with("error: lost connection to pod\n"),
        "{printed:?}"
    );
}

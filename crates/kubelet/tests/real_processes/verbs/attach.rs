//! `kubectl attach`, and `kubectl run` which is made of it.

use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::kubectl::{Kubectl, container, ended, lines, next};
use crate::rig::NODE;

pub async fn terminal(kubectl: &Kubectl) {
    let fields = json!({"stdin": true, "tty": true});
    let containers = json!([container("app", "exec sh", fields)]);
    kubectl.starts("shell", "Always", containers).await;
    let mut screen = kubectl.on_a_terminal(&["attach", "-it", "shell"]);
    screen.shows("press").await;
    screen.types("kept=here; echo typed $((6 * 7))\r").await;
    screen.shows("typed 42").await;
    screen.resize(40, 120);
    screen
        .types("until [ \"$(stty size)\" = '40 120' ]; do :; done; echo it is $((6 * 7))\r")
        .await;
    screen.shows("it is 42").await;
    screen.killed().await;
    // It is the same shell.
    let mut screen = kubectl.on_a_terminal(&["attach", "-it", "shell"]);
    screen.shows("press").await;
    screen.types("echo \"still $kept\"\r").await;
    screen.shows("still here").await;
    screen.killed().await;
    let args = [
        "get",
        "pod",
        "shell",
        "-o",
        "jsonpath={.status.containerStatuses[0].restartCount}",
    ];
    assert_eq!(kubectl.run(&args, b"").await.text(), "0");
}

pub async fn without_a_terminal(kubectl: &Kubectl) {
    let reader = "while read line; do echo \"got $line\"; done; exec sleep 100000";
    let writer = "while :; do read -r line && echo \"heard $line\"; echo told; sleep 0.1; done";
    let containers = json!([
        container("app", reader, json!({"stdin": true})),
        container("deaf", writer, json!({})),
    ]);
    kubectl.starts("pipes", "Always", containers).await;
    for word in ["one", "two"] {
        let mut child = kubectl.start(&["attach", "-i", "pipes", "-c", "app"]);
        let mut lines = lines(&mut child);
        let mut stdin = child.stdin.take().unwrap();
        stdin
            .write_all(format!("{word}\n").as_bytes())
            .await
            .unwrap();
        // Its going is not the container's end of input.
        drop(stdin);
        assert_eq!(next(&mut lines).await, format!("got {word}"));
        child.kill().await.unwrap();
    }
    // One without input shows what it writes, and hears nothing.
    let mut child = kubectl.start(&["attach", "-i", "pipes", "-c", "deaf"]);
    let mut lines = lines(&mut child);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"not heard\n").await.unwrap();
    for _ in 0..3 {
        assert_eq!(next(&mut lines).await, "told");
    }
    child.kill().await.unwrap();
    let mut screen = kubectl.on_a_terminal(&["attach", "-it", "pipes", "-c", "deaf"]);
    screen
        .shows("Unable to use a TTY - container deaf did not allocate one")
        .await;
    screen.shows("told").await;
    screen.killed().await;
}

/// The arguments of a `kubectl run` of `sh`.
fn run<'a>(name: &'a str, flags: &'a [&'a str], node: &'a str) -> Vec<&'a str> {
    let image = &[
        "--image=none",
        "--restart=Never",
        node,
        "--command",
        "--",
        "sh",
    ];
    [&["run", name, "--rm"], flags, image].concat()
}

fn on_the_node() -> String {
    format!("--overrides={}", json!({"spec": {"nodeName": NODE}}))
}

pub async fn run_on_a_terminal(kubectl: &Kubectl) {
    let mut screen = kubectl.on_a_terminal(&run("visit", &["-it"], &on_the_node()));
    screen.shows("press").await;
    screen.types("echo in $HOSTNAME\r").await;
    screen.shows("\nin visit").await;
    screen.types("exit 3\r").await;
    let (code, seen) = screen.ends().await;
    assert_eq!(code, Some(3), "{seen}");
    assert!(seen.contains("pod \"visit\" deleted"), "{seen}");
    assert!(!seen.contains("falling back"), "{seen}");
    let gone = kubectl.run(&["get", "pod", "visit"], b"").await;
    assert_eq!(gone.code, Some(1), "{gone:?}");
}

pub async fn run_piped(kubectl: &Kubectl) {
    let child = kubectl.start(&run("job", &["-i"], &on_the_node()));
    let printed = ended(child, b"echo piped; exit 4\n").await;
    assert_eq!(printed.code, Some(4), "{printed:?}");
    assert_eq!(printed.text().matches("piped\n").count(), 1, "{printed:?}");
}

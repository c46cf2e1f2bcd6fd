//! `kubectl logs` and `kubectl debug`.

use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::kubectl::{Kubectl, container, ended, lines, next, prints};

pub async fn followed(kubectl: &Kubectl) {
    let fields = json!({"stdin": true, "stdinOnce": true});
    let containers = json!([container("app", "echo one; read line; echo two", fields)]);
    kubectl.starts("follow", "Never", containers).await;
    let mut child = kubectl.start(&["logs", "-f", "follow"]);
    let mut lines = lines(&mut child);
    assert_eq!(next(&mut lines).await, "one");
    let mut attached = kubectl.start(&["attach", "-i", "follow"]);
    let mut stdin = attached.stdin.take().unwrap();
    stdin.write_all(b"go\n").await.unwrap();
    assert_eq!(next(&mut lines).await, "two");
    let end = ended(child, b"").await;
    assert_eq!(end.code, Some(0), "{end:?}");
    drop(stdin);
    let end = ended(attached, b"").await;
    assert_eq!((end.code, &*end.text()), (Some(0), "two\n"), "{end:?}");
}

pub async fn previous(kubectl: &Kubectl) {
    let script =
        "[ -e been ] && { echo second; exec sleep 100000; }; touch been; echo first; exit 1";
    let containers = json!([container("app", script, json!({}))]);
    kubectl.creates("again", "Always", containers).await;
    kubectl
        .waits(
            "again",
            "jsonpath={.status.containerStatuses[0].restartCount}=1",
        )
        .await;
    let logs = async |flags: &[&str]| {
        kubectl
            .run(&[&["logs", "again"], flags].concat(), b"")
            .await
    };
    let before = logs(&["--previous"]).await;
    assert_eq!(
        (before.code, &*before.text()),
        (Some(0), "first\n"),
        "{before:?}"
    );
    kubectl.waits("again", "condition=Ready").await;
    kubectl
        .until("it writes", async || {
            (logs(&[]).await.text() == "second\n").then_some(())
        })
        .await;
}

/// kubectl waits for the container on, as it does for one whose image cannot be pulled.
pub async fn debug_is_refused(kubectl: &Kubectl) {
    let containers = json!([container("app", "exec sleep 100000", json!({}))]);
    kubectl.starts("sound", "Always", containers).await;
    let args = [
        "debug",
        "sound",
        "-it",
        "--image=none",
        "-c",
        "look",
        "--",
        "sh",
    ];
    let mut child = kubectl.start(&args);
    let mut stderr = child.stderr.take().unwrap();
    let words = "container look: This node cannot run ephemeral containers";
    prints(&mut stderr, words).await;
    child.kill().await.unwrap();
}

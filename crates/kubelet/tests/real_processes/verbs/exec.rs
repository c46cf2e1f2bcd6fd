//! `kubectl exec`.

use std::time::{Duration, Instant};

use serde_json::json;

use super::kubectl::{Kubectl, container, lines, next};
use crate::rig::Death;

/// Nobody who waits for `echo` wants to wait longer.
const AT_ONCE: Duration = Duration::from_secs(2);

async fn sleeper(kubectl: &Kubectl, name: &str) {
    let containers = json!([container("app", "exec sleep 100000", json!({}))]);
    kubectl.starts(name, "Always", containers).await;
}

pub async fn codes_and_outputs(kubectl: &Kubectl) {
    sleeper(kubectl, "codes").await;
    let exec = async |script: &str| kubectl.exec("codes", &[], &["sh", "-c", script], b"").await;
    let both = exec("echo out; echo err >&2; exit 42").await;
    assert_eq!((both.code, &*both.text()), (Some(42), "out\n"), "{both:?}");
    let words = "err\ncommand terminated with exit code 42\n";
    assert_eq!(both.stderr, words);
    let killed = exec("kill -KILL $$").await;
    assert_eq!(killed.code, Some(137), "{killed:?}");
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let begun = Instant::now();
        let said = exec("echo said").await;
        assert_eq!((said.code, &*said.text()), (Some(0), "said\n"), "{said:?}");
        fastest = fastest.min(begun.elapsed());
    }
    assert!(fastest < AT_ONCE, "{fastest:?}");
}

pub async fn input(kubectl: &Kubectl) {
    sleeper(kubectl, "input").await;
    let sorted = kubectl
        .exec("input", &["-i"], &["sort"], b"b\nc\na\n")
        .await;
    assert_eq!(
        (sorted.code, &*sorted.text()),
        (Some(0), "a\nb\nc\n"),
        "{sorted:?}"
    );
    // Every byte there is, in no short period.
    let bytes: Vec<u8> = (0_u32..3 << 20)
        .map(|n| (n ^ (n >> 8) ^ (n >> 16)) as u8)
        .collect();
    let cat = kubectl.exec("input", &["-i"], &["cat"], &bytes).await;
    assert_eq!(cat.code, Some(0), "{}", cat.stderr);
    assert!(cat.stdout == bytes, "{} bytes came back", cat.stdout.len());
    // A command need not read what it is given.
    let unread = kubectl
        .exec("input", &["-i"], &["sh", "-c", "exit 3"], &bytes)
        .await;
    assert_eq!(unread.code, Some(3), "{}", unread.stderr);
    let none = kubectl.exec("input", &[], &["cat"], b"nobody asked").await;
    assert_eq!((none.code, &*none.text()), (Some(0), ""), "{none:?}");
}

/// What was started for a client goes with it, and all that it started.
pub async fn clients_that_go(kubectl: &Kubectl) {
    sleeper(kubectl, "goers").await;
    let script = "trap '' HUP; echo $$; setsid sh -c 'echo $$; exec sleep 100000' & wait";
    for flags in [&[] as &[&str], &["-i"]] {
        let command = &["--", "sh", "-c", script] as &[_];
        let mut child = kubectl.start(&[&["exec", "goers"], flags, command].concat());
        let mut lines = lines(&mut child);
        let deaths = [
            Death::of(&next(&mut lines).await),
            Death::of(&next(&mut lines).await),
        ];
        child.kill().await.unwrap();
        for death in deaths {
            death.comes().await;
        }
    }
    let mut screen = kubectl.on_a_terminal(&["exec", "-it", "goers", "--", "sh"]);
    screen.shows(" # ").await;
    screen.types("echo pid-$$-\r").await;
    screen.shows("\npid-").await;
    let pid = screen.until("-").await;
    let death = Death::of(&pid);
    screen.killed().await;
    death.comes().await;
}

pub async fn refusals(kubectl: &Kubectl) {
    let containers = json!([
        container("app", "exec sleep 100000", json!({})),
        container("broken", "exit 1", json!({})),
    ]);
    kubectl.starts("half", "Never", containers).await;
    let broken = "jsonpath={.status.containerStatuses[1].state.terminated.exitCode}=1";
    kubectl.waits("half", broken).await;
    let over = json!([container("app", "exit 0", json!({}))]);
    kubectl.creates("over", "Never", over).await;
    kubectl
        .waits("over", "jsonpath={.status.phase}=Succeeded")
        .await;
    // kubectl and API servers that translate put words of their own before.
    for (place, command, words) in [
        (
            &["half", "-c", "app"] as &[_],
            "nope",
            "\"nope\" could not be started: there is no such program\n",
        ),
        (
            &["half", "-c", "app"],
            "/etc",
            "\"/etc\" could not be started: it is no program, or may not be run\n",
        ),
        // The kubelet's words.
        (
            &["half", "-c", "broken"],
            "true",
            "unable to upgrade connection: container not found (\"broken\")\n",
        ),
        // kubectl's.
        (
            &["half", "-c", "other"],
            "true",
            "error: container other is not valid for pod half out of: app, broken\n",
        ),
        (
            &["over"],
            "true",
            "error: cannot exec into a container in a completed pod; current phase is Succeeded\n",
        ),
    ] {
        let args = [&["exec"], place, &["--", command]].concat();
        let refused = kubectl.run(&args, b"").await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.ends_with(words), "{refused:?}");
    }
}

pub async fn terminal(kubectl: &Kubectl) {
    sleeper(kubectl, "terminal").await;
    let mut screen = kubectl.on_a_terminal(&["exec", "-it", "terminal", "--", "sh"]);
    screen.shows(" # ").await;
    screen.types("stty size\r").await;
    screen.shows("\n30 90\r\n").await;
    screen.resize(40, 120);
    // Nothing tells when the news has come there.
    screen
        .types("until [ \"$(stty size)\" = '40 120' ]; do :; done; echo it is $((6 * 7))\r")
        .await;
    screen.shows("it is 42").await;
    // Interrupts are the shell's there, not kubectl's here.
    screen.types("echo now $((6 * 7)); sleep 100000\r").await;
    screen.shows("now 42").await;
    screen.types("\u{3}").await;
    screen.shows(" # ").await;
    screen.types("exit 7\r").await;
    let (code, seen) = screen.ends().await;
    assert_eq!(code, Some(7), "{seen}");
}

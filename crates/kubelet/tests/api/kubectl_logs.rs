//! `/containerLogs`.

use std::time::Duration;

use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use virtual_kubelet::ClientCa;
use vk_provider::LogSource;

use crate::rig::{Rig, request};
use crate::suite::world::eventually;

const PATH: &str = "/containerLogs/default/web/app";

/// Three lines, the second of them on standard error.
fn write(rig: &Rig, uid: &str) {
    rig.remote.write(uid, "app", LogSource::Stdout, b"one\n");
    rig.remote
        .write(uid, "app", LogSource::Stderr, "zwölf\n".as_bytes());
    rig.remote.write(uid, "app", LogSource::Stdout, b"open");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_shown_as_asked() {
    let rig = Rig::new().await;
    let uid = rig.runs("web").await;
    assert_eq!(rig.get(PATH).await.text(), "", "nothing was written yet");
    write(&rig, &uid);
    let table = [
        ("", "one\nzwölf\nopen"),
        ("?tailLines=2", "zwölf\nopen"),
        ("?tailLines=0", ""),
        ("?limitBytes=5", "one\nz"),
        ("?sinceSeconds=3600", "one\nzwölf\nopen"),
        ("?sinceTime=2999-01-01T00:00:00Z", ""),
        ("?tailLines=1&limitBytes=2", "op"),
        ("?stream=Stderr", "zwölf\n"),
    ];
    for (query, wanted) in table {
        let answer = rig.get(&format!("{PATH}{query}")).await;
        assert_eq!((answer.status, &*answer.text()), (200, wanted), "{query}");
    }
    let cut = rig.get(&format!("{PATH}?limitBytes=7")).await;
    assert_eq!(cut.body, &"one\nzwölf".as_bytes()[..7], "within a letter");
    let stamped = rig.get(&format!("{PATH}?timestamps=true")).await.text();
    for (line, text) in stamped.lines().zip(["one", "zwölf", "open"]) {
        let (stamp, rest) = line.split_once(' ').unwrap();
        assert_eq!((stamp.len(), rest), (30, text), "{line}");
        stamp.parse::<jiff::Timestamp>().unwrap();
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_log_is_refused_as_the_kubelet_does() {
    let rig = Rig::new().await;
    let uid = rig.runs("web").await;
    let table = [
        (
            "/containerLogs/default/other/app",
            404,
            "pod \"other\" does not exist",
        ),
        (
            "/containerLogs/default/web/other",
            404,
            "container \"other\" not found in pod \"web\"",
        ),
        (
            "/containerLogs/default/web/app?previous=true",
            400,
            "previous terminated container \"app\" in pod \"web\" not found",
        ),
        (
            "/containerLogs/default/web/app?tailLines=x",
            400,
            "{\"message\": \"Unable to decode query.\"}",
        ),
        (
            "/containerLogs/default/other/app?limitBytes=0",
            422,
            "{\"message\": \"Invalid request.\"}",
        ),
    ];
    for (path, status, words) in table {
        let answer = rig.get(path).await;
        assert_eq!((answer.status, &*answer.text()), (status, words), "{path}");
    }
    rig.remote.lose(&uid);
    let gone = rig.get(PATH).await;
    assert_eq!(gone.status, StatusCode::BAD_REQUEST.as_u16());
    assert!(
        gone.text().ends_with("is no longer there"),
        "{}",
        gone.text()
    );
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_before_a_restart_is_the_previous_one() {
    let rig = Rig::new().await;
    let uid = rig.runs("web").await;
    write(&rig, &uid);
    rig.remote.restart(&uid, "app", 1);
    rig.remote.write(&uid, "app", LogSource::Stdout, b"again\n");
    let previous = format!("{PATH}?previous=true");
    let told = async || {
        let answer = rig.get(&previous).await;
        (answer.status == 200).then(|| answer.text())
    };
    let text = eventually("the status tells the restart", told).await;
    assert_eq!(text, "one\nzwölf\nopen");
    assert_eq!(rig.get(PATH).await.text(), "again\n");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_hears_what_is_new_and_the_end_of_the_container() {
    let rig = Rig::new().await;
    let uid = rig.runs("web").await;
    write(&rig, &uid);
    let mut line = rig.line().await;
    let path = format!("{PATH}?follow=true&tailLines=1");
    line.write_all(&request("GET", &path)).await.unwrap();
    let mut heard = String::new();
    until(&mut line, &mut heard, "open").await;
    assert!(!heard.contains("zwölf"), "{heard}");
    rig.remote.write(&uid, "app", LogSource::Stdout, b"ed\n");
    until(&mut line, &mut heard, "ed\n").await;
    rig.remote.write(&uid, "app", LogSource::Stdout, b"last\n");
    rig.remote.exit(&uid, 0);
    let mut rest = Vec::new();
    let ended = timeout(Duration::from_secs(10), line.read_to_end(&mut rest)).await;
    ended.expect("ends with the container").unwrap();
    let rest = String::from_utf8(rest).unwrap();
    assert!(
        rest.contains("last\n") && rest.ends_with("0\r\n\r\n"),
        "{rest}"
    );
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_ends_does_not_wait_for_followers() {
    let rig = Rig::new().await;
    rig.runs("web").await;
    let mut line = rig.line().await;
    let path = format!("{PATH}?follow=true");
    line.write_all(&request("GET", &path)).await.unwrap();
    let mut heard = String::new();
    until(&mut line, &mut heard, "200 OK").await;
    rig.end().await;
}

async fn until(line: &mut crate::wire::Line, heard: &mut String, text: &str) {
    let mut bytes = [0; 4096];
    let hearing = async {
        while !heard.contains(text) {
            let read = line.read(&mut bytes).await.unwrap();
            assert!(read > 0, "ended after {heard}");
            heard.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    };
    let hearing = timeout(Duration::from_secs(10), hearing);
    hearing.await.expect("hears it");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_reads_a_log_with_a_certificate_of_the_cluster() {
    let rig = Rig::with(|api| api.client_ca = ClientCa::Cluster).await;
    let uid = rig.runs("web").await;
    write(&rig, &uid);
    let pods: Api<Pod> = Api::namespaced(rig.client.clone(), "default");
    let tail = LogParams {
        tail_lines: Some(2),
        ..LogParams::default()
    };
    // The authority is read by a task beside the listener.
    let shown = eventually("the certificate is known", async || {
        pods.logs("web", &tail).await.ok()
    })
    .await;
    assert_eq!(shown, "zwölf\nopen");
    let user = "kube-apiserver-kubelet-client proxy".to_owned();
    assert!(rig.reviews.asked().contains(&user), "by its own name");
    rig.end().await;
}

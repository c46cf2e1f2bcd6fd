//! Connections on which nothing happens.

use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vk_provider::LogSource;

use crate::hostile::more_files;
use crate::rig::{Rig, TOKEN, request};
use crate::standing::Standing;
use crate::wire::Line;

const LOG: &str = "/containerLogs/default/web/app?follow=true";
/// An idle connection is closed after so long.
const IDLE: Duration = Duration::from_secs(90);
/// One on which no request ever came.
const HEADER: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_follower_survives_quiet_hours_on_http_1_and_2_and_an_idle_connection_ninety_seconds() {
    let rig = Rig::new().await;
    let uid = rig.runs("web").await;
    let say = |text: &str| {
        let text = text.as_bytes();
        rig.remote.write(&uid, "app", LogSource::Stdout, text);
    };
    say("one\n");
    let mut first = rig.line().await;
    first.write_all(&request("GET", LOG)).await.unwrap();
    hears(&mut first, "one\n").await;
    let client = rig.http2();
    let asked = http::Request::get(format!("https://{}{LOG}", rig.address))
        .header("authorization", format!("Bearer {TOKEN}"))
        .body(Empty::new())
        .unwrap();
    let mut log = client.request(asked).await.unwrap().into_body();
    assert_eq!(
        log.frame().await.unwrap().unwrap().into_data().unwrap(),
        "one\n"
    );
    // One that has been answered, and may be asked again.
    let mut idle = rig.line().await;
    let again = String::from_utf8(request("GET", "/healthz")).unwrap();
    let again = again.replace("Connection: close\r\n", "");
    idle.write_all(again.as_bytes()).await.unwrap();
    hears(&mut idle, "\r\n\r\nok").await;

    let standing = Standing::new();
    let second = Duration::from_secs(1);
    standing.pass_with(&rig, IDLE - second).await;
    idle.write_all(again.as_bytes()).await.unwrap();
    hears(&mut idle, "\r\n\r\nok").await;
    standing.pass_with(&rig, IDLE + second).await;
    assert!(standing.in_time(ends(&mut idle)).await);
    standing.pass_with(&rig, Duration::from_secs(3600)).await;
    say("two\n");
    standing.in_time(hears(&mut first, "two\n")).await;
    let heard = standing.in_time(log.frame()).await;
    assert_eq!(heard.unwrap().unwrap().into_data().unwrap(), "two\n");
    drop(standing);
    rig.end().await;
}

#[tokio::test]
async fn a_thousand_connections_that_say_nothing_are_held_for_ten_seconds_and_then_shut() {
    const SILENT: usize = 1000;
    more_files();
    let rig = Rig::new().await;
    let standing = Standing::new();
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        // To the end of the handshake.
        silent.push(rig.line().await);
    }
    assert_eq!(
        rig.get("/healthz").await.status,
        200,
        "someone honest gets in"
    );
    assert_eq!(connections(&rig).await, SILENT + 1, "this one too");
    standing.pass(HEADER - Duration::from_secs(1)).await;
    assert_eq!(connections(&rig).await, SILENT + 1);
    standing.pass(Duration::from_secs(2)).await;
    for line in &mut silent {
        assert!(standing.in_time(ends(line)).await);
    }
    assert_eq!(connections(&rig).await, 1, "no place is kept");
    drop(standing);
    rig.end().await;
}

async fn connections(rig: &Rig) -> usize {
    let metrics = rig.get("/metrics").await.text();
    let name = "virtual_kubelet_http_connections ";
    let counted = metrics.lines().find_map(|line| line.strip_prefix(name));
    counted.unwrap().parse().unwrap()
}

/// Waits until it was told this.
async fn hears(line: &mut Line, text: &str) {
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains(text) {
        assert!(line.read_buf(&mut heard).await.unwrap() > 0, "{heard:?}");
    }
}

/// Waits until the other side ends it; whether it said nothing before.
async fn ends(line: &mut Line) -> bool {
    line.read_u8().await.is_err()
}

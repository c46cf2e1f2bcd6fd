//! Consoles.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kubelet_streams::io::{Handle, connect};
use kubelet_streams::spdy::frame::StreamId;
use kubelet_streams::websocket::{Channels, Direction, Encoding, Role as Side};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};
use vk_sandbox::flightctl::{DeviceSpec, FlightControl, Options, Role};

use super::flightctl_client::{call, service};

/// The console as a client opens it; or the answer that it is not one.
async fn open(
    service: &FlightControl,
    path: &str,
    token: &str,
    protocol: &str,
) -> Result<Handle, (StatusCode, String)> {
    let http = Client::builder(TokioExecutor::new()).build(service.endpoint().connector());
    let mut request = Request::builder()
        .uri(format!("http://fc.test/ws/v1{path}"))
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", protocol)
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(Full::new(Bytes::new())).unwrap();
    let answer = http.request(request).await.unwrap();
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let code = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&body);
        return Err((code, text.trim().to_owned()));
    }
    assert_eq!(
        answer.headers()["sec-websocket-protocol"],
        "v5.channel.k8s.io"
    );
    assert_eq!(
        answer.headers()["sec-websocket-accept"],
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
    let connection = hyper::upgrade::on(answer).await.unwrap();
    use Direction::{Read, Write};
    let directions = [Write, Read, Read, Read, Write];
    let channels = Channels::new(Side::Client, Encoding::Binary, true, &directions);
    let (handle, driver) = connect(Box::new(channels), TokioIo::new(connection));
    tokio::spawn(driver);
    Ok(handle)
}

fn path(device: &str, metadata: &Value) -> String {
    let query: String = form(&metadata.to_string());
    format!("/devices/{device}/console?metadata={query}")
}

fn form(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn running(command: &str, args: &[&str]) -> Value {
    json!({"command": {"command": command, "args": args}, "tty": false})
}

async fn said(handle: &Handle, channel: u32) -> String {
    let mut text = String::new();
    let mut stream = handle.channel(StreamId(channel)).unwrap();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

async fn world() -> FlightControl {
    let service = service(Options {
        token: Some("t".into()),
        ..Options::default()
    });
    service.accept_token_as("viewer", Role::Viewer);
    service.add_device(DeviceSpec::new("d1"));
    sleep(Duration::from_secs(20)).await;
    service
}

fn annotation(service: &FlightControl, device: &str) -> String {
    let device = service.device_value(device).unwrap();
    let text = &device["metadata"]["annotations"]["device-controller/console"];
    text.as_str().unwrap_or_default().to_owned()
}

const V5: &str = "v5.channel.k8s.io";

#[tokio::test(start_paused = true)]
async fn what_is_no_console_is_refused_before_it_is_one() {
    let service = world().await;
    let echo = running("echo", &["hello"]);
    let refused = |path: String, token: &'static str, protocol: &'static str| {
        let service = service.clone();
        async move { open(&service, &path, token, protocol).await.unwrap_err() }
    };
    let (code, _) = refused(path("nope", &echo), "t", V5).await;
    assert_eq!(code, 404);
    let (code, text) = refused(path("d1", &echo), "", V5).await;
    assert_eq!(code, 400);
    assert!(text.contains("failed to get auth token"), "{text}");
    let (code, _) = refused(path("d1", &echo), "viewer", V5).await;
    assert_eq!(code, 403);
    for metadata in ["/devices/d1/console", "/devices/d1/console?metadata=x"] {
        let (code, text) = refused(metadata.into(), "t", V5).await;
        assert_eq!(
            (code.as_u16(), text.as_str()),
            (500, "protocols injection error")
        );
    }
    let (code, text) = refused(path("d1", &echo), "t", "v4.channel.k8s.io").await;
    let failed = "failed selecting protocol for device: d1";
    assert_eq!((code.as_u16(), text.as_str()), (500, failed));
}

#[tokio::test(start_paused = true)]
async fn a_command_prints_and_ends_with_a_status() {
    let service = world().await;
    let rendered = call(&service, "GET /devices/d1", &Value::Null).await;
    let echo = path("d1", &running("echo", &["hello"]));
    let begun = Instant::now();
    let handle = open(&service, &echo, "t", V5).await.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(500), "it was idle");
    assert_eq!(said(&handle, 1).await, "hello\n");
    assert_eq!(
        said(&handle, 3).await,
        r#"{"metadata":{},"status":"Success"}"#
    );
    sleep(Duration::from_secs(1)).await;
    assert_eq!(annotation(&service, "d1"), "[]");
    // Polls begin five seconds apart: this one is there already, the next is not.
    open(&service, &echo, "t", V5).await.unwrap();
    let begun = Instant::now();
    open(&service, &echo, "t", V5).await.unwrap();
    let took = begun.elapsed();
    assert!((3500..=5000).contains(&took.as_millis()), "{took:?}");
    let after = call(&service, "GET /devices/d1", &Value::Null).await;
    for part in [
        "/metadata/generation",
        "/metadata/annotations/device-controller~1renderedVersion",
    ] {
        assert_eq!(rendered.at(part), after.at(part), "{part}");
    }
}

#[tokio::test(start_paused = true)]
async fn podman_without_a_container_says_so_and_gives_its_code() {
    let service = world().await;
    let logs = path("d1", &running("/usr/bin/sudo", &["podman", "logs", "no"]));
    let handle = open(&service, &logs, "t", V5).await.unwrap();
    assert!(said(&handle, 2).await.contains("no such container"));
    let status: Value = serde_json::from_str(&said(&handle, 3).await).unwrap();
    assert_eq!(status["code"], 125);
    assert_eq!(status["details"]["causes"][0]["message"], "125");
}

#[tokio::test(start_paused = true)]
async fn a_device_that_does_not_come_is_504_and_its_session_stays() {
    let service = world().await;
    let away = service.add_device(DeviceSpec::new("d2"));
    sleep(Duration::from_secs(20)).await;
    away.disconnect();
    let begun = Instant::now();
    let echo = path("d2", &running("echo", &[]));
    let (code, text) = open(&service, &echo, "t", V5).await.unwrap_err();
    assert_eq!(code, 504);
    assert_eq!(text, "timed out waiting for protocol for device: d2");
    assert_eq!(begun.elapsed().as_secs(), 60);
    sleep(Duration::from_secs(3600)).await;
    assert!(annotation(&service, "d2").contains("sessionMetadata"));
    // It is still noted when the device is back, which then starts it.
    away.reconnect();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(away.commands(), ["echo"]);
}

#[tokio::test(start_paused = true)]
async fn sessions_that_are_opened_at_once_lose_each_other() {
    let service = world().await;
    let echo = path("d1", &running("echo", &[]));
    let both = tokio::join!(
        open(&service, &echo, "t", V5),
        open(&service, &echo, "t", V5),
    );
    let lost = [both.0, both.1].into_iter().filter_map(Result::err);
    let lost: Vec<_> = lost.map(|(code, _)| code.as_u16()).collect();
    assert_eq!(lost, [504]);
}

#[tokio::test(start_paused = true)]
async fn an_opening_undoes_a_write_that_crosses_it() {
    let service = world().await;
    service.set_console_gap(Duration::from_secs(2));
    let generation = |service: &FlightControl| {
        service.device_value("d1").unwrap()["metadata"]["generation"].as_u64()
    };
    let before = generation(&service).unwrap();
    let echo = path("d1", &running("echo", &[]));
    let patch =
        json!([{"op": "add", "path": "/spec/systemd", "value": {"matchPatterns": ["a.service"]}}]);
    let (opened, written) = tokio::join!(open(&service, &echo, "t", V5), async {
        sleep(Duration::from_secs(1)).await;
        call(&service, "PATCH /devices/d1", &patch).await
    });
    assert_eq!(written.code, 200);
    assert!(opened.is_ok());
    let device = service.device_value("d1").unwrap();
    assert!(device["spec"]["systemd"].is_null(), "{device}");
    assert_eq!(generation(&service), Some(before + 2), "once more");
}

#[tokio::test(start_paused = true)]
async fn without_sudo_a_session_ends_without_a_word() {
    let service = service(Options::default());
    let device = service.add_device(DeviceSpec::new("d1"));
    sleep(Duration::from_secs(20)).await;
    device.without_sudo();
    let echo = path("d1", &running("echo", &[]));
    let handle = open(&service, &echo, "t", V5).await.unwrap();
    let words = async { (said(&handle, 1).await, said(&handle, 3).await) };
    let words = timeout(Duration::from_secs(5), words).await.unwrap();
    assert_eq!(words, (String::new(), String::new()));
    let mut stdin = handle.channel(StreamId(0)).unwrap();
    assert!(stdin.write_all(b"x").await.is_err(), "it is over");
}

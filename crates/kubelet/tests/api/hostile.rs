//! Clients that do not play by the rules.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use vk_provider::LogSource;

use crate::rig::{Rig, TOKEN, request};
use crate::suite::world::eventually;
use crate::wire::{Answer, connect, say};

/// One of these more than the ten seconds that headers have.
const PATIENCE: Duration = Duration::from_secs(14);

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_trickles_its_headers_is_cut_off_in_ten_seconds() {
    let rig = Rig::new().await;
    let mut slow = rig.line().await;
    slow.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    let (mut reading, mut writing) = tokio::io::split(slow);
    let trickling = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(500));
        loop {
            ticks.tick().await;
            if writing.write_all(b"X-A: b\r\n").await.is_err() {
                return;
            }
        }
    });
    // One that says nothing at all, before and after the handshake.
    let mut silent = rig.line().await;
    let mut raw = TcpStream::connect(rig.address).await.unwrap();
    let begun = Instant::now();
    let mut end = [0; 64];
    let slow = timeout(PATIENCE, reading.read(&mut end));
    let (mut end_, mut other) = ([0; 64], [0; 64]);
    let silent = timeout(PATIENCE, silent.read(&mut end_));
    let raw = timeout(PATIENCE, raw.read(&mut other));
    let (slow, silent, raw) = tokio::join!(slow, silent, raw);
    assert!(
        begun.elapsed() > Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    assert!(matches!(slow.expect("cut off"), Ok(0) | Err(_)));
    assert!(matches!(silent.expect("cut off"), Ok(0) | Err(_)));
    assert!(matches!(raw.expect("cut off"), Ok(0) | Err(_)));
    trickling.abort();
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_are_too_large_or_too_many_are_refused() {
    let rig = Rig::new().await;
    let head = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n");
    let large = format!("{head}X-Large: {}\r\n\r\n", "x".repeat(70_000));
    let many = format!("{head}{}\r\n", "X-Many: 1\r\n".repeat(200));
    for text in [large, many] {
        let answer = Answer::parse(&say(&mut rig.line().await, text.as_bytes()).await);
        assert_eq!(answer.status, 431);
    }
    let target = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(70_000));
    let answer = Answer::parse(&say(&mut rig.line().await, target.as_bytes()).await);
    assert!(matches!(answer.status, 414 | 431), "{}", answer.status);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_hidden_behind_another_is_never_answered() {
    let rig = Rig::new().await;
    let token = format!("Host: x\r\nAuthorization: Bearer {TOKEN}\r\n");
    let hidden = format!("GET /healthz HTTP/1.1\r\n{token}\r\n");
    let length = hidden.len();
    let shapes = [
        format!("POST /healthz HTTP/1.1\r\n{token}Content-Length: {length}\r\n\r\n"),
        format!("GET /healthz HTTP/1.1\r\n{token}Content-Length: {length}\r\n\r\n"),
        format!("GET /healthz HTTP/1.1\r\n{token}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!(
            "POST /healthz HTTP/1.1\r\n{token}Content-Length: 5\r\n\
             Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        ),
        format!("GET /healthz HTTP/1.1\r\n{token}Content-Length: 0\r\nContent-Length: 9\r\n\r\n"),
        format!("GET /healthz HTTP/1.1\r\n{token}Transfer-Encoding: chunked, identity\r\n\r\n"),
        format!("GET /healthz HTTP/1.1\r\n{token}Transfer-Encoding: \x0bchunked\r\n\r\n"),
        format!("GET /healthz HTTP/1.1\r\n{token}Content-Length: +0\r\n\r\n"),
        format!("GET /healthz HTTP/1.1\r\n{token}Content-Length : 0\r\n\r\n"),
        format!("GET /healthz HTTP/1.1\r\n{token}Content-Length: 0, 0\r\n\r\n"),
        format!("GET /healthz HTTP/1.1\r\n{token} folded: x\r\n\r\n"),
        format!("GET /healthz HTTP/1.1\r\n{token}Content-Length: 0\r\n {length}\r\n\r\n"),
        format!("GET /healthz HTTP/1.1\r\n{token}Transfer-Encoding:\r\n chunked\r\n\r\n"),
        format!("GET /healthz HTTP/1.1\r\n{token}Transfer-Encoding: chunked\r\n\r\n0;a=b\r\n\r\n"),
        format!(
            "POST /healthz HTTP/1.1\r\n{token}Transfer-Encoding: chunked\r\n\r\n\
             2;a=\"\r\nxx\r\n0\r\n\r\n"
        ),
        format!(
            "GET /healthz HTTP/1.1\r\n{token}Transfer-Encoding: chunked\r\n\
             Transfer-Encoding: identity\r\n\r\n0\r\n\r\n"
        ),
        format!("GET /healthz HTTP/1.1\r\n{token}Transfer-Encoding: xchunked\r\n\r\n"),
        format!("GET /healthz HTTP/1.0\r\n{token}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("GET /healthz HTTP/1.1\r\n{token}Content-Length: 0x0\r\n\r\n"),
        format!("GET /healthz HTTP/1.1\r\n{token}Content-Length: -1\r\n\r\n"),
        format!(
            "GET /healthz HTTP/1.1\r\n{token}Content-Length: {}0\r\n\r\n",
            u64::MAX
        ),
        format!("GET /healthz HTTP/1.1\r\n{token}X: a\rContent-Length: {length}\r\n\r\n"),
        format!("GET /healthz HTTP/1.1\r\n{token}X: a\0b\r\n\r\n"),
    ];
    for shape in shapes {
        let text = format!("{shape}{hidden}");
        let told = say(&mut rig.line().await, text.as_bytes()).await;
        let all = String::from_utf8_lossy(&told);
        let answers = all.matches("HTTP/1.1 ").count();
        assert_eq!(answers, 1, "{shape}\n→\n{all}");
        assert_eq!(Answer::parse(&told).status, 400, "{shape}\n→\n{all}");
    }
    // The two of a client that is honest are two.
    let last = hidden.replace("Host", "Connection: close\r\nHost");
    let told = say(&mut rig.line().await, format!("{hidden}{last}").as_bytes()).await;
    let all = String::from_utf8_lossy(&told);
    assert_eq!(all.matches("HTTP/1.1 200").count(), 2, "{all}");
    rig.end().await;
}

/// A request of HTTP/2 in bytes: literal fields, none of them compressed.
fn frames(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    let length = u8::try_from(block.len()).unwrap();
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    // Its headers, and nothing behind them.
    let headers = [0, 0, length, 1, 0x5, 0, 0, 0, 1];
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" as &[u8],
        &settings,
        &headers,
        &block,
    ]
    .concat()
}

/// Whether it is answered, not refused as something that is no request.
async fn is_answered(rig: &Rig, fields: &[(&str, &str)]) -> bool {
    let mut config = rig.servers.config(None);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut line = connect(rig.address, config).await.unwrap();
    line.write_all(&frames(fields)).await.unwrap();
    loop {
        let mut head = [0; 9];
        let read = timeout(PATIENCE, line.read_exact(&mut head)).await;
        if read.expect("in time").is_err() {
            return false;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut rest = vec![0; length as usize];
        line.read_exact(&mut rest).await.unwrap();
        match (head[3], &rest[..]) {
            // 200, of the table that both sides know.
            (1, [0x88, ..]) => return true,
            // HEADERS of another status, RST_STREAM or GOAWAY.
            (1 | 3 | 7, _) => return false,
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_http_2_that_would_hide_another_from_a_proxy_is_none() {
    let rig = Rig::new().await;
    let bearer = format!("Bearer {TOKEN}");
    let honest = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "x"),
        (":path", "/healthz"),
        ("authorization", &*bearer),
    ];
    assert!(is_answered(&rig, &honest).await);
    for hidden in [
        ("transfer-encoding", "chunked"),
        ("connection", "keep-alive"),
        ("content-length", "5"),
        ("Content-Length", "0"),
        ("x", "a\r\ncontent-length: 5"),
        (":path", "/pods"),
    ] {
        let shape = [&honest[..], &[hidden]].concat();
        assert!(!is_answered(&rig, &shape).await, "{hidden:?}");
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_idle_connections_take_no_more_places_than_there_are() {
    const PLACES: usize = 50;
    more_files();
    let rig = Rig::with(|api| api.connections = PLACES).await;
    let mut idle = Vec::new();
    for number in 0..1000 {
        // To the end of the handshake.
        idle.push(rig.line().await);
        if number % 250 == 0 {
            assert_eq!(
                rig.get("/healthz").await.status,
                200,
                "someone honest gets in"
            );
        }
    }
    let metrics = rig.get("/metrics").await.text();
    let name = "virtual_kubelet_http_connections ";
    let counted = metrics.lines().find_map(|line| line.strip_prefix(name));
    let counted: usize = counted.unwrap().parse().unwrap();
    assert!(counted <= PLACES, "{counted}");
    let held = async || {
        let open = idle.iter().filter(|line| is_open(line.get_ref().0)).count();
        (open < PLACES).then_some(open)
    };
    eventually("the others are closed", held).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_who_take_no_byte_of_their_refusals_shut_nobody_out() {
    const PLACES: usize = 6;
    let rig = Rig::with(|api| api.connections = PLACES).await;
    let mut held = Vec::new();
    for _ in 0..PLACES {
        let mut stranger = http2(&rig, 0).await;
        let refusal = ask(&mut stranger, "").await;
        assert_eq!(refusal.status(), StatusCode::UNAUTHORIZED);
        held.push((stranger, refusal));
    }
    assert_eq!(rig.get("/healthz").await.status, 200);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_logs_who_read_nothing_make_room() {
    const PLACES: usize = 4;
    let rig = Rig::with(|api| api.connections = PLACES).await;
    let uid = rig.runs("web").await;
    // More than the buffers of two systems hold.
    let piece = "a line of a log\n".repeat(1 << 16);
    for _ in 0..32 {
        let piece = piece.as_bytes();
        rig.remote.write(&uid, "app", LogSource::Stdout, piece);
    }
    let mut held = Vec::new();
    for _ in 0..PLACES {
        let mut line = rig.line().await;
        let log = request("GET", "/containerLogs/default/web/app?follow=true");
        line.write_all(&log).await.unwrap();
        // It is on its way.
        line.read_exact(&mut [0; 16]).await.unwrap();
        held.push(line);
    }
    let answered = async || rig.try_get("/healthz").await;
    assert_eq!(eventually("there is room", answered).await.status, 200);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_are_too_large_are_refused_on_http_2_as_well() {
    let rig = Rig::new().await;
    let mut client = http2(&rig, 1 << 16).await;
    let refused = ask(&mut client, &"~".repeat(70_000)).await;
    assert_eq!(
        refused.status(),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    );
    let taken = ask(&mut client, &"~".repeat(60_000)).await;
    assert_eq!(taken.status(), StatusCode::UNAUTHORIZED);
    rig.end().await;
}

/// A connection without credentials, that takes so many bytes of each answer.
async fn http2(rig: &Rig, window: u32) -> SendRequest<Empty<Bytes>> {
    let mut config = rig.servers.config(None);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let line = connect(rig.address, config).await.unwrap();
    let mut builder = Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(window);
    let (client, connection) = builder.handshake(TokioIo::new(line)).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The answer to a request with such a header, its body not read.
async fn ask(client: &mut SendRequest<Empty<Bytes>>, header: &str) -> Response<Incoming> {
    let request = Request::get("https://x/healthz").header("X-Large", header);
    let request = request.body(Empty::new()).unwrap();
    let answer = timeout(PATIENCE, client.send_request(request)).await;
    answer.expect("in time").unwrap()
}

/// Every connection has two ends here; systems allow 1024 files unless asked.
pub fn more_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

fn is_open(socket: &TcpStream) -> bool {
    let mut byte = [0];
    match socket.try_read(&mut byte) {
        Ok(0) => false,
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
    }
}

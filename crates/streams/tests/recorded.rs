//! What Go sends, byte for byte.
//!
//! The files were recorded between the clients of k8s.io/client-go v0.36.3 (SPDY:
//! github.com/moby/spdystream v0.5.1) and this crate's own server, by a proxy that kept
//! what the client sent behind the headers of its request: `exec` with the stdin
//! `hello\n`, once with a terminal that changes its size, and a port-forward to port 8080
//! through which `hello\n` was sent.

#![allow(clippy::unwrap_used)]

use bytes::BytesMut;
use kubelet_streams::negotiate::Version;
use kubelet_streams::portforward::{Kind, Request};
use kubelet_streams::remote::{Options, Resizes, TerminalSize};
use kubelet_streams::spdy::frame::StreamId;
use kubelet_streams::spdy::{Connection, FlowControl, Role};
use kubelet_streams::websocket::{self, Encoding, Tunnel};
use kubelet_streams::{Event, Protocol};

/// The events of a recording, cut in two at every byte: they must not depend on the cut.
fn events<P: Protocol>(recording: &[u8], server: impl Fn() -> P) -> Vec<Event> {
    let run = |cut: usize| {
        let (mut server, mut input, mut events) = (server(), BytesMut::new(), Vec::new());
        for part in [&recording[..cut], &recording[cut..]] {
            input.extend_from_slice(part);
            while let Some(event) = server.next(&mut input).unwrap() {
                if let Event::Opened { stream, .. } = event {
                    server.accept(stream);
                }
                merge(&mut events, event);
            }
        }
        events
    };
    let whole = run(recording.len());
    (0..recording.len()).for_each(|cut| assert_eq!(run(cut), whole, "cut at {cut}"));
    whole
}

/// Pieces of one stream's data become one.
fn merge(events: &mut Vec<Event>, event: Event) {
    match (events.last_mut(), event) {
        (
            Some(Event::Data { stream, data }),
            Event::Data {
                stream: next,
                data: more,
            },
        ) if *stream == next => {
            *data = [&data[..], &more[..]].concat().into();
        }
        (_, event) => events.push(event),
    }
}

fn spdy(recording: &[u8]) -> Vec<Event> {
    events(recording, || {
        Connection::new(Role::Server, FlowControl::Ignored)
    })
}

fn opened(stream: u32, kind: &str) -> Event {
    Event::Opened {
        stream: StreamId(stream),
        headers: [("streamtype", kind)].into_iter().collect(),
    }
}

fn data(stream: u32, data: &'static [u8]) -> Event {
    Event::Data {
        stream: StreamId(stream),
        data: data.into(),
    }
}

fn finished(stream: u32) -> Event {
    Event::Finished {
        stream: StreamId(stream),
    }
}

#[test]
fn exec_over_spdy() {
    let got = spdy(include_bytes!("../fuzz/corpus/spdy/client-go-exec"));
    let streams = [
        opened(1, "error"),
        opened(3, "stdin"),
        opened(5, "stdout"),
        opened(7, "stderr"),
    ];
    assert_eq!(
        got,
        [&streams[..], &[data(3, b"hello\n"), finished(3)]].concat()
    );
}

#[test]
fn exec_with_a_terminal_over_spdy() {
    let got = spdy(include_bytes!("../fuzz/corpus/spdy/client-go-exec-tty"));
    let streams = [
        opened(1, "error"),
        opened(3, "stdin"),
        opened(5, "stdout"),
        opened(7, "resize"),
    ];
    assert_eq!(got[..4], streams);
    let (mut resizes, mut newest) = (Resizes::default(), None);
    for event in &got {
        if let Event::Data {
            stream: StreamId(7),
            data,
        } = event
        {
            newest = resizes.push(data).unwrap();
        }
    }
    assert_eq!(
        newest,
        Some(TerminalSize {
            width: 81,
            height: 24
        })
    );
    assert!(
        got.contains(&data(3, b"hello\n")) && got.contains(&finished(3)),
        "{got:?}"
    );
}

#[test]
fn exec_over_websocket_v5() {
    let options = Options {
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    };
    let recording = include_bytes!("../fuzz/corpus/channels/client-go-exec");
    let got = events(recording, || {
        options.channels(Version::V5, Encoding::Binary)
    });
    assert_eq!(got[..2], [data(0, b"hello\n"), finished(0)]);
}

/// The events of a port-forward, as far as the client did it on purpose.
fn assert_port_forward(events: &[Event]) {
    let request = |event: &Event| match event {
        Event::Opened { stream, headers } => Request::from_headers(*stream, headers).unwrap(),
        other => panic!("{other:?}"),
    };
    let expected = |kind| Request {
        kind,
        port: 8080,
        id: "0".into(),
    };
    assert_eq!(request(&events[0]), expected(Kind::Error));
    assert_eq!(events[1], finished(1));
    assert_eq!(request(&events[2]), expected(Kind::Data));
    assert_eq!(events[3..5], [data(3, b"hello\n"), finished(3)]);
}

#[test]
fn port_forward_over_spdy() {
    assert_port_forward(&spdy(include_bytes!(
        "../fuzz/corpus/spdy/client-go-port-forward"
    )));
}

#[test]
fn port_forward_through_the_tunnel() {
    let recording = include_bytes!("../fuzz/corpus/tunnel/client-go-port-forward");
    assert_port_forward(&events(recording, || {
        Tunnel::new(websocket::Role::Server, FlowControl::Ignored)
    }));
}

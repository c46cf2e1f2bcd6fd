//! What the fuzz targets do with their bytes. `tests/corpus.rs` runs the same over the
//! corpus, with the ordinary tests.

use std::time::Instant;

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue};
use kubelet_streams::limits::{
    ANSWERS_HIGH_WATER, MAX_FORWARDED_PORTS, MAX_STREAMS, OUTPUT_HIGH_WATER,
    STREAM_CREATION_TIMEOUT,
};
use kubelet_streams::negotiate::{self, Forward, Refusal, Version};
use kubelet_streams::portforward::{self, Pairs, Request};
use kubelet_streams::remote::{Options, Resizes};
use kubelet_streams::spdy::frame::{Decoder, StreamId};
use kubelet_streams::spdy::headers::{Decompressor, Headers};
use kubelet_streams::spdy::{Connection, FlowControl, Role};
use kubelet_streams::websocket::{self, Channels, Direction, Encoding, Pipe, Tunnel};
use kubelet_streams::{Event, Protocol};

/// A body.
pub(crate) type Body = fn(&[u8]);

/// All of them, by the name of their target and their corpus.
pub(crate) const ALL: [(&str, Body); 11] = [
    ("frames", frames),
    ("headers", headers),
    ("spdy", spdy),
    ("spdy_client", spdy_client),
    ("channels", channels),
    ("channels_client", channels_client),
    ("legacy", legacy),
    ("tunnel", tunnel),
    ("pairs", pairs),
    ("negotiate", negotiate),
    ("resizes", resizes),
];

/// Frames that can be read can be written, and read again.
pub(crate) fn frames(bytes: &[u8]) {
    let mut input = BytesMut::from(bytes);
    let mut decoder = Decoder::default();
    while let Ok(Some(frame)) = decoder.next(&mut input) {
        let mut wire = BytesMut::new();
        frame.encode(&mut wire);
        if !wire.is_empty() {
            assert_eq!(Decoder::default().next(&mut wire), Ok(Some(frame)));
        }
    }
}

/// Header blocks of one connection, each behind its length in two bytes.
pub(crate) fn headers(mut bytes: &[u8]) {
    let mut decompressor = Decompressor::default();
    while let Some((len, rest)) = bytes.split_first_chunk::<2>() {
        let (block, rest) = rest.split_at(rest.len().min(usize::from(u16::from_be_bytes(*len))));
        if decompressor.read(block).is_err() {
            return;
        }
        bytes = rest;
    }
}

/// A server that accepts every stream and sends back what it gets.
pub(crate) fn spdy(bytes: &[u8]) {
    for flow in [FlowControl::Ignored, FlowControl::Kept] {
        for piece in [1, bytes.len().max(1)] {
            let mut server = Connection::new(Role::Server, flow);
            serve(&mut server, bytes, piece);
            assert!(server.open_streams() <= MAX_STREAMS);
        }
    }
}

/// A client, with streams of its own, of a server that says this; bare and, in
/// WebSocket messages, in the tunnel.
pub(crate) fn spdy_client(bytes: &[u8]) {
    let headers = || [("streamtype", "stdin")].into_iter().collect::<Headers>();
    for piece in [1, bytes.len().max(1)] {
        for flow in [FlowControl::Ignored, FlowControl::Kept] {
            let mut client = Connection::new(Role::Client, flow);
            for _ in 0..3 {
                let _ = client.open(&headers());
            }
            serve(&mut client, bytes, piece);
            assert!(client.open_streams() <= MAX_STREAMS + 3);
        }
        let mut tunnel = Tunnel::new(websocket::Role::Client, FlowControl::Ignored);
        let _ = tunnel.open(&headers());
        serve(&mut tunnel, bytes, piece);
    }
}

/// The same over every variant of WebSocket channels.
pub(crate) fn channels(bytes: &[u8]) {
    let options = Options {
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    };
    for version in [Version::V1, Version::V4, Version::V5] {
        for encoding in [Encoding::Binary, Encoding::Base64] {
            for piece in [1, bytes.len().max(1)] {
                serve(&mut options.channels(version, encoding), bytes, piece);
            }
        }
    }
}

/// A client of channels, and one that passes a tunnel on.
pub(crate) fn channels_client(bytes: &[u8]) {
    use Direction::{Both, Read, Write};
    let ways = [Write, Read, Read, Read, Both];
    for piece in [1, bytes.len().max(1)] {
        for encoding in [Encoding::Binary, Encoding::Base64] {
            let role = websocket::Role::Client;
            serve(
                &mut Channels::new(role, encoding, true, &ways),
                bytes,
                piece,
            );
        }
        serve(&mut Pipe::new(websocket::Role::Client), bytes, piece);
    }
}

/// Port-forward over WebSocket channels, to one port and to as many as there may be;
/// the ports are of a query that begins the bytes, up to a line's end.
pub(crate) fn legacy(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (query, bytes) = bytes.split_at(end.map_or(0, |end| end + 1));
    let query = String::from_utf8_lossy(query);
    let Ok(ports) = portforward::ports(query.trim_end().split('&')) else {
        return;
    };
    assert!((1..=MAX_FORWARDED_PORTS).contains(&ports.len()) && !ports.contains(&0));
    for encoding in [Encoding::Binary, Encoding::Base64] {
        for piece in [1, bytes.len().max(1)] {
            let mut server = portforward::connection(Forward::WebSocket(encoding), &ports);
            serve(&mut *server, bytes, piece);
        }
    }
}

/// The same inside of WebSocket messages.
pub(crate) fn tunnel(bytes: &[u8]) {
    for piece in [1, bytes.len().max(1)] {
        serve(
            &mut Tunnel::new(websocket::Role::Server, FlowControl::Ignored),
            bytes,
            piece,
        );
    }
}

fn serve(server: &mut dyn Protocol, bytes: &[u8], piece: usize) {
    let mut input = BytesMut::new();
    for piece in bytes.chunks(piece) {
        input.extend_from_slice(piece);
        loop {
            match server.next(&mut input) {
                Ok(Some(Event::Opened { stream, .. })) => server.accept(stream),
                Ok(Some(Event::Data { stream, data })) => {
                    let _ = server.send(stream, &data);
                    server.consumed(stream, data.len());
                }
                Ok(Some(Event::Finished { stream })) => server.finish(stream),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(server.next(&mut input), Err(error), "an error stays");
                    return;
                }
            }
            // What one call adds to what was under the mark: a frame or a message at most.
            assert!(server.output().len() < ANSWERS_HIGH_WATER + OUTPUT_HIGH_WATER);
        }
    }
    server.close();
}

/// Streams of port-forwards, a line each: `STREAMTYPE PORT REQUESTID`; `later` is the
/// time after which who is alone is given up. Each stream comes out once.
pub(crate) fn pairs(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (mut pairs, mut now) = (Pairs::default(), Instant::now());
    let (mut added, mut out) = (0, Vec::new());
    for line in text.lines() {
        if line == "later" {
            now += STREAM_CREATION_TIMEOUT;
            out.extend(pairs.expired(now).into_iter().map(|alone| alone.stream));
            assert_eq!(pairs.next_expiry(), None);
            continue;
        }
        let values = line.split(' ');
        let headers = ["streamType", "port", "requestID"].into_iter().zip(values);
        let stream = StreamId(2 * added + 1);
        let Ok(request) = Request::from_headers(stream, &headers.collect()) else {
            continue;
        };
        assert_ne!(request.port, 0);
        added += 1;
        match pairs.add(request, stream, now) {
            Ok(Some(pair)) => out.extend([pair.data, pair.error]),
            Ok(None) => {}
            Err(second) => out.push(second),
        }
    }
    now += STREAM_CREATION_TIMEOUT;
    out.extend(pairs.expired(now).into_iter().map(|alone| alone.stream));
    out.sort_unstable();
    assert!(
        out.iter()
            .copied()
            .eq((0..added).map(|n| StreamId(2 * n + 1)))
    );
}

/// The headers of a request, a line each, behind a line with its query.
pub(crate) fn negotiate(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let query = String::from_utf8_lossy(lines.next().unwrap_or_default());
    let pairs = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    if let Ok(options) = Options::from_query(pairs) {
        assert!(!(options.stderr && options.tty), "{options:?}");
    }
    let mut headers = HeaderMap::new();
    for line in lines.take(100) {
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => continue,
        };
        let name = HeaderName::from_bytes(name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    let remote = negotiate::remote(&headers).map(|accepted| accepted.response);
    let forward = negotiate::port_forward(&headers).map(|accepted| accepted.response);
    for answer in [remote, forward] {
        match answer {
            Ok(response) => assert_eq!(response.status(), 101),
            Err(refusal) => refused(&refusal),
        }
    }
}

fn refused(refusal: &Refusal) {
    let response = refusal.response();
    assert!(response.status().is_client_error() && !response.body().is_empty());
}

/// A resize stream, in two pieces.
pub(crate) fn resizes(bytes: &[u8]) {
    let mut resizes = Resizes::default();
    for piece in bytes.chunks(bytes.len() / 2 + 1) {
        if resizes.push(piece).is_err() {
            return;
        }
    }
}

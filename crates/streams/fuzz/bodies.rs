//! What the fuzz targets do with their bytes. `tests/corpus.rs` runs the same over the
//! corpus, with the ordinary tests.

use bytes::BytesMut;
use kubelet_streams::limits::{ANSWERS_HIGH_WATER, MAX_STREAMS, OUTPUT_HIGH_WATER};
use kubelet_streams::negotiate::Version;
use kubelet_streams::remote::{Options, Resizes};
use kubelet_streams::spdy::frame::Decoder;
use kubelet_streams::spdy::headers::Decompressor;
use kubelet_streams::spdy::{Connection, FlowControl, Role};
use kubelet_streams::websocket::{self, Encoding, Tunnel};
use kubelet_streams::{Event, Protocol};

/// A body.
pub(crate) type Body = fn(&[u8]);

/// All of them, by the name of their target and their corpus.
pub(crate) const ALL: [(&str, Body); 6] = [
    ("frames", frames),
    ("headers", headers),
    ("spdy", spdy),
    ("channels", channels),
    ("tunnel", tunnel),
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

/// A resize stream, in two pieces.
pub(crate) fn resizes(bytes: &[u8]) {
    let mut resizes = Resizes::default();
    for piece in bytes.chunks(bytes.len() / 2 + 1) {
        if resizes.push(piece).is_err() {
            return;
        }
    }
}

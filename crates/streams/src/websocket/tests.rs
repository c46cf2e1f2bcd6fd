use bytes::BytesMut;
use proptest::prelude::*;

use super::{Channels, Direction, Encoding, Pipe, Role, SocketError, Tunnel};
use crate::negotiate::Version;
use crate::protocol::{Event, NotOpen, Protocol, ProtocolError};
use crate::remote::Options;
use crate::spdy::FlowControl;
use crate::spdy::frame::StreamId;
use crate::spdy::headers::Headers;

const STDIN: StreamId = StreamId(0);
const STDOUT: StreamId = StreamId(1);
const ALL: Options = Options {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
};

/// The client's end of the channels of `exec`.
fn client(version: Version, encoding: Encoding) -> Channels {
    let directions = [
        Direction::Write,
        Direction::Read,
        Direction::Read,
        Direction::Read,
        Direction::Write,
    ];
    Channels::new(Role::Client, encoding, version == Version::V5, &directions)
}

fn feed(protocol: &mut dyn Protocol, bytes: &[u8]) -> Result<Vec<Event>, ProtocolError> {
    let (mut input, mut events) = (BytesMut::from(bytes), Vec::new());
    while let Some(event) = protocol.next(&mut input)? {
        events.push(event);
    }
    Ok(events)
}

fn pass(from: &mut dyn Protocol, to: &mut dyn Protocol) -> Vec<Event> {
    let bytes = from.output().split();
    feed(to, &bytes).unwrap()
}

/// A masked message as a client sends it, with the mask 0 that changes nothing.
fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let header = [
        0x80 | opcode,
        0x80 | u8::try_from(payload.len()).unwrap(),
        0,
        0,
        0,
        0,
    ];
    [&header, payload].concat()
}

#[test]
fn the_first_message_is_empty_and_on_the_lowest_channel_the_client_reads() {
    let cases = [
        (ALL, Encoding::Binary, b"\x82\x01\x01".as_slice()),
        (
            Options {
                stdout: false,
                ..ALL
            },
            Encoding::Binary,
            b"\x82\x01\x02",
        ),
        (
            Options {
                stdout: false,
                stderr: false,
                ..ALL
            },
            Encoding::Binary,
            b"\x82\x01\x03",
        ),
        (ALL, Encoding::Base64, b"\x81\x011"),
    ];
    for (options, encoding, expected) in cases {
        assert_eq!(
            options.channels(Version::V4, encoding).output()[..],
            *expected
        );
    }
}

#[test]
fn bytes_go_both_ways_in_both_encodings() {
    for encoding in [Encoding::Binary, Encoding::Base64] {
        let (mut client, mut server) = (
            client(Version::V4, encoding),
            ALL.channels(Version::V4, encoding),
        );
        assert_eq!(
            pass(&mut server, &mut client),
            [],
            "an empty message has nothing to tell"
        );
        assert_eq!(client.send(STDIN, b"in\xff"), Ok(3));
        let data = b"in\xff".as_slice().into();
        assert_eq!(
            pass(&mut client, &mut server),
            [Event::Data {
                stream: STDIN,
                data
            }]
        );
        assert_eq!(server.send(STDOUT, b"out"), Ok(3));
        assert_eq!(
            pass(&mut server, &mut client),
            [Event::Data {
                stream: STDOUT,
                data: "out".into()
            }]
        );
    }
}

#[test]
fn base64_is_laid_out_as_kubernetes_documents_it() {
    let mut server = ALL.channels(Version::V1, Encoding::Base64);
    server.output().clear();
    server.send(STDOUT, b"\n").unwrap();
    assert_eq!(&server.output()[2..], b"1Cg==");
    let events = feed(&mut server, &masked(1, b"0Zm9vCg=="));
    assert_eq!(
        events,
        Ok(vec![Event::Data {
            stream: STDIN,
            data: "foo\n".into()
        }])
    );
    assert_eq!(
        feed(&mut server, &masked(1, b"0???")),
        Err(SocketError::Base64(0).into())
    );
}

#[test]
fn a_v5_client_ends_one_channel_and_the_others_go_on() {
    let (mut client, mut server) = (
        client(Version::V5, Encoding::Binary),
        ALL.channels(Version::V5, Encoding::Binary),
    );
    client.send(STDIN, b"x").unwrap();
    client.finish(STDIN);
    client.finish(STDIN);
    let expected = [
        Event::Data {
            stream: STDIN,
            data: "x".into(),
        },
        Event::Finished { stream: STDIN },
    ];
    assert_eq!(pass(&mut client, &mut server), expected);
    assert_eq!(client.send(STDIN, b"y"), Err(NotOpen(STDIN)));
    assert_eq!(server.send(STDOUT, b"z"), Ok(1));
}

#[test]
fn a_channel_ends_once() {
    let mut server = ALL.channels(Version::V5, Encoding::Binary);
    let twice = [
        masked(2, &[255, 0]),
        masked(2, &[255, 0]),
        masked(2, b"\0late"),
    ]
    .concat();
    assert_eq!(
        feed(&mut server, &twice),
        Ok(vec![Event::Finished { stream: STDIN }])
    );
}

#[test]
fn a_close_signal_has_to_name_a_channel() {
    let v5 = || ALL.channels(Version::V5, Encoding::Binary);
    assert_eq!(
        feed(&mut v5(), &masked(2, &[255])),
        Err(SocketError::CloseLength(0).into())
    );
    assert_eq!(
        feed(&mut v5(), &masked(2, &[255, 0, 0])),
        Err(SocketError::CloseLength(2).into())
    );
    assert_eq!(
        feed(&mut v5(), &masked(2, &[255, 5])),
        Err(SocketError::CloseChannel(5).into())
    );
    let mut v4 = ALL.channels(Version::V4, Encoding::Binary);
    assert_eq!(
        feed(&mut v4, &masked(2, &[255, 0])),
        Ok(vec![]),
        "v4 has no such signal"
    );
}

#[test]
fn what_nobody_asked_for_is_dropped() {
    let mut server = Options {
        stdin: false,
        ..ALL
    }
    .channels(Version::V4, Encoding::Binary);
    for channel in [0, 1, 9, 254] {
        assert_eq!(feed(&mut server, &masked(2, &[channel, b'x'])), Ok(vec![]));
    }
    assert_eq!(feed(&mut server, &masked(2, &[])), Ok(vec![]));
    assert_eq!(
        server.send(STDIN, b"x"),
        Err(NotOpen(STDIN)),
        "a channel carries bytes one way"
    );
}

#[test]
fn pings_are_answered_and_a_goodbye_too() {
    let mut server = ALL.channels(Version::V4, Encoding::Binary);
    server.output().clear();
    assert_eq!(feed(&mut server, &masked(9, b"hi")), Ok(vec![]));
    assert_eq!(server.output().split()[..], *b"\x8a\x02hi");
    assert_eq!(
        feed(&mut server, &masked(8, &1000u16.to_be_bytes())),
        Ok(vec![Event::Finished { stream: STDIN }, Event::Closed])
    );
    assert_eq!(server.output().split()[..], *b"\x88\x02\x03\xe8");
    assert_eq!(server.send(STDOUT, b"x"), Err(NotOpen(STDOUT)));
    assert_eq!(feed(&mut server, b"anything"), Ok(vec![]));
}

#[test]
fn a_goodbye_that_is_not_a_normal_one_is_no_end_of_the_input() {
    let mut server = ALL.channels(Version::V4, Encoding::Binary);
    assert_eq!(
        feed(&mut server, &masked(8, &1001u16.to_be_bytes())),
        Ok(vec![Event::Closed])
    );
}

#[test]
fn after_our_goodbye_the_peers_is_waited_for() {
    let (mut client, mut server) = (
        client(Version::V5, Encoding::Binary),
        ALL.channels(Version::V5, Encoding::Binary),
    );
    server.send(STDOUT, b"last").unwrap();
    server.close();
    server.close();
    let expected = [
        Event::Data {
            stream: STDOUT,
            data: "last".into(),
        },
        Event::Finished {
            stream: StreamId(1),
        },
        Event::Finished {
            stream: StreamId(2),
        },
        Event::Finished {
            stream: StreamId(3),
        },
        Event::Closed,
    ];
    assert_eq!(pass(&mut server, &mut client), expected);
    let expected = [Event::Finished { stream: STDIN }, Event::Closed];
    assert_eq!(pass(&mut client, &mut server), expected);
}

#[test]
fn an_unmasked_message_ends_the_connection_and_says_so() {
    let mut server = ALL.channels(Version::V4, Encoding::Binary);
    server.output().clear();
    let error = feed(&mut server, b"\x82\x02\x00x").unwrap_err();
    assert!(matches!(
        error,
        ProtocolError::WebSocket(SocketError::Framing(_))
    ));
    assert_eq!(feed(&mut server, b""), Err(error));
    assert_eq!(
        server.output().split()[..4],
        *b"\x88\x02\x03\xea",
        "a protocol error"
    );
}

#[test]
fn a_message_over_the_limit_is_refused_by_its_header_alone() {
    let mut server = ALL.channels(Version::V4, Encoding::Binary);
    let header = [&[0x82, 0xff][..], &(u64::MAX >> 1).to_be_bytes(), &[0; 4]].concat();
    assert!(feed(&mut server, &header).is_err());
}

#[test]
fn a_large_message_comes_in_pieces() {
    let (mut client, mut server) = (
        client(Version::V4, Encoding::Binary),
        ALL.channels(Version::V4, Encoding::Binary),
    );
    let large = vec![7; 100_000];
    let message = [&[0][..], &large].concat();
    client.send_whole(&message);
    let events = pass(&mut client, &mut server);
    assert!(events.len() > 1);
    let mut got = Vec::new();
    for event in events {
        let Event::Data {
            stream: STDIN,
            data,
        } = event
        else {
            panic!("{event:?}")
        };
        assert!(data.len() <= 32 * 1024);
        got.extend_from_slice(&data);
    }
    assert!(got == large);
}

#[test]
fn nothing_here_shows_the_users_bytes() {
    let mut server = ALL.channels(Version::V4, Encoding::Binary);
    server.send(STDOUT, b"secret").unwrap();
    let event = Event::Data {
        stream: STDOUT,
        data: b"secret".as_slice().into(),
    };
    for text in [format!("{server:?}"), format!("{event:?}")] {
        assert!(!text.contains("secret") && !text.contains("115"), "{text}");
    }
}

#[test]
fn the_tunnel_carries_spdy_however_the_messages_are_cut() {
    let headers: Headers = [("streamtype", "data"), ("port", "80")]
        .into_iter()
        .collect();
    let mut client = Tunnel::new(Role::Client, FlowControl::Ignored);
    let mut server = Tunnel::new(Role::Server, FlowControl::Ignored);
    let stream = client.open(&headers).unwrap();
    assert_eq!(
        pass(&mut client, &mut server),
        [Event::Opened {
            stream,
            headers: headers.clone()
        }]
    );
    server.accept(stream);
    assert_eq!(pass(&mut server, &mut client), [Event::Accepted { stream }]);
    client.send(stream, b"GET").unwrap();
    client.finish(stream);
    let expected = [
        Event::Data {
            stream,
            data: "GET".into(),
        },
        Event::Finished { stream },
    ];
    assert_eq!(pass(&mut client, &mut server), expected);
    server.close();
    assert_eq!(
        pass(&mut server, &mut client),
        [Event::GoAway, Event::Closed]
    );

    let mut inner = crate::spdy::Connection::new(crate::spdy::Role::Client, FlowControl::Ignored);
    inner.open(&headers).unwrap();
    let mut server = Tunnel::new(Role::Server, FlowControl::Ignored);
    let wire: Vec<u8> = inner
        .output()
        .iter()
        .flat_map(|byte| masked(2, &[*byte]))
        .collect();
    assert_eq!(
        feed(&mut server, &wire),
        Ok(vec![Event::Opened { stream, headers }])
    );
}

#[test]
fn a_pipe_carries_bytes_however_the_messages_are_cut_and_ends_with_the_goodbye() {
    let (mut client, mut server) = (Pipe::new(Role::Client), Pipe::new(Role::Server));
    assert_eq!(server.initial(), [Pipe::STREAM]);
    let sent = vec![7; 100_000];
    let mut rest = &sent[..];
    while !rest.is_empty() {
        let len = client.send(Pipe::STREAM, rest).unwrap();
        rest = &rest[len..];
    }
    let mut got = Vec::new();
    for event in pass(&mut client, &mut server) {
        let Event::Data { stream, data } = event else {
            panic!("{event:?}")
        };
        assert_eq!(stream, Pipe::STREAM);
        got.extend_from_slice(&data);
    }
    assert!(got == sent);
    server.send(Pipe::STREAM, b"last").unwrap();
    server.close();
    assert_eq!(server.send(Pipe::STREAM, b"x"), Err(NotOpen(Pipe::STREAM)));
    let expected = [
        Event::Data {
            stream: Pipe::STREAM,
            data: "last".into(),
        },
        Event::Finished {
            stream: Pipe::STREAM,
        },
        Event::Closed,
    ];
    assert_eq!(pass(&mut server, &mut client), expected);
    assert_eq!(
        feed(&mut Pipe::new(Role::Server), &masked(1, b"x")),
        Err(SocketError::Text.into())
    );
}

#[test]
fn a_large_message_in_the_tunnel_comes_in_pieces() {
    let mut inner = crate::spdy::Connection::new(crate::spdy::Role::Client, FlowControl::Ignored);
    let stream = inner.open(&Headers::default()).unwrap();
    let mut wire = inner.output().split();
    let len = 1 << 20;
    wire.extend(stream.0.to_be_bytes());
    wire.extend(u32::try_from(len).unwrap().to_be_bytes());
    wire.resize(wire.len() + len, 7);
    let mut client = Channels::new(Role::Client, Encoding::Binary, false, &[]);
    client.send_whole(&wire);
    let mut server = Tunnel::new(Role::Server, FlowControl::Ignored);
    let events = feed(&mut server, &client.output().split()).unwrap();
    let pieces = events.iter().filter_map(|event| match event {
        Event::Data { data, .. } => Some(data.len()),
        _ => None,
    });
    let pieces: Vec<usize> = pieces.collect();
    assert_eq!(pieces.iter().sum::<usize>(), len);
    assert!(pieces.iter().all(|piece| *piece <= 32 << 10), "{pieces:?}");
}

#[test]
fn text_in_the_tunnel_is_refused() {
    let mut server = Tunnel::new(Role::Server, FlowControl::Ignored);
    assert_eq!(
        feed(&mut server, &masked(1, b"x")),
        Err(SocketError::Text.into())
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_cut_at_any_byte_tells_the_same(
        sends in proptest::collection::vec((0..5u32, proptest::collection::vec(any::<u8>(), 1..200)), 1..5),
        base64 in any::<bool>(),
        finish in any::<bool>(),
    ) {
        let encoding = if base64 { Encoding::Base64 } else { Encoding::Binary };
        let version = if base64 { Version::V4 } else { Version::V5 };
        let mut client = client(version, encoding);
        for (channel, data) in &sends {
            let _ = client.send(StreamId(*channel), data);
        }
        if finish {
            client.finish(STDIN);
        }
        let bytes = client.output().split();
        let expected = feed(&mut ALL.channels(version, encoding), &bytes).unwrap();
        for cut in 0..=bytes.len() {
            let mut server = ALL.channels(version, encoding);
            let (mut input, mut events) = (BytesMut::new(), Vec::new());
            for part in [&bytes[..cut], &bytes[cut..]] {
                input.extend_from_slice(part);
                while let Some(event) = server.next(&mut input).unwrap() {
                    events.push(event);
                }
            }
            prop_assert_eq!(&events, &expected);
        }
    }

    #[test]
    fn any_bytes_give_events_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = feed(&mut ALL.channels(Version::V5, Encoding::Binary), &bytes);
        let _ = feed(&mut ALL.channels(Version::V1, Encoding::Base64), &bytes);
        let _ = feed(&mut Tunnel::new(Role::Server, FlowControl::Ignored), &bytes);
        if let Ok(len) = u8::try_from(bytes.len()) && len < 126 {
            let _ = feed(&mut ALL.channels(Version::V5, Encoding::Binary), &masked(2, &bytes));
            let _ = feed(&mut ALL.channels(Version::V4, Encoding::Base64), &masked(1, &bytes));
            let _ = feed(&mut Tunnel::new(Role::Server, FlowControl::Ignored), &masked(2, &bytes));
        }
    }
}

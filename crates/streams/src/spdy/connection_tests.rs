use bytes::BytesMut;
use proptest::prelude::*;

use super::frame::{Frame, ResetStatus, StreamId, encode_data};
use super::headers::{Compressor, Headers};
use super::{Connection, ConnectionError, FlowControl, Role};
use crate::limits::{ANSWERS_HIGH_WATER, INITIAL_WINDOW, MAX_STREAMS};
use crate::protocol::{Event, NotOpen, Protocol, ProtocolError};

fn stdin() -> Headers {
    [("streamtype", "stdin")].into_iter().collect()
}

fn server() -> Connection {
    Connection::new(Role::Server, FlowControl::Ignored)
}

/// Everything the bytes have to tell.
fn feed(connection: &mut Connection, bytes: &[u8]) -> Vec<Event> {
    let mut input = BytesMut::from(bytes);
    let mut events = Vec::new();
    while let Some(event) = connection.next(&mut input).unwrap() {
        events.push(event);
    }
    events
}

fn pass(from: &mut Connection, to: &mut Connection) -> Vec<Event> {
    let bytes = from.output().split();
    feed(to, &bytes)
}

/// Client and server with one stream between them, accepted.
fn pair(flow: FlowControl) -> (Connection, Connection, StreamId) {
    let mut client = Connection::new(Role::Client, flow);
    let mut server = Connection::new(Role::Server, flow);
    let stream = client.open(&stdin()).unwrap();
    assert_eq!(
        pass(&mut client, &mut server),
        [Event::Opened {
            stream,
            headers: stdin()
        }]
    );
    server.accept(stream);
    assert_eq!(pass(&mut server, &mut client), [Event::Accepted { stream }]);
    (client, server, stream)
}

fn frames(connection: &mut Connection) -> Vec<Frame> {
    let (mut decoder, mut bytes) = (
        super::frame::Decoder::default(),
        connection.output().split(),
    );
    std::iter::from_fn(|| decoder.next(&mut bytes).unwrap()).collect()
}

fn wire(frames: &[Frame]) -> BytesMut {
    let mut out = BytesMut::new();
    frames.iter().for_each(|frame| frame.encode(&mut out));
    out
}

fn syn(compressor: &mut Compressor, stream: u32) -> Frame {
    let block = compressor.write(&stdin());
    Frame::SynStream {
        stream: StreamId(stream),
        associated: 0,
        priority: 0,
        fin: false,
        unidirectional: false,
        block,
    }
}

#[test]
fn bytes_go_both_ways_until_each_side_is_done() {
    let (mut client, mut server, stream) = pair(FlowControl::Ignored);
    assert_eq!(client.send(stream, b"in"), Ok(2));
    client.finish(stream);
    let expected = [
        Event::Data {
            stream,
            data: "in".into(),
        },
        Event::Finished { stream },
    ];
    assert_eq!(pass(&mut client, &mut server), expected);
    assert_eq!(client.send(stream, b"more"), Err(NotOpen(stream)));

    assert_eq!(
        server.send(stream, b"out"),
        Ok(3),
        "half closed is open the other way"
    );
    server.finish(stream);
    let expected = [
        Event::Data {
            stream,
            data: "out".into(),
        },
        Event::Finished { stream },
    ];
    assert_eq!(pass(&mut server, &mut client), expected);
    assert_eq!((client.open_streams(), server.open_streams()), (0, 0));
}

#[test]
fn nothing_is_sent_on_a_stream_that_is_not_accepted() {
    let mut server = server();
    let stream = StreamId(1);
    feed(&mut server, &wire(&[syn(&mut Compressor::default(), 1)]));
    assert_eq!(server.send(stream, b"early"), Err(NotOpen(stream)));
    server.accept(stream);
    assert_eq!(server.send(stream, b"now"), Ok(3));
}

#[test]
fn a_reset_ends_both_directions_for_both_sides() {
    let (mut client, mut server, stream) = pair(FlowControl::Ignored);
    client.reset(stream, ResetStatus::CANCEL);
    client.reset(stream, ResetStatus::CANCEL);
    let reset = Event::Reset {
        stream,
        status: ResetStatus::CANCEL,
    };
    assert_eq!(pass(&mut client, &mut server), [reset]);
    assert_eq!(server.send(stream, b"x"), Err(NotOpen(stream)));
}

#[test]
fn data_under_way_when_its_stream_was_reset_is_dropped_in_silence() {
    let (mut client, mut server, stream) = pair(FlowControl::Ignored);
    server.reset(stream, ResetStatus::CANCEL);
    server.output().clear();
    client.send(stream, b"late").unwrap();
    assert_eq!(pass(&mut client, &mut server), []);
    assert!(server.output().is_empty());
}

#[test]
fn data_for_a_stream_that_never_was_is_answered() {
    let mut server = server();
    let mut bytes = BytesMut::new();
    encode_data(StreamId(9), b"x", false, &mut bytes);
    assert_eq!(feed(&mut server, &bytes), []);
    let stream = StreamId(9);
    assert_eq!(
        frames(&mut server),
        [Frame::RstStream {
            stream,
            status: ResetStatus::INVALID_STREAM
        }]
    );
}

#[test]
fn data_behind_the_end_of_its_stream_resets_it() {
    let (_, mut server, stream) = pair(FlowControl::Ignored);
    let mut bytes = BytesMut::new();
    encode_data(stream, b"", true, &mut bytes);
    encode_data(stream, b"x", false, &mut bytes);
    let reset = Event::Reset {
        stream,
        status: ResetStatus::PROTOCOL_ERROR,
    };
    assert_eq!(
        feed(&mut server, &bytes),
        [Event::Finished { stream }, reset]
    );
}

#[test]
fn pings_of_the_peer_come_back_and_ours_are_told() {
    let (mut client, mut server, _) = pair(FlowControl::Ignored);
    let id = client.ping();
    assert_eq!(pass(&mut client, &mut server), []);
    assert_eq!(pass(&mut server, &mut client), [Event::Pong { id }]);
    assert_ne!(client.ping(), id);
}

#[test]
fn streams_over_the_limit_are_refused_and_the_rest_goes_on() {
    let (mut server, mut compressor) = (server(), Compressor::default());
    let opened = |n: usize| (0..n).map(|i| 2 * i as u32 + 1);
    let all: Vec<Frame> = opened(MAX_STREAMS)
        .map(|id| syn(&mut compressor, id))
        .collect();
    assert_eq!(feed(&mut server, &wire(&all)).len(), MAX_STREAMS);

    let over = 2 * MAX_STREAMS as u32 + 1;
    assert_eq!(feed(&mut server, &wire(&[syn(&mut compressor, over)])), []);
    let status = ResetStatus::REFUSED_STREAM;
    assert_eq!(
        frames(&mut server),
        [Frame::RstStream {
            stream: StreamId(over),
            status
        }]
    );

    let one_less = Frame::RstStream {
        stream: StreamId(1),
        status: ResetStatus::CANCEL,
    };
    let events = feed(
        &mut server,
        &wire(&[one_less, syn(&mut compressor, over + 2)]),
    );
    assert!(
        matches!(events[..], [Event::Reset { .. }, Event::Opened { .. }]),
        "{events:?}"
    );
}

#[test]
fn stream_numbers_that_are_not_the_peers_or_go_back_end_the_connection() {
    for wrong in [2, 3, 1] {
        let (mut server, mut compressor) = (server(), Compressor::default());
        feed(&mut server, &wire(&[syn(&mut compressor, 3)]));
        let mut input = wire(&[syn(&mut compressor, wrong)]);
        let error = ConnectionError::StreamOrder {
            stream: StreamId(wrong),
            last: 3,
        };
        assert_eq!(server.next(&mut input), Err(ProtocolError::Spdy(error)));
        assert_eq!(
            server.next(&mut BytesMut::new()),
            Err(ProtocolError::Spdy(error))
        );
        assert!(matches!(
            frames(&mut server)[..],
            [Frame::GoAway { last_good: 3, .. }]
        ));
    }
}

#[test]
fn after_goodbye_new_streams_are_not_taken_and_open_ones_go_on() {
    let (mut client, mut server, stream) = pair(FlowControl::Ignored);
    server.close();
    let late = client.open(&stdin()).unwrap();
    client.send(late, b"x").unwrap();
    client.send(stream, b"y").unwrap();
    let data = "y".into();
    assert_eq!(
        pass(&mut client, &mut server),
        [Event::Data { stream, data }]
    );
    assert_eq!(pass(&mut server, &mut client), [Event::GoAway]);
    assert!(client.open(&stdin()).is_err());
    assert_eq!(server.send(stream, b"z"), Ok(1));
}

#[test]
fn malformed_headers_cost_their_stream_only() {
    let (mut server, mut compressor) = (server(), Compressor::default());
    let twice: Headers = [("a", "1"), ("A", "2")].into_iter().collect();
    let Frame::SynStream {
        stream,
        associated,
        priority,
        fin,
        unidirectional,
        ..
    } = syn(&mut Compressor::default(), 1)
    else {
        unreachable!()
    };
    let block = compressor.write(&twice);
    let bad = Frame::SynStream {
        stream,
        associated,
        priority,
        fin,
        unidirectional,
        block,
    };
    let events = feed(&mut server, &wire(&[bad, syn(&mut compressor, 3)]));
    assert_eq!(
        events,
        [Event::Opened {
            stream: StreamId(3),
            headers: stdin()
        }]
    );
    let status = ResetStatus::PROTOCOL_ERROR;
    assert_eq!(
        frames(&mut server),
        [Frame::RstStream {
            stream: StreamId(1),
            status
        }]
    );
}

#[test]
fn a_peer_that_asks_without_reading_is_not_read_either() {
    let mut server = server();
    let mut input = wire(&vec![Frame::Ping(1); ANSWERS_HIGH_WATER]);
    assert_eq!(server.next(&mut input), Ok(None));
    assert!(!input.is_empty());
    assert!(server.output().len() < ANSWERS_HIGH_WATER + 100);
    assert_eq!(server.send(StreamId(1), b"x"), Err(NotOpen(StreamId(1))));
    let left = input.len();
    server.output().clear();
    assert_eq!(server.next(&mut input), Ok(None));
    assert!(input.len() < left, "goes on when the output is sent");
}

#[test]
fn without_flow_control_no_credit_is_waited_for_or_given() {
    let (mut client, mut server, stream) = pair(FlowControl::Ignored);
    let megabyte = vec![7; 1 << 20];
    let mut sent = 0;
    while sent < megabyte.len() {
        sent += client.send(stream, &megabyte[sent..]).unwrap();
        for event in pass(&mut client, &mut server) {
            if let Event::Data { data, .. } = event {
                server.consumed(stream, data.len());
            }
        }
    }
    assert!(server.output().is_empty());
}

#[test]
fn with_flow_control_a_sender_stops_at_the_window_until_it_gets_credit() {
    let (mut client, mut server, stream) = pair(FlowControl::Kept);
    let window = INITIAL_WINDOW as usize;
    let mut sent = 0;
    loop {
        match client.send(stream, &[0; 1000]).unwrap() {
            0 => break,
            n => sent += n,
        }
    }
    assert_eq!(sent, window);
    pass(&mut client, &mut server);
    server.consumed(stream, window / 2 - 1);
    assert_eq!(
        pass(&mut server, &mut client),
        [],
        "too little to be worth a frame"
    );
    server.consumed(stream, 1);
    let credit = [
        Event::Credit {
            stream: Some(stream),
        },
        Event::Credit { stream: None },
    ];
    assert_eq!(pass(&mut server, &mut client), credit);
    assert_eq!(client.send(stream, &[0; 1000]), Ok(1000));
}

#[test]
fn with_flow_control_the_connections_window_binds_all_streams() {
    let (mut client, mut server, first) = pair(FlowControl::Kept);
    let second = client.open(&stdin()).unwrap();
    pass(&mut client, &mut server);
    server.accept(second);
    pass(&mut server, &mut client);
    while client.send(first, &[0; 1024]).unwrap() > 0 {}
    assert_eq!(client.send(second, b"x"), Ok(0));
    pass(&mut client, &mut server);
    // The bytes of a stream that is gone count for the connection all the same.
    server.reset(first, ResetStatus::CANCEL);
    server.consumed(first, INITIAL_WINDOW as usize);
    pass(&mut server, &mut client);
    assert_eq!(client.send(second, b"x"), Ok(1));
}

#[test]
fn a_peer_that_overruns_the_window_is_stopped() {
    let (_, mut server, _) = pair(FlowControl::Kept);
    let mut bytes = BytesMut::new();
    encode_data(
        StreamId(1),
        &vec![0; INITIAL_WINDOW as usize],
        false,
        &mut bytes,
    );
    feed(&mut server, &bytes);
    let mut bytes = BytesMut::new();
    encode_data(StreamId(1), b"x", false, &mut bytes);
    assert_eq!(
        server.next(&mut bytes),
        Err(ProtocolError::Spdy(ConnectionError::FlowControl))
    );
}

#[test]
fn a_setting_moves_the_windows_of_open_streams_below_zero_and_back() {
    use super::frame::Setting;
    let setting = |value| {
        Frame::Settings(vec![Setting {
            flags: 0,
            id: Setting::INITIAL_WINDOW_SIZE,
            value,
        }])
    };
    let (mut client, _, stream) = pair(FlowControl::Kept);
    client.send(stream, &[0; 100]).unwrap();
    feed(&mut client, &wire(&[setting(50)]));
    assert_eq!(client.send(stream, b"x"), Ok(0));
    feed(&mut client, &wire(&[setting(101)]));
    assert_eq!(client.send(stream, b"xy"), Ok(1));
    let mut input = wire(&[setting(u32::MAX)]);
    assert_eq!(
        client.next(&mut input),
        Err(ProtocolError::Spdy(ConnectionError::FlowControl))
    );
}

#[test]
fn more_credit_than_there_is_resets_the_stream() {
    let (mut client, _, stream) = pair(FlowControl::Kept);
    let update = Frame::WindowUpdate {
        stream: stream.0,
        delta: 0x7fff_ffff,
    };
    let reset = Event::Reset {
        stream,
        status: ResetStatus::FLOW_CONTROL_ERROR,
    };
    assert_eq!(feed(&mut client, &wire(&[update])), [reset]);
}

/// What a client does, for [`conversation`].
#[derive(Debug, Clone)]
enum Step {
    Open,
    Send(usize, Vec<u8>),
    Finish(usize),
    Reset(usize),
    Ping,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        Just(Step::Open),
        (0..4usize, proptest::collection::vec(any::<u8>(), 1..30))
            .prop_map(|(n, data)| Step::Send(n, data)),
        (0..4usize).prop_map(Step::Finish),
        (0..4usize).prop_map(Step::Reset),
        Just(Step::Ping),
    ];
    proptest::collection::vec(step, 1..15)
}

/// The bytes a client sends when it takes these steps.
fn conversation(steps: &[Step]) -> BytesMut {
    let mut client = Connection::new(Role::Client, FlowControl::Ignored);
    let mut streams = Vec::new();
    for step in steps {
        match step {
            Step::Open => streams.push(client.open(&stdin()).unwrap()),
            Step::Send(n, data) => {
                let _ = streams.get(*n).map(|s| client.send(*s, data));
            }
            Step::Finish(n) => streams.get(*n).into_iter().for_each(|s| client.finish(*s)),
            Step::Reset(n) => streams
                .get(*n)
                .into_iter()
                .for_each(|s| client.reset(*s, ResetStatus::CANCEL)),
            Step::Ping => drop(client.ping()),
        }
    }
    client.output().split()
}

/// The events with the pieces of one stream's data that follow each other put together.
fn merged(events: Vec<Event>) -> Vec<Event> {
    let mut out: Vec<Event> = Vec::new();
    for event in events {
        match (out.last_mut(), event) {
            (
                Some(Event::Data { stream, data }),
                Event::Data {
                    stream: next,
                    data: more,
                },
            ) if *stream == next => {
                *data = [&data[..], &more[..]].concat().into();
            }
            (_, event) => out.push(event),
        }
    }
    out
}

proptest! {
    // Each case is a connection for every byte.
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_cut_at_any_byte_tells_the_same(steps in steps()) {
        let bytes = conversation(&steps);
        let mut whole = server();
        let expected = merged(feed(&mut whole, &bytes));
        for cut in 0..=bytes.len() {
            let mut server = server();
            let (mut input, mut events) = (BytesMut::new(), Vec::new());
            for part in [&bytes[..cut], &bytes[cut..]] {
                input.extend_from_slice(part);
                while let Some(event) = server.next(&mut input).unwrap() {
                    events.push(event);
                }
            }
            prop_assert_eq!(merged(events), expected.clone());
            prop_assert_eq!(server.output(), whole.output());
        }
    }
}

proptest! {
    #[test]
    fn byte_by_byte_tells_the_same(steps in steps()) {
        let bytes = conversation(&steps);
        let expected = merged(feed(&mut server(), &bytes));
        let (mut server, mut input, mut events) = (server(), BytesMut::new(), Vec::new());
        for byte in bytes {
            input.extend_from_slice(&[byte]);
            while let Some(event) = server.next(&mut input).unwrap() {
                events.push(event);
            }
        }
        prop_assert_eq!(merged(events), expected);
    }

    #[test]
    fn a_damaged_conversation_gives_events_or_an_error(
        steps in steps(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        kept in any::<bool>(),
    ) {
        let mut bytes = conversation(&steps);
        prop_assume!(!bytes.is_empty());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let flow = if kept { FlowControl::Kept } else { FlowControl::Ignored };
        let mut server = Connection::new(Role::Server, flow);
        while let Ok(Some(_)) = server.next(&mut bytes) {}
        prop_assert!(server.open_streams() <= MAX_STREAMS);
    }
}

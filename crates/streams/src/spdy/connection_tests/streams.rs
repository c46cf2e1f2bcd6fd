//! What becomes of streams, and of the connection.

use super::*;

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

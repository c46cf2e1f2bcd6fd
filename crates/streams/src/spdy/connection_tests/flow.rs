//! Flow control, kept and ignored.

use super::*;

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
    use crate::spdy::frame::Setting;
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

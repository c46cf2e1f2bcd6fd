use super::*;

/// A port of the pod that answers with what it got, in capitals.
async fn shout(mut forwards: Forwards) {
    while let Some(mut forwarded) = forwards.next().await {
        tokio::spawn(async move {
            let mut text = String::new();
            forwarded.data.read_to_string(&mut text).await.unwrap();
            if text.is_empty() {
                let port = forwarded.port;
                forwarded
                    .fail(&format!("nothing listens on {port}"))
                    .await
                    .unwrap();
            } else {
                forwarded
                    .data
                    .write_all(text.to_uppercase().as_bytes())
                    .await
                    .unwrap();
            }
        });
    }
}

fn pair_headers<'a>(kind: &'a str, port: &'a str, id: &'a str) -> [(&'a str, &'a str); 3] {
    [("streamType", kind), ("port", port), ("requestID", id)]
}

fn start_forward() -> (JoinHandle<()>, Client<Connection>) {
    let server = portforward::connection(Forward::Spdy, &[]);
    let client = Connection::new(spdy::Role::Client, FlowControl::Ignored);
    let (handle, _, client) = start(4096, server, client);
    (
        tokio::spawn(shout(Forwards::new(handle, Forward::Spdy, &[]))),
        client,
    )
}

#[tokio::test]
async fn port_forward_over_spdy_pairs_its_streams() {
    let (server, mut client) = start_forward();
    let first = client
        .open_accepted(&pair_headers("error", "80", "0"))
        .await;
    let second = client
        .open_accepted(&pair_headers("error", "81", "1"))
        .await;
    let second_data = client.open_accepted(&pair_headers("data", "81", "1")).await;
    let first_data = client.open_accepted(&pair_headers("data", "80", "0")).await;
    client.send(first_data, b"hello").await;
    for stream in [first_data, second_data, first, second] {
        client.protocol.finish(stream);
    }
    client.flush().await;
    let (mut data, _) = client.gather(4).await;
    data.sort();
    let expected = [
        (second, b"nothing listens on 81".to_vec()),
        (first_data, b"HELLO".to_vec()),
    ];
    assert_eq!(data, expected);
    drop(client);
    server.await.unwrap();
}

#[tokio::test]
async fn streams_that_name_no_port_or_a_taken_place_are_refused() {
    let (_server, mut client) = start_forward();
    let stream = client.open(&pair_headers("data", "0", "0")).await;
    assert_eq!(
        client.event().await,
        Some(Event::Reset {
            stream,
            status: ResetStatus::CANCEL
        })
    );
    client.open_accepted(&pair_headers("data", "80", "0")).await;
    let stream = client.open_accepted(&pair_headers("data", "80", "0")).await;
    assert_eq!(
        client.event().await,
        Some(Event::Reset {
            stream,
            status: ResetStatus::PROTOCOL_ERROR
        })
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_stays_alone_is_told_so_or_reset() {
    let (_server, mut client) = start_forward();
    let error = client
        .open_accepted(&pair_headers("error", "80", "7"))
        .await;
    let data = client.open_accepted(&pair_headers("data", "80", "8")).await;
    let begin = Instant::now();
    let (texts, rest) = client.gather(3).await;
    assert_eq!(begin.elapsed(), STREAM_CREATION_TIMEOUT);
    assert_eq!(
        texts,
        [(
            error,
            b"request 7: no data stream came within 30 s".to_vec()
        )]
    );
    assert!(rest.contains(&Event::Finished { stream: error }));
    assert!(rest.contains(&Event::Reset {
        stream: data,
        status: ResetStatus::CANCEL
    }));
}

#[tokio::test]
async fn what_is_forwarded_when_the_connection_is_dropped_does_not_look_complete() {
    let client = Connection::new(spdy::Role::Client, FlowControl::Ignored);
    let (handle, _, mut client) = start(4096, portforward::connection(Forward::Spdy, &[]), client);
    let mut forwards = Forwards::new(handle, Forward::Spdy, &[]);
    let waiting = tokio::spawn(async move { (forwards.next().await.unwrap(), forwards) });
    client
        .open_accepted(&pair_headers("error", "80", "0"))
        .await;
    let stream = client.open_accepted(&pair_headers("data", "80", "0")).await;
    let (mut forwarded, forwards) = waiting.await.unwrap();
    forwarded.data.write_all(b"half").await.unwrap();
    drop(forwards);
    assert!(forwarded.data.write_all(b"more").await.is_err());
    let (data, rest) = client.drain().await;
    assert_eq!(data, [(stream, b"half".to_vec())]);
    assert!(
        rest.contains(&Event::Reset {
            stream,
            status: ResetStatus::CANCEL
        }),
        "{rest:?}"
    );
}

#[tokio::test]
async fn port_forward_through_the_tunnel() {
    let server = portforward::connection(Forward::Tunnel, &[]);
    let (handle, _, mut client) =
        start(64, server, Tunnel::new(Role::Client, FlowControl::Ignored));
    let server = tokio::spawn(shout(Forwards::new(handle, Forward::Tunnel, &[])));
    for kind in ["error", "data"] {
        let headers: Headers = pair_headers(kind, "80", "0").into_iter().collect();
        let stream = client.protocol.open(&headers).unwrap();
        assert_eq!(client.event().await, Some(Event::Accepted { stream }));
    }
    client.send(StreamId(3), b"hello").await;
    client.protocol.finish(StreamId(3));
    client.protocol.finish(StreamId(1));
    assert_eq!(client.gather(1).await.0, [(StreamId(3), b"HELLO".to_vec())]);
    client.protocol.close();
    client.flush().await;
    server.await.unwrap();
    assert_eq!(client.drain().await.1.last(), Some(&Event::Closed));
}

#[tokio::test]
async fn what_a_tunnel_carried_when_its_client_left_does_not_look_complete() {
    let server = portforward::connection(Forward::Tunnel, &[]);
    let (handle, _, mut client) = start(
        4096,
        server,
        Tunnel::new(Role::Client, FlowControl::Ignored),
    );
    let mut forwards = Forwards::new(handle, Forward::Tunnel, &[]);
    let waiting = tokio::spawn(async move { (forwards.next().await.unwrap(), forwards) });
    for kind in ["error", "data"] {
        let headers: Headers = pair_headers(kind, "80", "0").into_iter().collect();
        let stream = client.protocol.open(&headers).unwrap();
        assert_eq!(client.event().await, Some(Event::Accepted { stream }));
    }
    let (mut forwarded, _forwards) = waiting.await.unwrap();
    client.send(StreamId(3), b"half").await;
    client.protocol.close();
    client.flush().await;
    let mut got = Vec::new();
    assert!(forwarded.data.read_to_end(&mut got).await.is_err());
    assert_eq!(got, b"half");
}

#[tokio::test]
async fn port_forward_over_channels_serves_its_ports_side_by_side() {
    use Direction::{Both, Read};
    let protocol = Forward::WebSocket(Encoding::Binary);
    let client = Channels::new(
        Role::Client,
        Encoding::Binary,
        false,
        &[Both, Read, Both, Read],
    );
    let (handle, _, mut client) =
        start(4096, portforward::connection(protocol, &[80, 443]), client);
    let mut forwards = Forwards::new(handle, protocol, &[80, 443]);
    let (mut first, mut second) = (
        forwards.next().await.unwrap(),
        forwards.next().await.unwrap(),
    );
    assert!(forwards.next().await.is_none(), "there are no more");
    assert_eq!((first.port, second.port), (80, 443));
    client.send(StreamId(2), b"?").await;
    assert_eq!(second.data.read_u8().await.unwrap(), b'?');
    first.data.write_all(b"!").await.unwrap();
    second.fail("broke").await.unwrap();
    drop((first, forwards));

    let (data, _) = client.drain().await;
    let mut got: Vec<(u32, u16, &[u8])> = Vec::new();
    for (stream, bytes) in &data {
        let mut bytes = &bytes[..];
        got.push((stream.0, bytes.get_u16_le(), bytes));
    }
    assert_eq!(
        got,
        [
            (0, 80, &b"!"[..]),
            (1, 80, b""),
            (2, 443, b""),
            (3, 443, b"broke")
        ]
    );
}

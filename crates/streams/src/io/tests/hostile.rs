//! Clients that ask without end, read nothing or go back on what they asked.

use super::*;
use crate::limits::{CONNECTION_BUFFER, MAX_STREAMS};

/// Longer than a stream waits for its other one.
const LONG: Duration = Duration::from_secs(STREAM_CREATION_TIMEOUT.as_secs() + 1);

/// A port-forward whose streams never come in pairs.
fn start_alone() -> (JoinHandle<()>, Client<Connection>) {
    let server = portforward::connection(Forward::Spdy, &[]);
    let client = Connection::new(spdy::Role::Client, FlowControl::Ignored);
    let (handle, _, client) = start(4096, server, client);
    let mut forwards = Forwards::new(handle, Forward::Spdy, &[]);
    let server = async move {
        let forwarded = forwards.next().await;
        assert!(forwarded.is_none(), "{forwarded:?}");
    };
    (tokio::spawn(server), client)
}

fn error_headers(id: &str) -> [(&str, &str); 3] {
    [("streamType", "error"), ("port", "80"), ("requestID", id)]
}

#[tokio::test(start_paused = true)]
async fn streams_that_were_taken_back_count_until_they_are_let_go_here_too() {
    let (_server, mut client) = start_alone();
    for i in 0..MAX_STREAMS {
        let stream = client.open_accepted(&error_headers(&i.to_string())).await;
        client.protocol.reset(stream, ResetStatus::CANCEL);
    }
    let stream = client.open(&error_headers("more")).await;
    let status = ResetStatus::REFUSED_STREAM;
    assert_eq!(client.event().await, Some(Event::Reset { stream, status }));
    sleep(LONG).await;
    client.open_accepted(&error_headers("later")).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_not_listened_to_for_ever() {
    let (_server, mut client) = start_alone();
    let long = "x".repeat(8000);
    let mut rounds = 0;
    let all = async {
        for i in 0.. {
            for j in 0..MAX_STREAMS {
                client
                    .open(&error_headers(&format!("{i}-{j}-{long}")))
                    .await;
            }
            sleep(LONG).await;
            rounds += 1;
        }
    };
    let _ = tokio::time::timeout(LONG * 10, all).await;
    assert_eq!(rounds, 1, "each one costs 4 MiB of answers");
}

#[tokio::test(start_paused = true)]
async fn many_streams_that_nobody_reads_hold_no_more_than_the_connection_may() {
    let client = Connection::new(spdy::Role::Client, FlowControl::Ignored);
    let server = portforward::connection(Forward::Spdy, &[]);
    let (mut handle, _, mut client) = start(4096, server, client);
    const PIECE: usize = STREAM_BUFFER / 2;
    let mut held = Vec::new();
    for i in 0..3 * CONNECTION_BUFFER / PIECE {
        client.open(&error_headers(&i.to_string())).await;
        held.push(handle.incoming().await.unwrap().accept());
        client.event().await;
    }
    let (sent, counter) = tokio::sync::watch::channel(0);
    tokio::spawn(async move {
        for i in 0.. {
            client.send(StreamId(1 + 2 * i), &[7; PIECE]).await;
            sent.send_modify(|sent| *sent += PIECE);
        }
    });
    sleep(LONG).await;
    let stalled = *counter.borrow();
    let room = CONNECTION_BUFFER - PIECE..CONNECTION_BUFFER + 2 * PIECE;
    assert!(room.contains(&stalled), "{stalled}");
    let mut got = [0; 2 * PIECE];
    for (stream, got) in held.iter_mut().zip(got.chunks_mut(PIECE)) {
        stream.read_exact(got).await.unwrap();
    }
    sleep(LONG).await;
    assert_eq!(*counter.borrow(), stalled + 2 * PIECE, "for those who read");
}

#[tokio::test(start_paused = true)]
async fn an_output_that_waits_goes_on_behind_the_last_word_of_another_stream() {
    let server = portforward::connection(Forward::Spdy, &[]);
    let client = Connection::new(spdy::Role::Client, FlowControl::Ignored);
    let (handle, _, mut client) = start(4096, server, client);
    let mut forwards = Forwards::new(handle, Forward::Spdy, &[]);
    tokio::spawn(async move {
        while let Some(mut forwarded) = forwards.next().await {
            tokio::spawn(async move {
                let all = vec![7; 3 * OUTPUT_HIGH_WATER];
                forwarded.data.write_all(&all).await.unwrap();
            });
        }
    });
    client.open_accepted(&error_headers("alone")).await;
    client.open_accepted(&error_headers("0")).await;
    let data = [("streamType", "data"), ("port", "80"), ("requestID", "0")];
    let data = client.open(&data).await;
    sleep(LONG).await;
    let all = async {
        let mut got = 0;
        while let Some(event) = client.event().await {
            match event {
                Event::Data { stream, data: more } if stream == data => got += more.len(),
                Event::Finished { stream } if stream == data => break,
                _ => {}
            }
        }
        got
    };
    let got = tokio::time::timeout(LONG, all).await;
    assert_eq!(got.ok(), Some(3 * OUTPUT_HIGH_WATER));
}

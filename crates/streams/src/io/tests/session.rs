//! Sessions from their streams to the outcome.

use super::*;

/// A command that sends back its input and says how much there was.
async fn cat(session: Session) {
    let Session {
        stdin,
        stdout,
        stderr,
        ending,
        ..
    } = session;
    let mut stdout = stdout.unwrap();
    let copied = tokio::io::copy(&mut stdin.unwrap(), &mut stdout)
        .await
        .unwrap();
    stderr
        .unwrap()
        .write_all(format!("{copied}").as_bytes())
        .await
        .unwrap();
    ending.finish(&Outcome::Exited(3)).await.unwrap();
}

const EXIT_3: &str = concat!(
    r#"{"status":"Failure","message":"command terminated with non-zero exit code: 3","#,
    r#""reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#
);

/// `exec` over SPDY from the first stream to the last byte.
async fn exec_over_spdy(room: usize) {
    let (handle, running, mut client) = start(
        room,
        ALL.connection(SPDY),
        Connection::new(spdy::Role::Client, FlowControl::Ignored),
    );
    let session = tokio::spawn(Session::accept(handle, SPDY, ALL));
    let [error, stdin, stdout, stderr] = client
        .open_kinds([Kind::Error, Kind::Stdin, Kind::Stdout, Kind::Stderr])
        .await;
    let command = tokio::spawn(cat(session.await.unwrap().unwrap()));
    client.send(stdin, b"hello ").await;
    client.send(stdin, b"world").await;
    client.protocol.finish(stdin);

    let (data, rest) = client.drain().await;
    let expected = [
        (stdout, b"hello world".to_vec()),
        (stderr, b"11".to_vec()),
        (error, EXIT_3.into()),
    ];
    assert_eq!(data, expected);
    for stream in [stdout, stderr, error, stdin] {
        assert!(
            rest.contains(&Event::Finished { stream }),
            "{stream}: {rest:?}"
        );
    }
    assert_eq!(rest.last(), Some(&Event::GoAway));
    drop(client);
    command.await.unwrap();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn exec_over_spdy_carries_everything_and_ends_with_the_exit_code() {
    exec_over_spdy(4096).await;
}

#[tokio::test]
async fn exec_over_spdy_through_a_socket_that_takes_one_byte_at_a_time() {
    exec_over_spdy(1).await;
}

#[tokio::test]
async fn exec_over_websocket_carries_everything_and_ends_with_the_exit_code() {
    let (handle, running, mut client) = start_websocket(ALL, V5);
    // Sent before anyone has asked for the channel.
    client.send(StreamId(0), b"hello").await;
    client.protocol.finish(StreamId(0));
    client.flush().await;
    tokio::task::yield_now().await;
    let session = Session::accept(handle, V5, ALL).await.unwrap();
    let command = tokio::spawn(cat(session));
    let (data, rest) = client.drain().await;
    let expected = [
        (StreamId(1), b"hello".to_vec()),
        (StreamId(2), b"5".to_vec()),
        (StreamId(3), EXIT_3.into()),
    ];
    assert_eq!(data, expected);
    assert_eq!(rest.last(), Some(&Event::Closed));
    drop(client);
    command.await.unwrap();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_websocket_client_that_says_goodbye_ends_its_input_and_is_gone() {
    let remote = Remote::WebSocket(Version::V4, Encoding::Base64);
    let (handle, running, mut client) = start_websocket(ALL, remote);
    let session = Session::accept(handle, remote, ALL).await.unwrap();
    client.send(StreamId(0), b"all").await;
    client.protocol.close();
    client.flush().await;
    let mut stdin = String::new();
    session
        .stdin
        .unwrap()
        .read_to_string(&mut stdin)
        .await
        .unwrap();
    assert_eq!(stdin, "all");
    session.ending.gone().cancelled().await;
    assert!(session.stdout.unwrap().write_all(b"x").await.is_err());
    assert_eq!(client.drain().await.1.last(), Some(&Event::Closed));
    drop(client);
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn sizes_of_the_terminal_come_as_they_change() {
    let options = Options {
        stderr: false,
        tty: true,
        ..ALL
    };
    let (handle, _running, mut client) = start_spdy(options);
    let session = tokio::spawn(Session::accept(handle, SPDY, options));
    let kinds = [Kind::Error, Kind::Stdin, Kind::Stdout, Kind::Resize];
    let [.., resize] = client.open_kinds(kinds).await;
    let mut session = session.await.unwrap().unwrap();
    let mut sizes = session.sizes.take().unwrap();
    client.send(resize, br#"{"Width":80,"Height":24}"#).await;
    assert_eq!(
        sizes.next().await.unwrap(),
        Some(TerminalSize {
            width: 80,
            height: 24
        })
    );
    client.protocol.finish(resize);
    client.flush().await;
    assert_eq!(sizes.next().await.unwrap(), None);
    assert_eq!(sizes.next().await.unwrap(), None);
}

#[tokio::test]
async fn streams_nobody_asked_for_and_second_ones_are_refused() {
    let options = Options {
        stderr: false,
        stdin: false,
        ..ALL
    };
    let (handle, _running, mut client) = start_spdy(options);
    let session = tokio::spawn(Session::accept(handle, SPDY, options));
    client.open_kinds([Kind::Error]).await;
    let reset = |stream, status| Some(Event::Reset { stream, status });
    for headers in [
        &[(Kind::HEADER, "stderr")][..],
        &[(Kind::HEADER, "error")],
        &[(Kind::HEADER, "x")],
        &[],
    ] {
        let stream = client.open(headers).await;
        assert_eq!(
            client.event().await,
            reset(stream, ResetStatus::CANCEL),
            "{headers:?}"
        );
    }
    client.open_kinds([Kind::Stdout]).await;
    let _session = session.await.unwrap().unwrap();
    let stream = client.open(&[(Kind::HEADER, "stdin")]).await;
    assert_eq!(
        client.event().await,
        reset(stream, ResetStatus::REFUSED_STREAM),
        "later ones too"
    );
}

#[tokio::test]
async fn a_stream_that_was_reset_before_anyone_took_it_is_not_handed_out() {
    let (mut handle, _running, mut client) = start_spdy(ALL);
    let gone = client.open(&[]).await;
    client.protocol.reset(gone, ResetStatus::CANCEL);
    let next = client.open(&[]).await;
    // Wait until both are in: the answer to the ping comes behind them.
    let id = client.protocol.ping();
    assert_eq!(client.event().await, Some(Event::Pong { id }));
    assert_eq!(handle.incoming().await.unwrap().id(), next);
}

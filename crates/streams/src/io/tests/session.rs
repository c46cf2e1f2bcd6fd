use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use tokio::io::AsyncWrite;

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
async fn a_session_dropped_without_an_outcome_tells_that_it_failed() {
    let (handle, _running, mut client) = start_websocket(ALL, V5);
    drop(Session::accept(handle, V5, ALL).await.unwrap());
    let (data, _) = client.drain().await;
    let [(StreamId(3), status)] = &data[..] else {
        panic!("{data:?}")
    };
    assert!(String::from_utf8_lossy(status).contains(r#""status":"Failure""#));
}

#[tokio::test]
async fn a_failure_is_told_even_when_there_is_no_room_left() {
    let (handle, _running, mut client) = start_spdy(ALL);
    let session = tokio::spawn(Session::accept(handle, SPDY, ALL));
    let [error, ..] = client
        .open_kinds([Kind::Error, Kind::Stdin, Kind::Stdout, Kind::Stderr])
        .await;
    let mut session = session.await.unwrap().unwrap();
    let mut stdout = session.stdout.take().unwrap();
    // Writes until nothing more goes: nobody reads.
    let endless = async { while stdout.write(&[0; 1024]).await.is_ok() {} };
    assert!(
        tokio::time::timeout(Duration::from_millis(50), endless)
            .await
            .is_err()
    );
    drop(session);
    drop(stdout);
    let (data, _) = client.drain().await;
    let status = &data.iter().find(|(id, _)| *id == error).unwrap().1;
    assert!(String::from_utf8_lossy(status).contains(r#""status":"Failure""#));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_create_its_streams_in_time_is_sent_away() {
    let (handle, running, mut client) = start_spdy(ALL);
    let begin = Instant::now();
    let session = tokio::spawn(Session::accept(handle, SPDY, ALL));
    client.open_kinds([Kind::Error, Kind::Stdin]).await;
    assert_eq!(session.await.unwrap().unwrap_err(), AcceptError::TimedOut);
    assert_eq!(begin.elapsed(), STREAM_CREATION_TIMEOUT);
    let (data, rest) = client.drain().await;
    let [(_, status)] = &data[..] else {
        panic!("{data:?}")
    };
    assert!(String::from_utf8_lossy(status).contains("did not create its streams"));
    assert_eq!(rest.last(), Some(&Event::GoAway));
    drop(client);
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_session_that_is_given_up_before_it_began_is_told_as_a_failure() {
    let (handle, running, mut client) = start_spdy(ALL);
    let session = tokio::spawn(Session::accept(handle, SPDY, ALL));
    let [error] = client.open_kinds([Kind::Error]).await;
    session.abort();
    let (data, rest) = client.drain().await;
    let [(stream, status)] = &data[..] else {
        panic!("{data:?}")
    };
    assert_eq!(*stream, error);
    assert!(String::from_utf8_lossy(status).contains(r#""status":"Failure""#));
    assert_eq!(rest.last(), Some(&Event::GoAway));
    drop(client);
    running.await.unwrap().unwrap();
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

#[tokio::test]
async fn a_client_that_hangs_up_breaks_every_stream() {
    let (handle, running, mut client) = start_spdy(ALL);
    let session = tokio::spawn(Session::accept(handle, SPDY, ALL));
    client
        .open_kinds([Kind::Error, Kind::Stdin, Kind::Stdout, Kind::Stderr])
        .await;
    let session = session.await.unwrap().unwrap();
    drop(client);
    session.ending.gone().cancelled().await;
    let error = session.stdin.unwrap().read_u8().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    assert!(session.stdout.unwrap().write_all(b"x").await.is_err());
    assert!(
        session.ending.finish(&Outcome::Exited(0)).await.is_err(),
        "nobody learned of it"
    );
    assert!(running.await.unwrap().is_err());
}

#[tokio::test]
async fn a_client_that_breaks_the_protocol_is_told_and_cut_off() {
    let (handle, running, mut client) = start_spdy(ALL);
    client.io.write_all(&[0xff; 100]).await.unwrap();
    handle.gone().cancelled().await;
    assert_eq!(client.drain().await.1, [Event::GoAway]);
    drop(client);
    assert_eq!(
        running.await.unwrap().unwrap_err().kind(),
        std::io::ErrorKind::InvalidData
    );
}

#[tokio::test]
async fn a_reset_is_an_error_to_the_reader_and_the_writer() {
    let (handle, _running, mut client) = start_spdy(ALL);
    let session = tokio::spawn(Session::accept(handle, SPDY, ALL));
    let [_, stdin, stdout, _] = client
        .open_kinds([Kind::Error, Kind::Stdin, Kind::Stdout, Kind::Stderr])
        .await;
    let session = session.await.unwrap().unwrap();
    client.send(stdin, b"x").await;
    client.protocol.reset(stdin, ResetStatus::CANCEL);
    client.protocol.reset(stdout, ResetStatus::CANCEL);
    client.flush().await;
    let mut reader = session.stdin.unwrap();
    assert_eq!(
        reader.read_u8().await.unwrap(),
        b'x',
        "what came before is not lost"
    );
    assert_eq!(
        reader.read_u8().await.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
    assert!(session.stdout.unwrap().write_all(b"x").await.is_err());
}

/// Client bytes that are taken in while nobody reads `stdin`.
async fn taken_while_nobody_reads(client: &mut Client<Connection>, stdin: StreamId) -> usize {
    let mut taken = 0;
    while tokio::time::timeout(Duration::from_secs(1), client.send(stdin, &[7; 1024]))
        .await
        .is_ok()
    {
        taken += 1024;
        assert!(taken < 10 * STREAM_BUFFER, "there is no end to it");
    }
    taken
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_read_stops_the_client_until_it_does() {
    let (handle, _running, mut client) = start_spdy(ALL);
    let session = tokio::spawn(Session::accept(handle, SPDY, ALL));
    let [_, stdin, ..] = client
        .open_kinds([Kind::Error, Kind::Stdin, Kind::Stdout, Kind::Stderr])
        .await;
    let mut session = session.await.unwrap().unwrap();
    let mut reader = session.stdin.take().unwrap();
    let taken = taken_while_nobody_reads(&mut client, stdin).await;
    assert!(
        (STREAM_BUFFER..2 * STREAM_BUFFER).contains(&taken),
        "{taken}"
    );
    let mut bytes = vec![0; taken];
    reader.read_exact(&mut bytes).await.unwrap();
    assert!(
        bytes.iter().all(|byte| *byte == 7) || bytes.ends_with(&[0]),
        "in order"
    );
}

#[tokio::test]
async fn with_flow_control_a_reader_that_does_not_read_holds_up_its_own_stream_alone() {
    let options = Options {
        stderr: false,
        tty: true,
        ..ALL
    };
    let server = Connection::new(spdy::Role::Server, FlowControl::Kept);
    let client = Connection::new(spdy::Role::Client, FlowControl::Kept);
    let (handle, _running, mut client) = start(4096, Box::new(server), client);
    let session = tokio::spawn(Session::accept(handle, SPDY, options));
    let kinds = [Kind::Error, Kind::Stdin, Kind::Stdout, Kind::Resize];
    let [_, stdin, _, resize] = client.open_kinds(kinds).await;
    let mut session = session.await.unwrap().unwrap();
    let half = STREAM_BUFFER / 2;
    client.send(stdin, &vec![7; half - 100]).await;
    client.send(resize, br#"{"Width":80,"Height":24}"#).await;
    client.send(stdin, &vec![7; half - 100]).await;
    let newest = session.sizes.as_mut().unwrap().next().await.unwrap();
    assert_eq!(
        newest,
        Some(TerminalSize {
            width: 80,
            height: 24
        })
    );
    let mut bytes = vec![0; 2 * half - 200];
    session
        .stdin
        .as_mut()
        .unwrap()
        .read_exact(&mut bytes)
        .await
        .unwrap();
    assert_eq!(
        client.event().await,
        Some(Event::Credit {
            stream: Some(stdin)
        })
    );
    assert_eq!(client.event().await, Some(Event::Credit { stream: None }));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_dropped_takes_everything() {
    let (handle, _running, mut client) = start_spdy(ALL);
    let session = tokio::spawn(Session::accept(handle, SPDY, ALL));
    let [_, stdin, ..] = client
        .open_kinds([Kind::Error, Kind::Stdin, Kind::Stdout, Kind::Stderr])
        .await;
    let mut session = session.await.unwrap().unwrap();
    let reader = session.stdin.take();
    let taken = taken_while_nobody_reads(&mut client, stdin).await;
    drop(reader);
    for _ in 0..10 * taken / 1024 {
        client.send(stdin, &[7; 1024]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_waits_rests_in_one_task_with_its_driver() {
    let (ours, _theirs) = duplex(4096);
    let (handle, mut driver) = connect(ALL.connection(V5), ours);
    let mut session = Session::accept(handle, V5, ALL).await.unwrap();
    let mut stdout = session.stdout.take().unwrap();
    let mut times = 0;
    let both = std::future::poll_fn(|cx| {
        times += 1;
        assert!(times < 1000, "they wake each other for ever");
        let _ = Pin::new(&mut driver).poll(cx);
        while Pin::new(&mut stdout).poll_write(cx, &[7; 4096]).is_ready() {}
        Poll::<()>::Pending
    });
    let waited = tokio::time::timeout(Duration::from_secs(1), both).await;
    assert!(waited.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_can_still_type() {
    let (handle, _running, client) = start_websocket(ALL, V5);
    let session = Session::accept(handle, V5, ALL).await.unwrap();
    types_into_the_silence(session, client, StreamId(0)).await;
    let (handle, _running, mut client) = start_spdy(ALL);
    let accepting = tokio::spawn(Session::accept(handle, SPDY, ALL));
    let [stdin, ..] = client
        .open_kinds([Kind::Stdin, Kind::Error, Kind::Stdout, Kind::Stderr])
        .await;
    let session = accepting.await.unwrap().unwrap();
    types_into_the_silence(session, client, stdin).await;
}

async fn types_into_the_silence<P: Protocol>(
    mut session: Session,
    mut client: Client<P>,
    to: StreamId,
) {
    let (stdin, stdout) = (session.stdin.take(), session.stdout.take());
    let (mut stdin, mut stdout) = (stdin.unwrap(), stdout.unwrap());
    let patience = Duration::from_secs(1);
    while let Ok(written) = tokio::time::timeout(patience, stdout.write(&[7; 4096])).await {
        written.unwrap();
    }
    client.send(to, b"\x03").await;
    let typed = tokio::time::timeout(patience, stdin.read_u8()).await;
    assert_eq!(typed.expect("it is read").unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_stops_the_writer_until_it_does() {
    let (handle, _running, mut client) = start_websocket(ALL, V5);
    let mut session = Session::accept(handle, V5, ALL).await.unwrap();
    let mut stdout = session.stdout.take().unwrap();
    let mut written = 0;
    while let Ok(Ok(n)) =
        tokio::time::timeout(Duration::from_secs(1), stdout.write(&[7; 4096])).await
    {
        written += n;
    }
    assert!(written < 3 * OUTPUT_HIGH_WATER, "{written}");
    let finish = tokio::spawn(session.ending.finish(&Outcome::Exited(0)));
    drop(stdout);
    // A pager may keep it waiting for longer than a connection may take to close.
    sleep(3 * CLOSE_TIMEOUT).await;
    let (data, _) = client.drain().await;
    assert_eq!(data[0].1.len(), written, "and nothing is lost");
    assert_eq!(data[1].1, br#"{"status":"Success"}"#);
    drop(client);
    finish.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_nothing_moves_is_closed() {
    let (handle, running, mut client) = start_spdy(ALL);
    sleep(IDLE_TIMEOUT - Duration::from_secs(1)).await;
    // A frame that is not answered.
    client.open(&[]).await;
    sleep(IDLE_TIMEOUT - Duration::from_secs(1)).await;
    assert!(!handle.gone().is_cancelled());
    sleep(Duration::from_secs(2)).await;
    assert!(handle.gone().is_cancelled());
    let begin = Instant::now();
    assert_eq!(
        running.await.unwrap().unwrap_err().kind(),
        std::io::ErrorKind::TimedOut
    );
    assert!(
        begin.elapsed() <= CLOSE_TIMEOUT,
        "though nobody says goodbye"
    );
}

/// A client takes a connection that just ends for success.
#[tokio::test(start_paused = true)]
async fn a_session_on_which_nothing_moves_is_told_as_a_failure() {
    let (handle, running, mut client) = start_spdy(ALL);
    let session = tokio::spawn(Session::accept(handle, SPDY, ALL));
    let [error, ..] = client
        .open_kinds([Kind::Error, Kind::Stdin, Kind::Stdout, Kind::Stderr])
        .await;
    let session = session.await.unwrap().unwrap();
    session.ending.gone().cancelled().await;
    drop(session);
    let (data, _) = client.drain().await;
    let status = &data.iter().find(|(id, _)| *id == error).unwrap().1;
    assert!(String::from_utf8_lossy(status).contains(r#""status":"Failure""#));
    drop(client);
    let ended = running.await.unwrap().unwrap_err();
    assert_eq!(ended.kind(), std::io::ErrorKind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_hang_up_is_waited_for_and_then_left() {
    let (handle, running, client) = start_spdy(ALL);
    let begin = Instant::now();
    handle.close().await.unwrap();
    running.await.unwrap().unwrap();
    assert_eq!(begin.elapsed(), CLOSE_TIMEOUT);
    drop(client);
}

//! Sessions and connections that end otherwise than by an outcome.

use super::*;

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
    let (mut session, _running, mut client, [error, ..]) = whole_session().await;
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
async fn a_client_that_hangs_up_breaks_every_stream() {
    let (session, running, client, _) = whole_session().await;
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
    let (session, _running, mut client, [_, stdin, stdout, _]) = whole_session().await;
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
    let (session, running, mut client, [error, ..]) = whole_session().await;
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

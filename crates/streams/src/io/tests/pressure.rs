//! Back-pressure: who does not read, and who waits for it.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use tokio::io::AsyncWrite;

use super::*;

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
    let (mut session, _running, mut client, [_, stdin, ..]) = whole_session().await;
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
    let (mut session, _running, mut client, [_, stdin, ..]) = whole_session().await;
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

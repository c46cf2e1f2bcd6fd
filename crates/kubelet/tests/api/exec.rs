//! `/exec`, `/attach` and `/run`.

use std::time::Duration;

use kubelet_streams::negotiate::{Remote, Version};
use kubelet_streams::websocket::Encoding;
use vk_provider::LogSource;

use crate::dial::{SPDY, Session, V5, plain};
use crate::rig::Rig;
use crate::suite::memory::processes::blob;
use crate::suite::world::eventually;

const ALL: [Remote; 9] = [
    V5,
    Remote::WebSocket(Version::V4, Encoding::Binary),
    Remote::WebSocket(Version::V4, Encoding::Base64),
    Remote::WebSocket(Version::V1, Encoding::Binary),
    Remote::WebSocket(Version::V1, Encoding::Base64),
    SPDY,
    Remote::Spdy(Version::V3),
    Remote::Spdy(Version::V2),
    Remote::Spdy(Version::V1),
];

fn exec(query: &str) -> String {
    format!("/exec/default/web/app?{query}")
}

async fn alive(rig: &Rig, number: usize) {
    let what = format!("{number} are there");
    let reached = async || (rig.remote.alive() == number).then_some(());
    eventually(&what, reached).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_protocol_carries_both_outputs_to_the_byte_and_how_it_ended() {
    let rig = Rig::new().await;
    let uid = rig.runs("web").await;
    for remote in ALL {
        for code in [0, 42] {
            let query = format!("command=both&command={code}&output=1&error=1");
            let path = format!("/exec/default/web/{uid}/app?{query}");
            let ended = Session::begin(&rig, remote, &path).await.end().await;
            assert_eq!(ended.stdout, b"out\0\xff\n", "{remote:?}");
            assert_eq!(ended.stderr, b"err\r\n", "{remote:?}");
            if remote.version() >= Version::V4 {
                assert_eq!(ended.code(), Ok(code), "{remote:?}");
            } else {
                let text = String::from_utf8(ended.error).unwrap();
                let told = match code {
                    0 => "",
                    _ => "command terminated with non-zero exit code: 42",
                };
                assert_eq!(text, told, "{remote:?}");
            }
        }
    }
    alive(&rig, 0).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_success_is_never_told_as_success() {
    let rig = Rig::new().await;
    rig.runs("web").await;
    for (command, wanted) in [
        ("exit&command=255", Ok(255)),
        ("exit&command=300", Err("the process ended with code 300")),
        (
            "unknown",
            Err("the process ended, and the remote cannot tell how"),
        ),
        ("lost", Err("the device is away")),
        ("absent", Err("container \"app\" does not run")),
        ("panic", Err("the backend panicked")),
    ] {
        for remote in [SPDY, V5] {
            let path = exec(&format!("command={command}&output=1"));
            let ended = Session::begin(&rig, remote, &path).await.end().await;
            assert_eq!(ended.code(), wanted.map_err(str::to_owned), "{command}");
        }
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn input_comes_whole_and_so_does_its_end() {
    let rig = Rig::new().await;
    rig.runs("web").await;
    let sent = blob();
    for remote in [SPDY, V5] {
        let path = exec("command=cat&input=1&output=1");
        let mut session = Session::begin(&rig, remote, &path).await;
        let mut echoed = Vec::new();
        for piece in sent.chunks(20_000) {
            session.write(piece).await;
            echoed.extend(session.read(piece.len()).await);
        }
        assert!(echoed == sent, "{remote:?}");
        session.write(b"last").await;
        session.finish_stdin().await;
        let ended = session.end().await;
        assert_eq!((&*ended.stdout, ended.code()), (b"last" as _, Ok(0)));
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_asked_for_reaches_the_process() {
    let rig = Rig::new().await;
    rig.runs("web").await;
    for remote in [SPDY, V5] {
        let path = exec("command=nothing&output=1");
        let ended = Session::begin(&rig, remote, &path).await.end().await;
        assert_eq!(ended.code(), Ok(0), "{remote:?}");
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_one_output_and_follows_its_sizes() {
    let rig = Rig::new().await;
    rig.runs("web").await;
    for remote in [SPDY, V5] {
        let path = exec("command=sizes&command=2&input=1&output=1&error=1&tty=1");
        let mut session = Session::begin(&rig, remote, &path).await;
        session.resize(r#"{"Width":80,"Height":24}"#).await;
        assert_eq!(session.read(7).await, b"80x24\r\n", "{remote:?}");
        // No size at all is none, as for the kubelet.
        session.resize(r#"{"Width":0,"Height":0}"#).await;
        session.resize(r#"{"Width":132,"Height":50}"#).await;
        let ended = session.end().await;
        assert_eq!(ended.stdout, b"132x50\r\n", "{remote:?}");
        assert_eq!(ended.code(), Ok(0), "{remote:?}");
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_goes_with_its_client() {
    let rig = Rig::new().await;
    rig.runs("web").await;
    for remote in [SPDY, V5] {
        let path = exec("command=wait&input=1&output=1");
        let mut session = Session::begin(&rig, remote, &path).await;
        assert_eq!(session.read(8).await, b"waiting\n");
        alive(&rig, 1).await;
        drop(session);
        alive(&rig, 0).await;
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_reads_nothing_goes_with_its_client_too() {
    let rig = Rig::new().await;
    rig.runs("web").await;
    for remote in [SPDY, V5] {
        let path = exec("command=wait&input=1&output=1");
        let mut session = Session::begin(&rig, remote, &path).await;
        assert_eq!(session.read(8).await, b"waiting\n");
        session.type_until_it_stalls().await;
        alive(&rig, 0).await;
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_container() {
    let rig = Rig::new().await;
    let uid = rig.runs("web").await;
    let path = exec("command=wait&output=1");
    let mut session = Session::begin(&rig, V5, &path).await;
    session.read(8).await;
    rig.remote.exit(&uid, 1);
    assert_eq!(session.end().await.code(), Ok(137));
    rig.end().await;
}

/// More than sockets hold on both sides.
const HELD: usize = 32 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_stops_the_process_and_takes_no_memory() {
    let rig = Rig::new().await;
    rig.runs("web").await;
    for remote in [SPDY, V5] {
        let before = rig.remote.written();
        let mut session = Session::begin(&rig, remote, &exec("command=yes&output=1")).await;
        let stalled = async || {
            let written = rig.remote.written();
            tokio::time::sleep(Duration::from_millis(300)).await;
            let stalled = written > before && rig.remote.written() == written;
            assert!(written - before < HELD, "goes on without a reader");
            stalled.then_some(written)
        };
        let written = eventually("the process stalls", stalled).await;
        session.read(written - before + (1 << 20)).await;
        assert!(rig.remote.written() > written, "it goes on with its reader");
        drop(session);
        alive(&rig, 0).await;
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_stops_tells_its_clients_that_they_were_cut_off() {
    let rig = Rig::new().await;
    rig.runs("web").await;
    let mut sessions = Vec::new();
    for remote in [SPDY, V5] {
        let path = exec("command=wait&output=1");
        let mut session = Session::begin(&rig, remote, &path).await;
        session.read(8).await;
        sessions.push(session.end());
    }
    let remote = rig.remote.clone();
    let (ended, ()) = tokio::join!(futures::future::join_all(sessions), rig.end());
    for ended in ended {
        let why = ended.code().unwrap_err();
        assert!(why.contains("is stopping"), "{why}");
    }
    assert_eq!(remote.alive(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_ends_while_its_node_stops_is_told_as_it_ended() {
    let rig = Rig::new().await;
    rig.runs("web").await;
    let path = exec("command=cat&input=1&output=1");
    let mut session = Session::begin(&rig, V5, &path).await;
    session.write(b"x").await;
    session.read(1).await;
    let mut quiet = rig.line().await;
    let ending = tokio::spawn(rig.end());
    // Quiet connections end at once.
    let read = tokio::io::AsyncReadExt::read(&mut quiet, &mut [0; 8]).await;
    assert!(matches!(read, Ok(0) | Err(_)));
    session.finish_stdin().await;
    assert_eq!(session.end().await.code(), Ok(0));
    ending.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn attach_joins_what_runs_and_leaves_it_running() {
    let rig = Rig::new().await;
    let uid = rig.runs_with("tty", true).await;
    rig.remote
        .write(&uid, "app", LogSource::Stdout, b"before\n");
    for remote in [SPDY, V5] {
        let path = "/attach/default/tty/app?input=1&output=1&tty=1";
        let mut session = Session::begin(&rig, remote, path).await;
        alive(&rig, 1).await;
        rig.remote.write(&uid, "app", LogSource::Stdout, b"now\n");
        assert_eq!(session.read(4).await, b"now\n", "{remote:?}");
        let before = rig.remote.typed().len();
        session.write(b"typed").await;
        let typed = async || (rig.remote.typed()[before..] == *b"typed").then_some(());
        eventually("it is typed", typed).await;
        drop(session);
        alive(&rig, 0).await;
        assert!(rig.remote.runs(&uid));
    }
    let session = Session::begin(&rig, V5, "/attach/default/tty/app?output=1").await;
    alive(&rig, 1).await;
    rig.remote.exit(&uid, 3);
    // Joined to the end. With which code that came is the status's to tell.
    assert_eq!(session.end().await.code(), Ok(0));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attach_types_nothing_into_a_container_without_input() {
    let rig = Rig::new().await;
    let uid = rig.runs("web").await;
    let path = "/attach/default/web/app?input=1&output=1&error=1";
    let mut session = Session::begin(&rig, SPDY, path).await;
    alive(&rig, 1).await;
    session.write(b"typed").await;
    rig.remote.write(&uid, "app", LogSource::Stderr, b"err\n");
    rig.remote.write(&uid, "app", LogSource::Stdout, b"out\n");
    session.read(4).await;
    assert_eq!(rig.remote.typed(), b"");
    rig.remote.exit(&uid, 0);
    assert_eq!(session.end().await.code(), Ok(0));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn run_answers_what_a_command_wrote_or_why_it_failed() {
    let rig = Rig::new().await;
    let uid = rig.runs("web").await;
    let run = async |query: &str| {
        let path = format!("/run/default/web/{uid}/app?{query}");
        let answer = plain(&rig, "POST", &path).await;
        (answer.status, answer.body)
    };
    assert_eq!(
        run("cmd=both+0").await,
        (200, b"out\0\xff\nerr\r\n".to_vec())
    );
    for (query, status, words) in [
        ("cmd=both+42", 500, "command exited with 42: err\r\n"),
        (
            "cmd=unknown",
            500,
            "the command ended, and the remote cannot tell how: ",
        ),
        ("cmd=lost", 500, "the device is away"),
        ("", 400, "query parameter cmd is required\n"),
        ("cmd=%FF", 400, "query parameter cmd is not UTF-8\n"),
    ] {
        let (code, body) = run(query).await;
        let text = String::from_utf8(body).unwrap();
        assert_eq!((code, &*text), (status, words), "{query}");
    }
    // One that never ends goes with its client.
    let mut line = rig.line().await;
    let text = crate::rig::request("POST", "/run/default/web/app?cmd=wait");
    tokio::io::AsyncWriteExt::write_all(&mut line, &text)
        .await
        .unwrap();
    alive(&rig, 1).await;
    drop(line);
    alive(&rig, 0).await;
    rig.end().await;
}

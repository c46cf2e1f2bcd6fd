//! `exec`, `attach` and port-forward: what the client speaks, and what the node
//! hears.

use kubelet_streams::negotiate::Version;
use kubelet_streams::spdy::frame::StreamId;

use super::talk::{self, channels, spdy, streams, talk, websocket};
use super::{BASE, World};

type Heard = std::collections::BTreeMap<u32, String>;

pub const EXTENDS: &str = "ExtendWebSocketsToKubelet";
const STDIN: StreamId = StreamId(0);
const OUT: u32 = 1;
const ERR: u32 = 2;
const END: u32 = 3;

fn exec(container: &str, more: &str) -> String {
    format!("{BASE}/exec?container={container}&stdout=true&{more}")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_over_websocket_v5_is_translated_to_spdy_for_the_node() {
    let world = World::new().await;
    let target = exec("app", "stdin=true&stderr=true&command=7");
    let mut answer = world
        .ask(websocket(&target, "v5.channel.k8s.io, v4.channel.k8s.io"))
        .await;
    assert_eq!(
        answer.headers["sec-websocket-protocol"],
        "v5.channel.k8s.io"
    );
    let io = answer.upgraded.take().unwrap();
    // The input ends without the connection, which is what v5 is for.
    let heard = talk(io, channels(Version::V5), &[(STDIN, b"hello")], |_| false).await;
    assert_eq!((&*heard[&OUT], &*heard[&ERR]), ("hello", "done"));
    assert!(
        heard[&END].contains(r#""reason":"ExitCode","message":"7""#),
        "{heard:?}"
    );
    let asked = world.node.last();
    let target = "/exec/default/web/app?input=1&output=1&error=1&command=7";
    assert_eq!((asked.method.as_str(), &*asked.target), ("POST", target));
    assert_eq!(asked.headers["upgrade"], "SPDY/3.1");
    let offered = asked.headers.get_all("x-stream-protocol-version");
    let offered: Vec<&str> = offered.iter().map(|v| v.to_str().unwrap()).collect();
    let all = ["v5", "v4", "v3", "v2"].map(|v| format!("{v}.channel.k8s.io"));
    assert_eq!(offered[..4], all.each_ref().map(String::as_str));
    assert_eq!(offered[4..], ["channel.k8s.io"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_size_of_the_terminal_reaches_the_node() {
    let world = World::new().await;
    let target = exec("app", "tty=true&stderr=true&command=0");
    let io = world
        .upgraded(websocket(&target, "v5.channel.k8s.io"))
        .await;
    let size: &[u8] = br#"{"Width":80,"Height":24}"#;
    let heard = talk(io, channels(Version::V5), &[(StreamId(4), size)], |_| false).await;
    assert_eq!(heard[&OUT], "80x24 ");
    assert!(
        !heard.contains_key(&ERR),
        "a terminal has no error output of its own"
    );
    assert_eq!(heard[&END], r#"{"status":"Success"}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_takes_websocket_gets_it_as_it_is() {
    let world = World::with(&[EXTENDS]).await;
    let target = exec("app", "stdin=true&command=0");
    let io = world
        .upgraded(websocket(&target, "v5.channel.k8s.io"))
        .await;
    let heard = talk(io, channels(Version::V5), &[(STDIN, b"hello")], |_| false).await;
    assert_eq!(
        (&*heard[&OUT], &*heard[&END]),
        ("hello", r#"{"status":"Success"}"#)
    );
    let asked = world.node.last();
    assert_eq!(asked.method, "GET");
    assert_eq!(asked.headers["sec-websocket-protocol"], "v5.channel.k8s.io");
    assert!(!asked.headers.contains_key("authorization"));
}

#[tokio::test(flavor = "multi_thread")]
async fn older_websocket_and_spdy_go_to_any_node_as_they_are() {
    let world = World::new().await;
    let attach = format!("{BASE}/attach?container=app&stdout=true&stderr=true");
    let io = world
        .upgraded(websocket(&attach, "v4.channel.k8s.io"))
        .await;
    let heard = talk(io, channels(Version::V4), &[], |_| false).await;
    assert_eq!(heard[&ERR], "done");
    let asked = world.node.last();
    let target = "/attach/default/web/app?output=1&error=1";
    assert_eq!((asked.method.as_str(), &*asked.target), ("GET", target));

    let target = exec("app", "stdin=true&command=3");
    let answer = world.ask(spdy(&target, "v4.channel.k8s.io")).await;
    assert_eq!(
        answer.headers["x-stream-protocol-version"],
        "v4.channel.k8s.io"
    );
    let (connection, ids) = streams(&["error", "stdin", "stdout"]);
    let io = answer.upgraded.unwrap();
    let heard = talk(io, connection, &[(ids[1], b"hello")], |_| false).await;
    assert_eq!(heard[&ids[2].0], "hello");
    assert!(heard[&ids[0].0].contains(r#""message":"3""#), "{heard:?}");
    assert_eq!(
        world.node.last().headers["x-stream-protocol-version"],
        "v4.channel.k8s.io"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_no_exec_is_heard_whatever_is_spoken() {
    let world = World::new().await;
    let target = exec("silent", "command=a");
    let io = world
        .upgraded(websocket(&target, "v5.channel.k8s.io"))
        .await;
    let heard = talk(io, channels(Version::V5), &[], |_| false).await;
    let words = "Internal error occurred: unable to upgrade connection: no exec here";
    assert!(heard[&END].contains(words), "{heard:?}");
    let answer = world.ask(spdy(&target, "v4.channel.k8s.io")).await;
    assert_eq!(
        (answer.status.as_u16(), &*answer.text),
        (501, "no exec here\n")
    );
    let answer = world.ask(websocket(&target, "v4.channel.k8s.io")).await;
    assert_eq!(
        (answer.status.as_u16(), &*answer.text),
        (501, "no exec here\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hangs_up_without_an_outcome_has_failed() {
    let world = World::new().await;
    let target = exec("app", "stderr=true");
    let io = world
        .upgraded(websocket(&target, "v5.channel.k8s.io"))
        .await;
    let heard = talk(io, channels(Version::V5), &[], |_| false).await;
    assert!(heard[&END].contains(r#""status":"Failure""#), "{heard:?}");
    assert!(
        heard[&END].contains("error reading from error stream"),
        "{heard:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_forward_reaches_the_node_in_the_protocol_that_it_takes() {
    const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
    let target = format!("{BASE}/portforward");
    for (features, method) in [(&[][..], "POST"), (&[EXTENDS], "GET")] {
        let world = World::with(features).await;
        let answer = world.ask(websocket(&target, TUNNEL)).await;
        assert_eq!(answer.headers["sec-websocket-protocol"], TUNNEL);
        let mut tunnel = talk::tunnel();
        let ids = talk::pair().map(|headers| tunnel.open(&headers).unwrap());
        let data = ids[1].0;
        let enough = |heard: &Heard| heard.get(&data).is_some_and(|text| text.ends_with("hello"));
        let io = answer.upgraded.unwrap();
        let heard = talk(io, tunnel, &[(ids[1], b"hello")], enough).await;
        assert_eq!(heard[&data], "80: hello");
        let asked = world.node.last();
        assert_eq!(
            (asked.method.as_str(), &*asked.target),
            (method, "/portForward/default/web")
        );
    }
    let world = World::new().await;
    let answer = world.ask(spdy(&target, "portforward.k8s.io")).await;
    let (mut connection, _) = streams(&[]);
    let ids = talk::pair().map(|headers| connection.open(&headers).unwrap());
    let data = ids[1].0;
    let enough = |heard: &Heard| heard.get(&data).is_some_and(|text| text.ends_with("hello"));
    let io = answer.upgraded.unwrap();
    let heard = talk(io, connection, &[(ids[1], b"hello")], enough).await;
    assert_eq!(heard[&data], "80: hello");
}

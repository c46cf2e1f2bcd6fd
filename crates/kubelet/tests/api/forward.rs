//! `/portForward`.

use kubelet_streams::Event;
use kubelet_streams::spdy::frame::StreamId;
use kubelet_streams::spdy::{self, Connection, FlowControl};
use kubelet_streams::websocket::{Channels, Direction, Encoding, Role, Tunnel};

use crate::dial::{Client, Opens, head, spdy, websocket};
use crate::rig::Rig;
use crate::suite::memory::processes::blob;
use crate::suite::world::eventually;

const PATH: &str = "/portForward/default/web";

async fn over_spdy(rig: &Rig, path: &str) -> Client<Connection> {
    let text = head("POST", path, &spdy("portforward.k8s.io"));
    let connection = Connection::new(spdy::Role::Client, FlowControl::Ignored);
    Client::upgrade(rig, &text, Box::new(connection)).await
}

async fn over_websocket(rig: &Rig) -> Client<Tunnel> {
    let text = head("GET", PATH, &websocket("SPDY/3.1+portforward.k8s.io"));
    let tunnel = Tunnel::new(Role::Client, FlowControl::Ignored);
    Client::upgrade(rig, &text, Box::new(tunnel)).await
}

/// One connection: its error and its data stream.
async fn connect<P: Opens>(client: &mut Client<P>, port: u16, id: usize) -> [StreamId; 2] {
    let (port, id) = (port.to_string(), id.to_string());
    let headers = |kind| [("streamType", kind), ("port", &*port), ("requestID", &*id)];
    let error = client.open(&headers("error")).await;
    client.finish(error).await;
    [error, client.open(&headers("data")).await]
}

async fn alive(rig: &Rig, number: usize) {
    let reached = async || (rig.remote.alive() == number).then_some(());
    eventually(&format!("{number} are there"), reached).await;
}

/// Until this stream is through in the server's direction: its bytes.
async fn rest<P: Opens>(client: &mut Client<P>, stream: StreamId) -> Vec<u8> {
    let came = client
        .until(|_, event| {
            matches!(event, Event::Finished { stream: of } | Event::Reset { stream: of, .. } if *of == stream)
        })
        .await;
    came.of(stream).to_vec()
}

async fn fifty_at_once<P: Opens>(rig: &Rig, client: &mut Client<P>) {
    let mut open = Vec::new();
    for id in 0..50 {
        open.push(connect(client, 80, id).await);
    }
    alive(rig, 50).await;
    let bytes = blob();
    for (number, [_, data]) in open.iter().enumerate() {
        client.send(*data, &bytes[number..20_000 + number]).await;
        let back = client.read(*data, 20_000).await;
        assert!(back == bytes[number..20_000 + number], "{number}");
    }
    for [error, data] in open {
        client.finish(data).await;
        let came = client
            .until(|came, _| {
                let over = |of| came.rest.contains(&Event::Finished { stream: of });
                over(data) && over(error)
            })
            .await;
        assert_eq!(came.of(error), b"", "all went well");
    }
    alive(rig, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_connections_at_once_are_carried_each_to_its_end() {
    let rig = Rig::new().await;
    let uid = rig.runs("web").await;
    let mut client = over_spdy(&rig, &format!("{PATH}/{uid}")).await;
    fifty_at_once(&rig, &mut client).await;
    let mut client = over_websocket(&rig).await;
    fifty_at_once(&rig, &mut client).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_one_direction_leaves_the_other_open() {
    let rig = Rig::new().await;
    rig.runs("web").await;
    let mut client = over_spdy(&rig, PATH).await;
    let [_, data] = connect(&mut client, 81, 1).await;
    client.send(data, &blob()).await;
    client.finish(data).await;
    assert_eq!(rest(&mut client, data).await, b"100000");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_nobody_listens_on_is_told_in_the_kubelets_words_and_others_live_on() {
    let rig = Rig::new().await;
    let uid = rig.runs("web").await;
    let mut client = over_spdy(&rig, PATH).await;
    let [_, lives] = connect(&mut client, 80, 1).await;
    for (port, id, why) in [
        (7777, 2, "connection refused"),
        (83, 3, "connection reset by peer"),
    ] {
        let [error, _] = connect(&mut client, port, id).await;
        let told = String::from_utf8(rest(&mut client, error).await).unwrap();
        let words = format!("error forwarding port {port} to pod web_default, uid {uid}: {why}");
        assert_eq!(told, words);
    }
    client.send(lives, b"still").await;
    assert_eq!(client.read(lives, 5).await, b"still");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_resets_a_finished_connection_hears_of_no_error() {
    let rig = Rig::new().await;
    rig.runs("web").await;
    let mut client = over_spdy(&rig, PATH).await;
    // As kubectl does with every connection that the server has ended.
    let [error, data] = connect(&mut client, 82, 1).await;
    assert_eq!(rest(&mut client, data).await, b"bye");
    let cancel = kubelet_streams::spdy::frame::ResetStatus::CANCEL;
    kubelet_streams::Protocol::reset(&mut *client.protocol, data, cancel);
    client.flush().await;
    assert_eq!(rest(&mut client, error).await, b"");
    alive(&rig, 0).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connections_of_a_client_that_is_gone_are_ended() {
    let rig = Rig::new().await;
    rig.runs("web").await;
    let mut client = over_websocket(&rig).await;
    for id in 0..3 {
        connect(&mut client, 80, id).await;
    }
    alive(&rig, 3).await;
    drop(client);
    alive(&rig, 0).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_stops_tells_open_connections_that_they_were_cut_off() {
    let rig = Rig::new().await;
    rig.runs("web").await;
    let mut client = over_spdy(&rig, PATH).await;
    let [error, _] = connect(&mut client, 80, 1).await;
    alive(&rig, 1).await;
    let (came, ()) = tokio::join!(client.drain(), rig.end());
    let told = String::from_utf8(came.of(error).to_vec()).unwrap();
    assert!(told.contains("is stopping"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_legacy_form_has_a_channel_for_each_port() {
    let rig = Rig::new().await;
    rig.runs("web").await;
    let path = format!("{PATH}?port=80&port=82");
    let text = head("GET", &path, &websocket("v4.channel.k8s.io"));
    let ways = [Direction::Both, Direction::Read].repeat(2);
    let channels = Channels::new(Role::Client, Encoding::Binary, false, &ways);
    let mut client = Client::upgrade(&rig, &text, Box::new(channels)).await;
    let [echo, bye] = [StreamId(0), StreamId(2)];
    client.send(echo, b"hello").await;
    let came = client
        .until(|came, _| came.of(echo).len() >= 7 && came.of(bye).len() >= 5)
        .await;
    assert_eq!(came.of(echo), b"\x50\0hello");
    assert_eq!(came.of(bye), b"\x52\0bye");
    assert_eq!(came.of(StreamId(1)), b"\x50\0");
    rig.end().await;
}

//! Port-forward over SPDY, bare and in the tunnel.

use std::time::Duration;

use kubelet_streams::limits::STREAM_CREATION_TIMEOUT;
use kubelet_streams::spdy::{self, Connection, FlowControl};
use kubelet_streams::websocket::{self, Tunnel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::court::judge;
use super::peers::{Both, Server};
use super::player::Player;
use super::record::Seen;
use super::scene::{Scene, Step, send};
use crate::dial::{Client, Opens, head};
use crate::harness::process::free_port;

pub const SPDY: &str = "portforward.k8s.io";
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// What ports can be forwarded to.
pub struct Ports {
    pub echo: u16,
    /// Says `bye` and ends.
    pub bye: u16,
    /// Hears all, and says how much it was.
    pub count: u16,
    pub nobody: u16,
    _tasks: JoinSet<()>,
}

impl Ports {
    pub async fn listen() -> Self {
        let mut tasks = JoinSet::new();
        let mut ports = [0; 3];
        for (place, port) in ports.iter_mut().enumerate() {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            *port = listener.local_addr().unwrap().port();
            tasks.spawn(async move {
                while let Ok((mut socket, _)) = listener.accept().await {
                    tokio::spawn(async move {
                        let (mut from, mut to) = socket.split();
                        let _ = match place {
                            0 => tokio::io::copy(&mut from, &mut to).await.map(drop),
                            1 => to.write_all(b"bye").await,
                            _ => {
                                let mut all = Vec::new();
                                let heard = from.read_to_end(&mut all).await.unwrap_or(0);
                                to.write_all(heard.to_string().as_bytes()).await
                            }
                        };
                    });
                }
            });
        }
        let [echo, bye, count] = ports;
        Self {
            echo,
            bye,
            count,
            nobody: free_port(),
            _tasks: tasks,
        }
    }
}

fn headers(kind: &str, port: u16, id: &str) -> Vec<(&'static str, String)> {
    let mut headers = vec![("streamType", kind.into()), ("port", port.to_string())];
    if !id.is_empty() {
        headers.push(("requestID", id.into()));
    }
    headers
}

/// As kubectl opens a connection.
fn opened(port: u16, id: &str) -> [Step; 3] {
    [
        Step::Ask("error", headers("error", port, id)),
        Step::Finish("error"),
        Step::Ask("data", headers("data", port, id)),
    ]
}

const BOTH_END: [Step; 2] = [Step::End("data"), Step::End("error")];

fn scenes(ports: &Ports) -> Vec<Scene> {
    let of = |name, port, id, steps: Vec<Step>| {
        let steps = opened(port, id).into_iter().chain(steps).chain(BOTH_END);
        Scene::new(name, String::new(), steps.collect())
    };
    let hello = || {
        vec![
            send("data", "hello"),
            Step::Hear("data", "hello"),
            Step::Finish("data"),
        ]
    };
    let bad = |name, headers: &[(&'static str, &str)]| {
        let headers = headers.iter().map(|(n, v)| (*n, (*v).to_owned())).collect();
        let steps = opened(ports.echo, "2");
        let steps = [Step::Ask("bad", headers)].into_iter().chain(steps);
        let steps = steps.chain(hello()).chain(BOTH_END);
        Scene::new(name, String::new(), steps.collect())
            .sees(&[("bad: opened", "refused"), ("data: said", "hello")])
    };
    vec![
        of("there and back", ports.echo, "1", hello())
            .sees(&[("data: said", "hello"), ("error: said", "")]),
        of("without an id", ports.echo, "", hello()).sees(&[("data: said", "hello")]),
        of(
            "the pod's end first",
            ports.bye,
            "1",
            vec![Step::Hear("data", "bye"), Step::Finish("data")],
        )
        .sees(&[("data: said", "bye"), ("error: said", "")]),
        of(
            "the client's end first",
            ports.count,
            "1",
            vec![send("data", "hello"), Step::Finish("data")],
        )
        .sees(&[("data: said", "5"), ("error: said", "")]),
        of("a port nobody listens on", ports.nobody, "1", vec![]),
        bad("no port", &[("streamType", "data"), ("requestID", "1")]),
        bad(
            "port 0",
            &[("streamType", "data"), ("port", "0"), ("requestID", "1")],
        ),
        bad(
            "a port too high",
            &[
                ("streamType", "data"),
                ("port", "65536"),
                ("requestID", "1"),
            ],
        ),
        bad("no type", &[("port", "80"), ("requestID", "1")]),
        bad(
            "another type",
            &[("streamType", "colour"), ("port", "80"), ("requestID", "1")],
        ),
        Scene::new(
            "a second error stream",
            String::new(),
            [
                Step::Ask("error", headers("error", ports.echo, "1")),
                Step::Ask("second", headers("error", ports.echo, "1")),
                Step::Ask("data", headers("data", ports.echo, "1")),
            ]
            .into_iter()
            .chain(hello())
            .chain(BOTH_END)
            .collect(),
        )
        .sees(&[("data: said", "hello")]),
        Scene {
            patience: STREAM_CREATION_TIMEOUT + Duration::from_secs(5),
            ..Scene::new(
                "an error stream alone",
                String::new(),
                vec![
                    Step::Ask("error", headers("error", ports.echo, "1")),
                    Step::End("error"),
                ],
            )
        },
    ]
}

async fn play(server: &Server, protocol: &str, scene: &Scene) -> Seen {
    let path = "/portForward/default/web";
    let line = server.line().await;
    if protocol == SPDY {
        let text = head("POST", path, &crate::dial::spdy(protocol));
        let connection = Connection::new(spdy::Role::Client, FlowControl::Ignored);
        finish(Client::over(line, &text, Box::new(connection)).await, scene).await
    } else {
        let text = head("GET", path, &crate::dial::websocket(protocol));
        let tunnel = Tunnel::new(websocket::Role::Client, FlowControl::Ignored);
        finish(Client::over(line, &text, Box::new(tunnel)).await, scene).await
    }
}

async fn finish<P: Opens>(client: Client<P>, scene: &Scene) -> Seen {
    let mut player = Player::new(client, scene);
    player.play(&scene.steps).await;
    player.seen()
}

#[tokio::test(flavor = "multi_thread")]
async fn port_forward_is_as_a_kubelets() {
    let Some(both) = Both::start().await else {
        return;
    };
    let ports = Ports::listen().await;
    let each =
        [SPDY, TUNNEL].map(|protocol| scenes(&ports).into_iter().map(move |s| (protocol, s)));
    let scenes: Vec<_> = each.into_iter().flatten().collect();
    let played = both.play_all("forward", &scenes, play).await;
    judge("forward", &played);
    both.end().await;
}

//! Port-forward over WebSocket channels, the form with `?port=`.

use super::court::judge;
use super::forward::Ports;
use super::peers::{Both, Server};
use super::record::Seen;
use super::scene::{Scene, Step, send};
use super::websocket::Session;

const PROTOCOLS: [&str; 3] = ["v4.channel.k8s.io", "v4.base64.channel.k8s.io", ""];
const NAMES: [&str; 4] = ["data", "error", "second data", "second error"];

async fn play(server: &Server, protocol: &str, scene: &Scene) -> Seen {
    let path = format!("/portForward/default/web?{}", scene.query);
    let mut session = Session::begin(server, &path, protocol, &NAMES).await;
    session.play(scene).await;
    session.through(scene).await
}

fn scenes(ports: &Ports) -> Vec<Scene> {
    let Ports {
        echo, bye, nobody, ..
    } = ports;
    vec![
        Scene::new(
            "two ports",
            format!("port={echo}&port={bye}"),
            vec![
                send("data", "hello"),
                Step::Hear("data", "hello"),
                Step::Hear("second data", "bye"),
                Step::Bye,
            ],
        ),
        Scene::new(
            "two ports by a comma",
            format!("port={echo},{bye}"),
            vec![Step::Hear("second data", "bye"), Step::Bye],
        ),
        Scene::new("a port nobody listens on", format!("port={nobody}"), vec![]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_legacy_form_of_port_forward_is_as_a_kubelets() {
    let Some(both) = Both::start().await else {
        return;
    };
    let ports = Ports::listen().await;
    let each = PROTOCOLS.map(|protocol| scenes(&ports).into_iter().map(move |s| (protocol, s)));
    let scenes: Vec<_> = each.into_iter().flatten().collect();
    let played = both.play_all("channels", &scenes, play).await;
    judge("channels", &played);
    both.end().await;
}

//! `exec` over SPDY.

use std::time::Duration;

use kubelet_streams::limits::STREAM_CREATION_TIMEOUT;
use kubelet_streams::remote::Kind;
use kubelet_streams::spdy::{Connection, FlowControl, Role};

use super::court::judge;
use super::peers::{Both, Server};
use super::player::Player;
use super::record::Seen;
use super::scene::{Scene, Step, all_execs, send};
use crate::dial::{Client, head, spdy};

/// The newest first.
const VERSIONS: [&str; 4] = [
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
];

/// In kubectl's order: those that the query asks for, unless the scene has its own.
fn opened(scene: &Scene, resizes: bool) -> Vec<Step> {
    if scene.steps.iter().any(|step| matches!(step, Step::Open(_))) {
        return Vec::new();
    }
    let tty = scene.asks("tty=1");
    let asked = [
        (Kind::Error, true),
        (Kind::Stdin, scene.asks("input=1")),
        (Kind::Stdout, scene.asks("output=1")),
        (Kind::Stderr, scene.asks("error=1") && !tty),
        (Kind::Resize, tty && resizes),
    ];
    let asked = asked.into_iter().filter(|(_, asked)| *asked);
    asked.map(|(kind, _)| Step::Open(kind.name())).collect()
}

async fn play(server: &Server, version: &str, scene: &Scene) -> Seen {
    let path = format!("/exec/default/web/app?{}", scene.query);
    let connection = Connection::new(Role::Client, FlowControl::Ignored);
    let text = head("POST", &path, &spdy(version));
    let client = Client::over(server.line().await, &text, Box::new(connection)).await;
    let mut player = Player::new(client, scene);
    let resizes = VERSIONS[..2].contains(&version);
    player.play(&opened(scene, resizes)).await;
    player.play(&scene.steps).await;
    player.through().await
}

/// What is particular to SPDY: streams are opened.
fn particular() -> Vec<Scene> {
    let script = |text: &'static str| ["sh", "-c", text];
    vec![
        Scene::exec(
            "ends of what carries nothing",
            "input=1&output=1",
            &["head", "-c", "5"],
            vec![
                Step::Open("error"),
                Step::Open("stdin"),
                Step::Open("stdout"),
                Step::Finish("error"),
                Step::Finish("stdout"),
                send("stdin", "hello"),
            ],
        )
        .sees(&[("stdout: said", "hello")]),
        Scene::exec(
            "another order",
            "input=1&output=1",
            &["head", "-c", "5"],
            vec![
                Step::Open("stdout"),
                Step::Open("stdin"),
                Step::Open("error"),
                send("stdin", "hello"),
            ],
        )
        .sees(&[("stdout: said", "hello")]),
        Scene::exec(
            "a type nobody knows",
            "output=1",
            &script("printf out"),
            vec![
                Step::Open("colour"),
                Step::Open("error"),
                Step::Open("stdout"),
            ],
        )
        .sees(&[("stdout: said", "out"), ("colour: opened", "refused")]),
        Scene::exec(
            "a second stream of a type",
            "output=1&error=1",
            &script("printf out; printf err >&2"),
            vec![
                Step::Open("error"),
                Step::Open("stdout"),
                Step::Ask("second stdout", vec![(Kind::HEADER, "stdout".into())]),
                Step::Open("stderr"),
            ],
        )
        .sees(&[
            ("stdout: said", "out"),
            ("second stdout: opened", "refused"),
        ]),
        Scene::exec(
            "a stream that was not asked for",
            "output=1",
            &script("printf out"),
            vec![
                Step::Open("stderr"),
                Step::Open("error"),
                Step::Open("stdout"),
            ],
        )
        .sees(&[("stdout: said", "out"), ("stderr: opened", "refused")]),
    ]
}

/// Longer than either waits for a stream.
const LONG: Duration = STREAM_CREATION_TIMEOUT.saturating_add(Duration::from_secs(5));

fn missing() -> Scene {
    let steps = vec![Step::Open("error"), Step::Open("stdout")];
    let scene = Scene::exec(
        "a stream that is missing",
        "output=1&error=1",
        &["true"],
        steps,
    );
    Scene {
        patience: LONG,
        ..scene
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_over_spdy_is_as_a_kubelets() {
    let Some(both) = Both::start().await else {
        return;
    };
    let mut scenes = Vec::new();
    for version in VERSIONS {
        let resizes = VERSIONS[..2].contains(&version);
        let all = all_execs(true, resizes).into_iter().chain(particular());
        scenes.extend(all.map(|scene| (version, scene)));
    }
    scenes.push((VERSIONS[0], missing()));
    let played = both.play_all("SPDY", &scenes, play).await;
    judge("SPDY", &played);
    both.end().await;
}

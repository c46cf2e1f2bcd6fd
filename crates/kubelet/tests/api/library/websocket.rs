//! Sessions over WebSocket channels, and `exec` over them.

use bytes::Bytes;
use k8s_openapi::ByteString;
use kubelet_streams::remote::Kind;
use kubelet_streams::spdy::frame::StreamId;
use serde_json::json;
use tokio::time::timeout;

use super::court::judge;
use super::frames::{BINARY, CLOSE, CONTINUATION, Frame, Frames, PING, PONG, TEXT};
use super::peers::{Both, Server};
use super::record::{Record, Seen};
use super::scene::{Scene, Step, all_execs, send};
use crate::dial::{head, websocket};

const V5: &str = "v5.channel.k8s.io";
/// And one that names none.
const PROTOCOLS: [&str; 6] = [
    V5,
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
    "",
];

fn is_base64(protocol: &str) -> bool {
    protocol.contains("base64")
}

/// A session whose channels have these names.
pub struct Session<'a> {
    frames: Frames,
    names: &'a [&'a str],
    base64: bool,
    record: Record,
}

impl<'a> Session<'a> {
    pub async fn begin(server: &Server, path: &str, protocol: &str, names: &'a [&'a str]) -> Self {
        let text = head("GET", path, &websocket(protocol));
        let mut record = Record::default();
        for (number, name) in (0..).zip(names) {
            record.stream(StreamId(number), name);
        }
        Self {
            frames: Frames::upgrade(server.line().await, &text).await,
            names,
            base64: is_base64(protocol),
            record,
        }
    }

    pub async fn play(&mut self, scene: &Scene) {
        for step in &scene.steps {
            match step {
                Step::Send(name, data) => {
                    let channel = self.channel(name);
                    if self.base64 {
                        let text = json!(ByteString(data.clone()));
                        let text = format!("{channel}{}", text.as_str().unwrap());
                        self.frames.send(TEXT, &[text.as_bytes()]).await;
                    } else {
                        let message = [&[channel], &data[..]].concat();
                        self.frames.send(BINARY, &[&message]).await;
                    }
                }
                Step::Finish(name) => {
                    let channel = self.channel(name);
                    self.frames.send(BINARY, &[&[255, channel]]).await;
                }
                Step::Frames(kind, parts) => {
                    let parts: Vec<_> = parts.iter().map(Vec::as_slice).collect();
                    self.frames.send(*kind, &parts).await;
                }
                Step::Bye => self.frames.send(CLOSE, &[&1000_u16.to_be_bytes()]).await,
                Step::Hear(name, text) => {
                    self.until(scene, |record| record.said(name).ends_with(text.as_bytes()))
                        .await;
                }
                Step::Open(_) | Step::Ask(..) | Step::End(_) => panic!("not over WebSocket"),
            }
        }
    }

    fn channel(&self, name: &str) -> u8 {
        let place = self.names.iter().position(|n| *n == name);
        u8::try_from(place.unwrap()).unwrap()
    }

    async fn until(&mut self, scene: &Scene, enough: impl Fn(&Record) -> bool) {
        while !self.record.over() && !enough(&self.record) {
            match timeout(scene.patience, self.frames.next()).await {
                Err(_) => self.record.end("stays as it is"),
                Ok(None) => self.record.end("hangs up"),
                Ok(Some(frame)) => self.note(frame),
            }
        }
    }

    fn note(&mut self, frame: Frame) {
        let Frame {
            last,
            kind,
            mut payload,
        } = frame;
        if !last || kind == CONTINUATION {
            self.record.line("a message in pieces", "yes");
        }
        match kind {
            CLOSE => {
                let code = payload.escape_ascii().to_string();
                return self.record.line("goodbye", code);
            }
            PONG => return self.record.line("pong", payload.escape_ascii().to_string()),
            TEXT | BINARY if !payload.is_empty() => {}
            _ => {
                return self
                    .record
                    .line("a message of another kind", kind.to_string());
            }
        }
        let text = kind == TEXT;
        if text != self.base64 {
            self.record.line("text", text.to_string());
        }
        let mut channel = payload.split_to(1)[0];
        if self.base64 {
            channel -= b'0';
            payload = decoded(&payload);
        }
        let id = StreamId(channel.into());
        self.record.first(id, payload.is_empty());
        self.record.data(id, &payload);
    }

    /// Until the server hangs up or nothing happens any more.
    pub async fn through(mut self, scene: &Scene) -> Seen {
        self.until(scene, |_| false).await;
        self.record.seen()
    }
}

fn decoded(text: &[u8]) -> Bytes {
    let text = json!(String::from_utf8(text.to_vec()).unwrap());
    let decoded: ByteString = serde_json::from_value(text).unwrap();
    decoded.0.into()
}

async fn play(server: &Server, protocol: &str, scene: &Scene) -> Seen {
    let path = format!("/exec/default/web/app?{}", scene.query);
    let names = Kind::ALL.map(Kind::name);
    let mut session = Session::begin(server, &path, protocol, &names).await;
    session.play(scene).await;
    session.through(scene).await
}

/// What is particular to messages.
fn particular(protocol: &str) -> Vec<Scene> {
    let input = |name, steps| {
        Scene::exec(name, "input=1&output=1", &["head", "-c", "5"], steps)
            .sees(&[("stdout: said", "hello")])
    };
    let stdin = if is_base64(protocol) {
        "0aGVsbG8="
    } else {
        "\0hello"
    };
    let zero = stdin.as_bytes()[..1].to_vec();
    let message = |text: &str| text.as_bytes().to_vec();
    let mut scenes = vec![
        input(
            "a ping",
            vec![
                Step::Frames(PING, vec![message("there?")]),
                send("stdin", "hello"),
            ],
        ),
        input(
            "messages of nothing",
            vec![
                Step::Frames(BINARY, vec![vec![]]),
                Step::Frames(BINARY, vec![zero.clone()]),
                send("stdin", "hello"),
            ],
        ),
        input(
            "messages on channels that the client does not write",
            vec![
                send("stdout", "x"),
                send("error", "x"),
                send("stdin", "hello"),
            ],
        ),
        input(
            "a message on a channel that there is not",
            vec![
                Step::Frames(BINARY, vec![message("9x")]),
                send("stdin", "hello"),
            ],
        ),
        input(
            "a text message",
            vec![Step::Frames(TEXT, vec![message(stdin)])],
        ),
        input(
            "a binary message",
            vec![Step::Frames(BINARY, vec![message(stdin)])],
        ),
        input(
            "a message in two frames",
            vec![
                Step::Frames(BINARY, vec![message(&stdin[..4]), message(&stdin[4..])]),
                send("stdin", "hello"),
            ],
        ),
        Scene::exec(
            "a goodbye",
            "input=1&output=1",
            &["cat"],
            vec![
                send("stdin", "all\n"),
                Step::Hear("stdout", "all\n"),
                Step::Bye,
            ],
        )
        .sees(&[("stdout: said", "all\\n"), ("goodbye", "\\x03\\xe8")]),
    ];
    if is_base64(protocol) {
        scenes.push(Scene::exec(
            "no base64",
            "input=1&output=1",
            &["head", "-c", "5"],
            vec![
                Step::Frames(TEXT, vec![message("0hello")]),
                send("stdin", "world"),
            ],
        ));
    }
    if protocol == V5 {
        let close = |name, bytes: &[u8]| {
            let steps = vec![Step::Frames(BINARY, vec![bytes.to_vec()])];
            Scene::exec(name, "input=1&output=1", &["cat"], steps)
        };
        scenes.push(close("a CLOSE of no channel", &[255]));
        scenes.push(close("a CLOSE of two channels", &[255, 0, 1]));
        scenes.push(close("a CLOSE of a channel that there is not", &[255, 9]));
    }
    scenes
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_over_websocket_is_as_a_kubelets() {
    let Some(both) = Both::start().await else {
        return;
    };
    let mut scenes = Vec::new();
    for protocol in PROTOCOLS {
        let all = all_execs(protocol == V5, true)
            .into_iter()
            .chain(particular(protocol));
        scenes.extend(all.map(|scene| (protocol, scene)));
    }
    let played = both.play_all("WebSocket", &scenes, play).await;
    judge("WebSocket", &played);
    both.end().await;
}

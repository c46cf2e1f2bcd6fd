//! Which protocol is agreed on, and what is answered when none is.

use super::court::judge;
use super::peers::{Both, Server};
use super::record::Seen;
use super::scene::Scene;
use crate::dial::{begin, head, spdy, websocket};

const EXEC: &str = "/exec/default/web/app?command=true&output=1";
const FORWARD: &str = "/portForward/default/web";
const NO_STREAM: &str = "/exec/default/web/app?command=true";

struct Request {
    name: &'static str,
    method: &'static str,
    path: &'static str,
    lines: String,
    /// Our answer's status, and the protocol agreed on.
    sees: &'static [(&'static str, &'static str)],
}

fn requests() -> Vec<Request> {
    let row = |name, method, path, lines, sees| Request {
        name,
        method,
        path,
        lines,
        sees,
    };
    let spdies = |versions: &[&str]| {
        let lines = versions
            .iter()
            .map(|v| format!("X-Stream-Protocol-Version: {v}\r\n"));
        format!(
            "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n{}",
            lines.collect::<String>()
        )
    };
    let without = |line: &str| {
        let all = websocket("v4.channel.k8s.io");
        let kept = all.lines().filter(|l| !l.starts_with(line));
        kept.map(|line| format!("{line}\r\n")).collect::<String>()
    };
    vec![
        row(
            "all versions, each in a line",
            "POST",
            EXEC,
            spdies(&[
                "v5.channel.k8s.io",
                "v4.channel.k8s.io",
                "v3.channel.k8s.io",
            ]),
            &[("status", "101"), ("version", "v4.channel.k8s.io")],
        ),
        row(
            "the client's order",
            "POST",
            EXEC,
            spdies(&["v2.channel.k8s.io, v4.channel.k8s.io"]),
            &[("status", "101"), ("version", "v2.channel.k8s.io")],
        ),
        row(
            "GET",
            "GET",
            EXEC,
            spdy("v4.channel.k8s.io"),
            &[("status", "101")],
        ),
        row(
            "an unknown version",
            "POST",
            EXEC,
            spdy("v9.channel.k8s.io"),
            &[("status", "403")],
        ),
        row(
            "no version",
            "POST",
            EXEC,
            spdies(&[]),
            &[("status", "400")],
        ),
        row(
            "an empty version",
            "POST",
            EXEC,
            spdies(&[" , "]),
            &[("status", "400")],
        ),
        row(
            "no upgrade",
            "POST",
            EXEC,
            String::new(),
            &[("status", "400")],
        ),
        row(
            "another upgrade",
            "POST",
            EXEC,
            "Connection: Upgrade\r\nUpgrade: h2c\r\n".into(),
            &[("status", "400")],
        ),
        row(
            "no stream",
            "POST",
            NO_STREAM,
            spdy("v4.channel.k8s.io"),
            &[("status", "400")],
        ),
        row(
            "exec by the protocol of port-forward",
            "POST",
            EXEC,
            spdy("portforward.k8s.io"),
            &[("status", "403")],
        ),
        row(
            "port-forward",
            "POST",
            FORWARD,
            spdy("portforward.k8s.io"),
            &[("status", "101"), ("version", "portforward.k8s.io")],
        ),
        row(
            "port-forward by a protocol of exec",
            "POST",
            FORWARD,
            spdy("v4.channel.k8s.io"),
            &[("status", "403")],
        ),
        row(
            "the newest behind an older one",
            "GET",
            EXEC,
            websocket("v4.channel.k8s.io, v5.channel.k8s.io"),
            &[("status", "101"), ("protocol", "v5.channel.k8s.io")],
        ),
        row(
            "an unknown one before a known one",
            "GET",
            EXEC,
            websocket("v3.channel.k8s.io, base64.channel.k8s.io"),
            &[("status", "101"), ("protocol", "base64.channel.k8s.io")],
        ),
        row(
            "no protocol",
            "GET",
            EXEC,
            websocket(""),
            &[("status", "101")],
        ),
        row(
            "an unknown protocol",
            "GET",
            EXEC,
            websocket("v3.channel.k8s.io"),
            &[("status", "403")],
        ),
        row(
            "no key",
            "GET",
            EXEC,
            without("Sec-WebSocket-Key"),
            &[("status", "400")],
        ),
        row(
            "no version of WebSocket",
            "GET",
            EXEC,
            without("Sec-WebSocket-Version"),
            &[("status", "400")],
        ),
        row(
            "WebSocket by POST",
            "POST",
            EXEC,
            websocket("v4.channel.k8s.io"),
            &[("status", "405")],
        ),
        row(
            "the tunnel behind channels",
            "GET",
            FORWARD,
            websocket("v4.channel.k8s.io, SPDY/3.1+portforward.k8s.io"),
            &[
                ("status", "101"),
                ("protocol", "SPDY/3.1+portforward.k8s.io"),
            ],
        ),
        row(
            "channels without a port",
            "GET",
            FORWARD,
            websocket("v4.channel.k8s.io"),
            &[("status", "400")],
        ),
        row(
            "channels to port 0",
            "GET",
            "/portForward/default/web?port=0",
            websocket("v4.channel.k8s.io"),
            &[("status", "400")],
        ),
        row(
            "a tunnel to nothing",
            "GET",
            FORWARD,
            websocket("SPDY/3.1+other.k8s.io"),
            &[("status", "403")],
        ),
    ]
}

async fn play(server: &Server, request: &Request) -> Seen {
    let mut line = server.line().await;
    let text = head(request.method, request.path, &request.lines);
    let (head, _) = begin(&mut line, &text).await;
    let values = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(':'));
        let lines = lines.filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let mut values: Vec<_> = lines.map(|(_, value)| value.trim()).collect();
        values.sort_unstable();
        (!values.is_empty()).then(|| values.join(", "))
    };
    let mut seen = Seen::new();
    seen.insert("status".into(), head.split(' ').nth(1).unwrap().into());
    for (what, name) in [
        ("upgrade", "Upgrade"),
        ("version", "X-Stream-Protocol-Version"),
        ("versions", "X-Accepted-Stream-Protocol-Versions"),
        ("protocol", "Sec-WebSocket-Protocol"),
        ("key", "Sec-WebSocket-Accept"),
        ("websocket version", "Sec-WebSocket-Version"),
    ] {
        seen.extend(values(name).map(|value| (what.into(), value)));
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_as_a_kubelets() {
    let Some(both) = Both::start().await else {
        return;
    };
    let requests = requests();
    let scenes: Vec<_> = requests
        .iter()
        .map(|request| {
            let scene = Scene::new(request.name, String::new(), vec![]);
            ("", scene.sees(request.sees))
        })
        .collect();
    let of = async |server: &Server, _: &str, scene: &Scene| {
        let request = requests.iter().find(|request| request.name == scene.name);
        play(server, request.unwrap()).await
    };
    let played = both.play_all("answers", &scenes, of).await;
    judge("answers", &played);
    both.end().await;
}

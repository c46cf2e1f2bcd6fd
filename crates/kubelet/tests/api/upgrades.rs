//! What becomes no session, and how many there may be.

use http_body_util::{BodyExt, Empty};

use crate::dial::{Session, V5, plain, refused, spdy, websocket};
use crate::rig::{Rig, TOKEN};
use crate::suite::world::eventually;
use crate::wire::{Answer, say};

const EXEC: &str = "/exec/default/web/app?command=wait&output=1";

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_served_is_refused_before_the_upgrade() {
    let rig = Rig::new().await;
    let uid = rig.runs("web").await;
    let ended = rig.runs("ended").await;
    rig.remote.exit(&ended, 0);
    let query = "command=wait&output=1";
    let v5 = websocket("v5.channel.k8s.io");
    let over = async || {
        let list = rig.get("/runningpods/").await.text();
        (!list.contains(&ended)).then_some(())
    };
    eventually("it is known to have ended", over).await;
    let not_found = "container not found (\"app\")";
    let table = [
        (
            "GET",
            format!("/exec/default/other/app?{query}"),
            &v5,
            404,
            "pod does not exist",
        ),
        (
            "GET",
            format!("/exec/default/web/other?{query}"),
            &v5,
            500,
            "container not found (\"other\")",
        ),
        (
            "GET",
            format!("/exec/default/web/no-uid/app?{query}"),
            &v5,
            500,
            not_found,
        ),
        (
            "GET",
            format!("/exec/default/ended/app?{query}"),
            &v5,
            500,
            not_found,
        ),
        (
            "POST",
            "/run/default/ended/app?cmd=wait".into(),
            &String::new(),
            500,
            not_found,
        ),
        (
            "GET",
            format!("/attach/default/ended/app?{query}"),
            &v5,
            500,
            "container app not found in pod ended_default",
        ),
        (
            "POST",
            "/portForward/default/ended".into(),
            &spdy("portforward.k8s.io"),
            500,
            "pod not found (\"ended_default\")",
        ),
        (
            "POST",
            "/portForward/default/web/no-uid".into(),
            &spdy("portforward.k8s.io"),
            404,
            "pod not found",
        ),
        (
            "GET",
            "/portForward/default/web".into(),
            &websocket("v4.channel.k8s.io"),
            400,
            "query parameter port is required\n",
        ),
        (
            "GET",
            format!("/exec/default/web/{uid}/app?command=wait&tty=1"),
            &v5,
            400,
            "at least one of the query parameters input, output and error must be 1\n",
        ),
        (
            "GET",
            "/exec/default/web/app?output=1".into(),
            &v5,
            400,
            "query parameter command is required\n",
        ),
        (
            "GET",
            "/exec/default/web/app?output=1&command=%FF".into(),
            &v5,
            400,
            "a command is not UTF-8\n",
        ),
        (
            "POST",
            EXEC.into(),
            &v5,
            405,
            "a WebSocket begins with GET\n",
        ),
        (
            "POST",
            EXEC.into(),
            &String::new(),
            400,
            "unable to upgrade: no Upgrade to SPDY/3.1 or websocket in the request's headers",
        ),
        (
            "POST",
            EXEC.into(),
            &spdy("v9.channel.k8s.io"),
            403,
            "unable to upgrade: the client offers [\"v9.channel.k8s.io\"]",
        ),
    ];
    for (method, path, lines, status, words) in table {
        let answer = refused(&rig, method, &path, lines).await;
        let told = answer.text();
        assert_eq!(answer.status, status, "{method} {path}: {told}");
        assert!(told.starts_with(words), "{method} {path}: {told}");
    }
    let nobody = format!("GET {EXEC} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = Answer::parse(&say(&mut rig.line().await, nobody.as_bytes()).await);
    assert_eq!(answer.status, 401);
    assert_eq!(rig.remote.alive(), 0, "nothing ever began");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_not_upgraded() {
    let rig = Rig::new().await;
    rig.runs("web").await;
    rig.reviews.forbid(&["proxy"]);
    let answer = refused(&rig, "GET", EXEC, &websocket("v5.channel.k8s.io")).await;
    assert_eq!(answer.status, 403);
    assert!(answer.text().starts_with("Forbidden (user=jane, verb=get"));
    assert_eq!(rig.remote.alive(), 0);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_is_told_to_come_back_with_http1() {
    let rig = Rig::new().await;
    rig.runs("web").await;
    let client = rig.http2();
    let request = http::Request::post(format!("https://{}{EXEC}", rig.address))
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("x-stream-protocol-version", "v4.channel.k8s.io")
        .body(Empty::new())
        .unwrap();
    let answer = client.request(request).await.unwrap();
    assert_eq!(
        (answer.version(), answer.status().as_u16()),
        (http::Version::HTTP_2, 400)
    );
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(
        String::from_utf8_lossy(&body).contains("ask by HTTP/1.1"),
        "{body:?}"
    );
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_counted_and_leave_room_for_requests() {
    let rig = Rig::with(|api| api.connections = 4).await;
    rig.runs("web").await;
    let inflight = async |number: usize| {
        let line =
            format!("virtual_kubelet_http_inflight_requests{{endpoint=\"exec\"}} {number}\n");
        rig.get("/metrics")
            .await
            .text()
            .contains(&line)
            .then_some(())
    };
    let mut sessions = Vec::new();
    for _ in 0..2 {
        let mut session = Session::begin(&rig, V5, EXEC).await;
        session.read(8).await;
        sessions.push(session);
    }
    eventually("two are counted", async || inflight(2).await).await;
    let third = refused(&rig, "GET", EXEC, &websocket("v5.channel.k8s.io")).await;
    assert_eq!(third.status, 429, "{}", third.text());
    // Of however many connections, a session is never the quietest.
    let mut quiet = Vec::new();
    for _ in 0..10 {
        assert_eq!(plain(&rig, "GET", "/healthz").await.status, 200);
        quiet.push(rig.line().await);
    }
    drop(quiet);
    assert_eq!(rig.remote.alive(), 2);
    sessions.pop();
    let again = async || {
        let answers = crate::dial::status(&rig, "GET", EXEC, &websocket("v5.channel.k8s.io")).await;
        (answers == 101).then_some(())
    };
    eventually("another one finds a place", again).await;
    drop(sessions);
    eventually("none is left", async || inflight(0).await).await;
    assert_eq!(rig.remote.alive(), 0);
    rig.end().await;
}

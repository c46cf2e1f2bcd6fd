//! `kubectl exec` and `attach` over WebSocket to a node that takes SPDY: the
//! streams of one, on the streams of the other (apiserver
//! `util/proxy/streamtranslator.go`, client-go `tools/remotecommand`).

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request};
use http_body_util::{BodyExt, Limited};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use kubelet_streams::io::{Reader, Session, Sizes, Stream, Writer, connect};
use kubelet_streams::negotiate::{self, Remote, Version};
use kubelet_streams::remote::{Kind, Options, Outcome};
use kubelet_streams::spdy::headers::Headers;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};

use super::client::Client;
use super::dial::Dialer;
use super::location::Place;
use super::{shown, upgrade};
use crate::kubernetes::object;
use crate::kubernetes::status::ApiError;

/// What a client offers that can end its input alone.
pub(super) const PROTOCOL: &str = "v5.channel.k8s.io";

const VERSION: &str = "X-Stream-Protocol-Version";

/// What the node is offered, the best first. There is no v5 over SPDY that
/// differs from v4, but the real server offers it.
const OFFERED: [(&str, Version); 5] = [
    (PROTOCOL, Version::V4),
    ("v4.channel.k8s.io", Version::V4),
    ("v3.channel.k8s.io", Version::V3),
    ("v2.channel.k8s.io", Version::V2),
    ("channel.k8s.io", Version::V1),
];

/// The longest text that a node says about a failure, in bytes.
const FAILURE: u64 = 64 * 1024;

/// The client's upgrade comes first: what the node says afterwards is told on
/// the error stream.
pub(super) fn serve(
    dialer: Dialer,
    place: Place,
    options: Options,
    mut request: Request<Body>,
) -> Result<Response, ApiError> {
    let accepted = match negotiate::remote(request.headers()) {
        Ok(accepted) => accepted,
        Err(refusal) => return Ok(refusal.response().map(Body::from)),
    };
    let client = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        // An error is the client going away before its session began.
        if let Ok(client) = client.await {
            session(&dialer, &place, options, (client, accepted.protocol)).await;
        }
    });
    Ok(accepted.response.map(|()| Body::empty()))
}

async fn session(
    dialer: &Dialer,
    place: &Place,
    options: Options,
    (client, protocol): (Upgraded, Remote),
) {
    // A terminal has no error output of its own.
    let stderr = options.stderr && !options.tty;
    let options = Options { stderr, ..options };
    let (handle, driver) = connect(options.connection(protocol), TokioIo::new(client));
    tokio::spawn(driver);
    let Ok(session) = Session::accept(handle, protocol, options).await else {
        return;
    };
    let gone = session.ending.gone();
    let Session {
        stdin,
        stdout,
        stderr,
        sizes,
        ending,
    } = session;
    let client = Ends {
        stdin,
        stdout,
        stderr,
        sizes,
    };
    let outcome = tokio::select! {
        () = gone.cancelled() => return,
        outcome = run(dialer, place, options, client) => outcome,
    };
    let outcome =
        outcome.unwrap_or_else(|why| Outcome::Failed(format!("Internal error occurred: {why}")));
    // An error is the client going away before it was told.
    let _ = ending.finish(&outcome).await;
}

/// The client's streams.
struct Ends {
    stdin: Option<Reader>,
    stdout: Option<Writer>,
    stderr: Option<Writer>,
    sizes: Option<Sizes>,
}

async fn run(
    dialer: &Dialer,
    place: &Place,
    options: Options,
    client: Ends,
) -> Result<Outcome, String> {
    let (node, version) = begin(dialer, place).await?;
    let wanted = |kind: &Kind| options.expects(*kind, Remote::Spdy(version));
    // The error stream is the first, as everywhere in Kubernetes.
    let order = [
        Kind::Error,
        Kind::Stdin,
        Kind::Stdout,
        Kind::Stderr,
        Kind::Resize,
    ];
    let kinds: Vec<Kind> = order.into_iter().filter(wanted).collect();
    let headers = kinds
        .iter()
        .map(|kind| Headers::from_iter([(Kind::HEADER, kind.name())]));
    let connection = Client::new(headers).map_err(|error| error.to_string())?;
    let streams = connection.streams();
    let node = node.await.map_err(|error| error.to_string())?;
    let (handle, driver) = connect(Box::new(connection), TokioIo::new(node));
    tokio::spawn(driver);
    // Both halves of each are held to the end: a stream that is let go of is reset.
    let take = |kind: Kind| {
        let place = kinds.iter().position(|k| *k == kind)?;
        handle.channel(*streams.get(place)?).map(Stream::split)
    };
    let [mut error, mut stdin, mut stdout, mut stderr, mut resize] = order.map(take);
    let input = async {
        let stdin = feed(client.stdin, writer(&mut stdin));
        let sizes = resize_to(client.sizes, writer(&mut resize));
        tokio::join!(stdin, sizes);
        // The end of the input is not the end.
        std::future::pending::<()>().await;
    };
    let output = async {
        let stdout = drain(reader(&mut stdout), client.stdout);
        let stderr = drain(reader(&mut stderr), client.stderr);
        let told = all_of(reader(&mut error));
        tokio::join!(stdout, stderr, told).2
    };
    let told = tokio::select! {
        () = input => return Err("the input ended the session".into()),
        told = output => told,
    };
    let told = told.map_err(|why| format!("error reading from error stream: {why}"))?;
    outcome(&told, version)
}

type Halves = Option<(Reader, Writer)>;

fn reader(halves: &mut Halves) -> Option<&mut Reader> {
    halves.as_mut().map(|(reader, _)| reader)
}

fn writer(halves: &mut Halves) -> Option<&mut Writer> {
    halves.as_mut().map(|(_, writer)| writer)
}

/// Asks the node for the upgrade: its connection, and what is spoken.
async fn begin(dialer: &Dialer, place: &Place) -> Result<(OnUpgrade, Version), String> {
    let mut request = Request::new(Body::empty());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = place.target.parse().map_err(|e| format!("{e}"))?;
    let headers = request.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    for (name, _) in OFFERED {
        headers.append(VERSION, HeaderValue::from_static(name));
    }
    let answer = dialer.send(place, request).await;
    let answer =
        answer.map_err(|why| format!("error sending request: Post \"{}\": {why}", shown(place)))?;
    if answer.status() != http::StatusCode::SWITCHING_PROTOCOLS
        || !upgrade::is_to(answer.headers(), "SPDY/3.1")
    {
        let body = Limited::new(answer.into_body(), FAILURE as usize);
        let text = body.collect().await.map(|body| body.to_bytes());
        let why = refusal(&text.unwrap_or_default());
        return Err(format!("unable to upgrade connection: {why}"));
    }
    let version = spoken(answer.headers())?;
    Ok((hyper::upgrade::on(answer), version))
}

/// What the node chose; nothing is the oldest.
fn spoken(headers: &HeaderMap) -> Result<Version, String> {
    let Some(chosen) = upgrade::values(headers, VERSION).next() else {
        return Ok(Version::V1);
    };
    let known = OFFERED.iter().find(|(name, _)| *name == chosen);
    let known = known.map(|(_, version)| *version);
    known.ok_or_else(|| format!("the node speaks {chosen:?}, which was not offered"))
}

/// What a node says that does not upgrade: a Status's message, or the text.
fn refusal(body: &Bytes) -> String {
    let status: Value = serde_json::from_slice(body).unwrap_or_default();
    let said = ["/message", "/error"].map(|at| object::text(&status, at).trim());
    if let Some(said) = said.into_iter().find(|said| !said.is_empty()) {
        return said.to_owned();
    }
    match String::from_utf8_lossy(body).trim() {
        "" => "empty server response".to_owned(),
        text => text.to_owned(),
    }
}

/// The client's input, to its end.
async fn feed(from: Option<Reader>, to: Option<&mut Writer>) {
    if let (Some(mut from), Some(to)) = (from, to) {
        // An error is one of them being gone, of which the session hears anyway.
        let _ = copy(&mut from, to).await;
        let _ = to.shutdown().await;
    }
}

/// Sizes of the terminal, as they change.
async fn resize_to(from: Option<Sizes>, to: Option<&mut Writer>) {
    let (Some(mut from), Some(to)) = (from, to) else {
        return;
    };
    while let Ok(Some(size)) = from.next().await {
        let line = format!("{}\n", json!({"Width": size.width, "Height": size.height}));
        if to.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The node's output, to its end, even where the client takes no more of it.
async fn drain(from: Option<&mut Reader>, to: Option<Writer>) {
    let Some(from) = from else {
        return;
    };
    if let Some(mut to) = to {
        let _ = copy(from, &mut to).await;
    }
    let _ = copy(from, &mut tokio::io::sink()).await;
}

/// What the node has to say of the end.
async fn all_of(error: Option<&mut Reader>) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let error = error.ok_or(std::io::ErrorKind::NotConnected)?;
    error.take(FAILURE).read_to_end(&mut text).await?;
    Ok(text)
}

/// What became of the command. A stream that was ended without a word is success;
/// one that broke off was an error before it came to this.
fn outcome(told: &[u8], version: Version) -> Result<Outcome, String> {
    if told.is_empty() {
        return Ok(Outcome::Exited(0));
    }
    let text = String::from_utf8_lossy(told);
    if version < Version::V4 {
        return Err(format!("error executing remote command: {text}"));
    }
    let status: Value = serde_json::from_slice(told)
        .map_err(|error| format!("error stream protocol error: {error} in {text:?}"))?;
    match (&status["status"], &status["reason"]) {
        (Value::String(s), _) if s == "Success" => Ok(Outcome::Exited(0)),
        (Value::String(s), Value::String(reason))
            if s == "Failure" && reason == "NonZeroExitCode" =>
        {
            let causes = object::items(&status, "/details/causes");
            let code = causes.iter().find(|cause| cause["reason"] == "ExitCode");
            let code = code.ok_or("error stream protocol error: no ExitCode cause given")?;
            let code = object::text(code, "/message");
            let number = code.parse::<u8>().map_err(|_| {
                format!("error stream protocol error: invalid exit code value {code:?}")
            })?;
            Ok(Outcome::Exited(number.into()))
        }
        (Value::String(s), _) if s == "Failure" => {
            Err(object::text(&status, "/message").to_owned())
        }
        _ => Err("error stream protocol error: unknown error".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_last_word_is_the_outcome() {
        for (told, version, wanted) in [
            (Outcome::Exited(0), Version::V4, Ok(Outcome::Exited(0))),
            (Outcome::Exited(42), Version::V4, Ok(Outcome::Exited(42))),
            (
                Outcome::Failed("no sh".into()),
                Version::V4,
                Err("no sh".into()),
            ),
            (Outcome::Exited(0), Version::V2, Ok(Outcome::Exited(0))),
            (
                Outcome::Failed("no sh".into()),
                Version::V2,
                Err("error executing remote command: no sh".into()),
            ),
        ] {
            assert_eq!(outcome(&told.encode(version), version), wanted);
        }
        for bad in [
            "x",
            "{}",
            r#"{"status":"Failure","reason":"NonZeroExitCode"}"#,
        ] {
            let error = outcome(bad.as_bytes(), Version::V4).unwrap_err();
            assert!(error.starts_with("error stream protocol error"), "{error}");
        }
    }

    #[test]
    fn a_refusal_is_a_statuss_message_or_the_text() {
        let said = |text: &'static str| refusal(&Bytes::from_static(text.as_bytes()));
        assert_eq!(said(" no exec here\n"), "no exec here");
        assert_eq!(said(r#"{"message":"no exec"}"#), "no exec");
        assert_eq!(said(""), "empty server response");
    }
}

//! Consoles of devices, as the user API offers them: a WebSocket to a command that
//! the agent runs.
//!
//! What the real service does wrong is done here too: a session is noted by writing
//! the whole device as it was read a moment before, so that writes that cross it are
//! undone, and sessions that are opened at once lose each other; one whose device
//! does not come stays noted for ever.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper_util::rt::TokioIo;
use kubelet_streams::io::{Handle, Reader, Writer, connect};
use kubelet_streams::spdy::frame::StreamId;
use kubelet_streams::websocket::{Channels, Direction, Encoding, Role};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tungstenite::handshake::derive_accept_key;

use super::list::Query;
use super::reply::Refusal;
use super::store::{Shared, Write};

/// How long the service waits for the device.
const WAIT: Duration = Duration::from_mins(1);

/// Between reading a device and writing it back, with another session in it.
const GAP: Duration = Duration::from_millis(10);

/// What agents speak.
const PROTOCOL: &str = "v5.channel.k8s.io";

/// Where the sessions of a device are noted.
const ANNOTATION: &str = "device-controller/console";

/// The sessions that wait for their devices.
#[derive(Debug)]
pub(crate) struct Consoles(Mutex<State>);

#[derive(Debug)]
struct State {
    gap: Duration,
    opened: u64,
    waiting: BTreeMap<String, oneshot::Sender<oneshot::Sender<ConsoleStreams>>>,
}

/// The device's end of a session.
#[derive(Debug)]
pub struct ConsoleStreams {
    pub(crate) stdin: Reader,
    pub(crate) stdout: Writer,
    pub(crate) stderr: Writer,
    pub(crate) status: Writer,
    pub(crate) sizes: Reader,
    /// The client went.
    pub(crate) gone: CancellationToken,
    /// Closes the session when it is dropped.
    pub(crate) end: DropGuard,
}

impl Default for Consoles {
    fn default() -> Self {
        Self(Mutex::new(State {
            gap: GAP,
            opened: 0,
            waiting: BTreeMap::new(),
        }))
    }
}

impl Consoles {
    /// Writes that cross the opening or the end of a session within this time are
    /// undone.
    pub(crate) fn set_gap(&self, gap: Duration) {
        self.lock().gap = gap;
    }

    /// The device comes for a session; `None` if nobody waits for it.
    pub(crate) async fn join(&self, session: &str) -> Option<ConsoleStreams> {
        let waiting = self.lock().waiting.remove(session)?;
        let (reply, streams) = oneshot::channel();
        waiting.send(reply).ok()?;
        streams.await.ok()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sessions noted in a device's annotations.
pub(crate) fn noted(annotations: &BTreeMap<String, String>) -> Vec<Value> {
    let text = annotations.get(ANNOTATION);
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

/// `GET /ws/v1/devices/{name}/console`, past its token.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    name: &str,
    query: &Query,
    request: Request,
) -> Result<Response, Refusal> {
    let headers = request.headers();
    let offered: Vec<String> = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .map(|protocol| protocol.trim().to_owned())
        .collect();
    let metadata: Option<Value> = query
        .get("metadata")
        .and_then(|text| serde_json::from_str(text).ok())
        .filter(Value::is_object);
    let Some(mut metadata) = metadata else {
        return Ok(text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "protocols injection error",
        ));
    };
    metadata["protocols"] = json!(offered);
    if let Err(refusal) = shared.read(|store| store.device(name).map(drop)) {
        return Ok(text(refusal.code, &refusal.message));
    }
    let session = {
        let mut state = shared.consoles.lock();
        state.opened += 1;
        format!("session-{}", state.opened)
    };
    note(shared, name, |sessions| {
        sessions.push(json!({"sessionID": session, "sessionMetadata": metadata.to_string()}));
    })
    .await?;
    let (wait, came) = oneshot::channel();
    shared.consoles.lock().waiting.insert(session.clone(), wait);
    shared.transact(|store, _| {
        if let Some(row) = store.devices.get_mut(name) {
            row.console_news = true;
        }
        store.wake(name);
    });
    let Ok(Ok(device)) = timeout(WAIT, came).await else {
        shared.consoles.lock().waiting.remove(&session);
        let late = format!("timed out waiting for protocol for device: {name}");
        return Ok(text(StatusCode::GATEWAY_TIMEOUT, &late));
    };
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    let (Some(key), true) = (key, offered.iter().any(|one| one == PROTOCOL)) else {
        let failed = format!("failed selecting protocol for device: {name}");
        return Ok(text(StatusCode::INTERNAL_SERVER_ERROR, &failed));
    };
    let accept = derive_accept_key(key.as_bytes());
    let (shared, name) = (Arc::clone(shared), name.to_owned());
    tokio::spawn(async move {
        if let Ok(connection) = hyper::upgrade::on(request).await {
            forward(TokioIo::new(connection), device).await;
        }
        // A device that is gone has no sessions either.
        let _ = note(&shared, &name, |sessions| {
            sessions.retain(|one| one["sessionID"] != session);
        })
        .await;
    });
    let mut answer = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers: &mut HeaderMap = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(
        header::SEC_WEBSOCKET_PROTOCOL,
        HeaderValue::from_static(PROTOCOL),
    );
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    Ok(answer)
}

fn text(code: StatusCode, text: &str) -> Response<Body> {
    (code, format!("{text}\n")).into_response()
}

/// Reads the device, and writes it back a moment later with other sessions.
async fn note(
    shared: &Arc<Shared>,
    name: &str,
    change: impl FnOnce(&mut Vec<Value>),
) -> Result<(), Refusal> {
    let read = shared.read(|store| store.device(name).cloned())?;
    let gap = shared.consoles.lock().gap;
    sleep(gap).await;
    let mut annotations = read.annotations;
    let mut sessions = noted(&annotations);
    change(&mut sessions);
    annotations.insert(ANNOTATION.into(), json!(sessions).to_string());
    shared.transact(|store, now| {
        store
            .write(name, now, Write::user(), |row| {
                row.spec = read.spec;
                row.annotations = annotations;
                Ok(())
            })
            .map(drop)
    })
}

/// Runs a session until either side has ended it.
async fn forward<T>(io: T, device: oneshot::Sender<ConsoleStreams>)
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let directions = [
        Direction::Read,
        Direction::Write,
        Direction::Write,
        Direction::Write,
        Direction::Read,
    ];
    let channels = Channels::new(Role::Server, Encoding::Binary, true, &directions);
    let (handle, driver) = connect(Box::new(channels), io);
    let driver = tokio::spawn(driver);
    let end = CancellationToken::new();
    if let Some(streams) = streams(&handle, end.clone().drop_guard()) {
        // A device that went meanwhile has dropped them.
        let _ = device.send(streams);
    }
    let gone = handle.gone();
    tokio::select! { () = end.cancelled() => {}, () = gone.cancelled() => {} }
    let _ = handle.close().await;
    driver.abort();
}

fn streams(handle: &Handle, end: DropGuard) -> Option<ConsoleStreams> {
    let channel = |number| handle.channel(StreamId(number));
    Some(ConsoleStreams {
        stdin: channel(0)?.split().0,
        stdout: channel(1)?.split().1,
        stderr: channel(2)?.split().1,
        status: channel(3)?.split().1,
        sizes: channel(4)?.split().0,
        gone: handle.gone(),
        end,
    })
}

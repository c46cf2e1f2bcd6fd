//! `/exec`, `/attach`, `/portForward` and `/run`: where the streaming protocols
//! meet the backend.
//!
//! ```text
//! request ──▶ target ──▶ negotiate ──▶ 101 ──▶ Session::run ──▶ process | forward ──▶ Backend
//! ```
//!
//! `target` (is it there, does it run) and the readers of queries decide; a
//! [`Session`] is what was decided. The connection runs it in its own task and place
//! once the answer is out (`connection`).
//!
//! # Guarantees
//! - A client that is gone ends what was started for it: the backend's future is
//!   dropped. One that vanished without a word is noticed by the probes of its
//!   connection, also where a process does not read and so nothing is read from it.
//! - A client takes silence for success, so that every session that ends without an
//!   outcome, at the process's end too, tells a failure first.
//! - Nothing of a command or of what passes through is ever logged.

mod forward;
mod process;
mod run;
mod target;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use kubelet_streams::io::Driver;
use kubelet_streams::limits::CLOSE_TIMEOUT;
use kubelet_streams::negotiate::{self, Accepted, Forward, Refusal, Remote};
use kubelet_streams::portforward;
use kubelet_streams::remote::Options;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};
use vk_provider::streams::{AttachRequest, ExecRequest};

use self::forward::Forwarding;
use self::process::{Call, Process};
pub(super) use self::run::run;
use self::target::Target;
use super::answer;
use super::limits::{ENDING, LAST_WORD};
use super::line::Line;
use super::node::NodeApi;
use super::query::{pairs, values};
use super::route::InPod;

/// What a client is told whose session is cut off.
const STOPPING: &str = "the node's virtual kubelet is stopping and has cut this off; \
                        what became of it is not known";

/// A connection that goes on as something else than HTTP.
pub(super) struct Session {
    upgrade: OnUpgrade,
    work: Work,
    _one_of: OwnedSemaphorePermit,
}

enum Work {
    Process(Process),
    Forward(Forwarding),
}

/// The answer that refuses a request; in a box, because it is large.
type Refused = Box<Response<Body>>;
/// The answer behind which a session begins, or the one that refuses it.
pub(super) type Upgrade = Result<(Response<Body>, Session), Refused>;

pub(super) fn exec(api: &NodeApi, place: InPod<'_>, request: &mut Request<Incoming>) -> Upgrade {
    let target = target::exec(api, place)?;
    let query = request.uri().query().unwrap_or_default();
    let options = options(query)?;
    let command = values(query, "command").map_err(|_| bad("a command is not UTF-8\n"))?;
    if command.is_empty() {
        return Err(bad("query parameter command is required\n"));
    }
    let call = Call::Exec(ExecRequest {
        pod: target.pod,
        container: place.container.into(),
        command,
        tty: options.tty,
    });
    process(api, request, options, call)
}

pub(super) fn attach(api: &NodeApi, place: InPod<'_>, request: &mut Request<Incoming>) -> Upgrade {
    let Target { pod, terminal } = target::attach(api, place)?;
    let options = options(request.uri().query().unwrap_or_default())?;
    let call = AttachRequest {
        pod,
        container: place.container.into(),
        // Whether it has one was decided when the container started.
        tty: options.tty && terminal.tty,
    };
    process(api, request, options, Call::Attach(call, terminal.stdin))
}

fn process(
    api: &NodeApi,
    request: &mut Request<Incoming>,
    options: Options,
    call: Call,
) -> Upgrade {
    let accepted = accept(request, negotiate::remote, |protocol| {
        matches!(protocol, Remote::WebSocket(..))
    })?;
    let backend = api.shared.backend.clone();
    upgrade(api, request, accepted, |protocol| {
        Work::Process(Process {
            backend,
            call,
            protocol,
            options,
        })
    })
}

pub(super) fn port_forward(
    api: &NodeApi,
    place: InPod<'_>,
    request: &mut Request<Incoming>,
) -> Upgrade {
    let pod = target::port_forward(api, place)?;
    let accepted = accept(request, negotiate::port_forward, |protocol| {
        matches!(protocol, Forward::Tunnel | Forward::WebSocket(_))
    })?;
    let query = request.uri().query().unwrap_or_default();
    let ports = match accepted.protocol {
        Forward::WebSocket(_) => {
            let named: Vec<_> = pairs(query)
                .into_iter()
                .filter(|(name, _)| name == "port")
                .collect();
            let ports = portforward::ports(named.iter().map(|(_, value)| value.as_str()));
            ports.map_err(|error| bad(format!("{error}\n")))?
        }
        Forward::Spdy | Forward::Tunnel => Vec::new(),
    };
    let backend = api.shared.backend.clone();
    upgrade(api, request, accepted, |protocol| {
        Work::Forward(Forwarding {
            backend,
            pod,
            protocol,
            ports,
        })
    })
}

fn options(query: &str) -> Result<Options, Refused> {
    let pairs = pairs(query);
    let pairs = pairs
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    Options::from_query(pairs).map_err(|error| bad(format!("{error}\n")))
}

fn accept<P: Copy>(
    request: &Request<Incoming>,
    negotiate: fn(&http::HeaderMap) -> Result<Accepted<P>, Refusal>,
    is_websocket: fn(P) -> bool,
) -> Result<Accepted<P>, Refused> {
    if request.version() != Version::HTTP_11 {
        return Err(bad(
            "exec, attach and port-forward upgrade their connection: ask by HTTP/1.1\n",
        ));
    }
    let accepted = negotiate(request.headers());
    let accepted = accepted.map_err(|refusal| Box::new(refusal.response().map(Body::from)))?;
    if is_websocket(accepted.protocol) && request.method() != Method::GET {
        let text = "a WebSocket begins with GET\n";
        return Err(refuse(StatusCode::METHOD_NOT_ALLOWED, text));
    }
    Ok(accepted)
}

fn upgrade<P>(
    api: &NodeApi,
    request: &mut Request<Incoming>,
    accepted: Accepted<P>,
    work: impl FnOnce(P) -> Work,
) -> Upgrade {
    let sessions = &api.shared.sessions;
    let Ok(one_of) = Arc::clone(sessions).try_acquire_owned() else {
        let text = "this node's virtual kubelet serves as many execs, attaches and port-forwards \
                    as it can: try again when some have ended\n";
        return Err(refuse(StatusCode::TOO_MANY_REQUESTS, text));
    };
    debug!(
        node = &*api.name,
        path = request.uri().path(),
        "a session begins"
    );
    let session = Session {
        upgrade: hyper::upgrade::on(request),
        work: work(accepted.protocol),
        _one_of: one_of,
    };
    Ok((accepted.response.map(|()| Body::empty()), session))
}

fn refuse(status: StatusCode, text: impl Into<String>) -> Refused {
    Box::new(answer::text(status, text))
}

fn bad(text: impl Into<String>) -> Refused {
    refuse(StatusCode::BAD_REQUEST, text)
}

impl Session {
    /// Serves it to its end; behind `stop` it has [`ENDING`] to come to it by itself.
    pub(super) async fn run(self, stop: &CancellationToken) {
        let line = match self.upgrade.await.map(Line::of) {
            Ok(Some(line)) => line,
            Ok(None) => return error!("a connection was upgraded that is none of the API's"),
            Err(error) => return debug!(%error, "a connection was not upgraded"),
        };
        let lost = line.lost();
        // What a connection into the pod was sent may still go out.
        let rest = match self.work {
            Work::Process(_) => Duration::ZERO,
            Work::Forward(_) => CLOSE_TIMEOUT,
        };
        let work = async {
            match self.work {
                Work::Process(process) => process.run(line, stop).await,
                Work::Forward(forwarding) => forwarding.run(line, stop).await,
            }
        };
        // Whoever waits for a process to read does not read, and would not notice.
        let lost = async {
            match lost {
                Ok(lost) => lost.await,
                Err(error) => {
                    debug!(%error, "a lost client will be noticed late");
                    pending().await
                }
            }
            sleep(rest).await;
        };
        tokio::select! {
            biased;
            () = work => {}
            () = lost => debug!("a session's client was lost"),
        }
    }
}

/// Works on a connection and moves its bytes, until both have come to their end.
async fn drive<T: AsyncRead + AsyncWrite + Unpin>(
    driver: Driver<T>,
    work: impl Future<Output = ()>,
    stop: &CancellationToken,
) {
    let driving = async {
        if let Err(error) = driver.await {
            debug!(%error, "a session's connection broke");
        }
    };
    let last = async {
        cut_off(stop).await;
        sleep(LAST_WORD).await;
    };
    tokio::select! {
        _ = async { tokio::join!(work, driving) } => {}
        () = last => debug!("a session's last words were not heard in time"),
    }
}

/// Ends when what is under way has had its time behind `stop`.
async fn cut_off(stop: &CancellationToken) {
    stop.cancelled().await;
    sleep(ENDING).await;
}

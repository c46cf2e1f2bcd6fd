//! Port-forward: connections of the client, each joined to one into the pod.

use std::io;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kubelet_streams::io::{Forwarded, Forwards, Handle, connect};
use kubelet_streams::limits::CLOSE_TIMEOUT;
use kubelet_streams::negotiate::Forward;
use kubelet_streams::portforward;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;
use vk_provider::streams::Connection;
use vk_provider::{Backend, PodKey};

use super::super::answer::lacks;
use super::super::limits::{FORWARD_CHUNK, FORWARD_CONNECT};
use super::{STOPPING, cut_off, drive};

/// A port-forward that a client asked for. As many connections at once as
/// `kubelet-streams` lets streams be, two for each.
pub(super) struct Forwarding {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) pod: PodKey,
    pub(super) protocol: Forward,
    /// Of the legacy form.
    pub(super) ports: Vec<u16>,
}

impl Forwarding {
    pub(super) async fn run<T>(self, upgraded: T, stop: &CancellationToken)
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let protocol = portforward::connection(self.protocol, &self.ports);
        let (handle, driver) = connect(protocol, upgraded);
        drive(driver, self.serve(handle, stop), stop).await;
    }

    /// Until none is left and none will come. When the client is gone, what it sent
    /// before may still go out.
    async fn serve(self, handle: Handle, stop: &CancellationToken) {
        let gone = handle.gone();
        let mut forwards = Forwards::new(handle, self.protocol, &self.ports);
        let all = self.all(&mut forwards, stop);
        let left = async {
            gone.cancelled().await;
            sleep(CLOSE_TIMEOUT).await;
        };
        tokio::select! {
            () = all => {}
            () = left => debug!("connections of a client that is gone were cut"),
        }
    }

    async fn all(&self, forwards: &mut Forwards, stop: &CancellationToken) {
        let mut cut = std::pin::pin!(cut_off(stop));
        let mut going = FuturesUnordered::new();
        let mut more = true;
        while more || !going.is_empty() {
            tokio::select! {
                next = forwards.next(), if more => match next {
                    Some(forwarded) => going.push(self.one(forwarded, stop)),
                    None => more = false,
                },
                Some(()) = going.next(), if !going.is_empty() => {}
                () = &mut cut, if more => more = false,
            }
        }
    }

    /// One connection, to its end. What went wrong with it is told in the kubelet's
    /// words; others live on.
    async fn one(&self, mut forwarded: Forwarded, stop: &CancellationToken) {
        let port = forwarded.port;
        let ended = tokio::select! {
            ended = self.joined(&mut forwarded) => ended,
            () = cut_off(stop) => Err(STOPPING.into()),
        };
        let Err(why) = ended else {
            return;
        };
        debug!(port, why, "a forwarded connection failed");
        let PodKey {
            namespace,
            name,
            uid,
        } = &self.pod;
        let words =
            format!("error forwarding port {port} to pod {name}_{namespace}, uid {uid}: {why}");
        if let Err(error) = forwarded.fail(&words).await {
            debug!(%error, "a client did not learn of a failed connection");
        }
    }

    async fn joined(&self, forwarded: &mut Forwarded) -> Result<(), String> {
        let backend = &*self.backend;
        let ports = backend.port_forward();
        let ports = ports.ok_or_else(|| lacks(backend, "port-forward"))?;
        let connected = timeout(FORWARD_CONNECT, ports.connect(&self.pod, forwarded.port)).await;
        let connection = connected
            .map_err(|_| format!("no connection within {} s", FORWARD_CONNECT.as_secs()))?
            .map_err(|error| error.to_string())?;
        match join(&mut forwarded.data, connection).await {
            // A client ends a connection by resetting it, kubectl always: nothing to
            // tell. It would end all others if it heard of an error.
            Ok(()) | Err(Broken::Client) => Ok(()),
            Err(Broken::Pod(error)) => Err(error.to_string()),
        }
    }
}

/// Which side of a connection broke.
#[derive(Debug)]
enum Broken {
    Client,
    Pod(io::Error),
}

/// Copies both ways until both sides have said all, or one broke.
async fn join(
    client: &mut (impl AsyncRead + AsyncWrite + Unpin),
    pod: Connection,
) -> Result<(), Broken> {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_pod, mut to_pod) = tokio::io::split(pod);
    let of_client = |_| Broken::Client;
    let up = async {
        match copy(&mut from_client, &mut to_pod, of_client, Broken::Pod).await {
            // It reads no more, and may still answer. A client that is not listened
            // to would hold up all others.
            Err(Broken::Pod(_)) => {
                let rest = tokio::io::copy(&mut from_client, &mut tokio::io::sink()).await;
                rest.map(drop).map_err(of_client)
            }
            ended => ended,
        }
    };
    let down = copy(&mut from_pod, &mut to_client, Broken::Pod, of_client);
    tokio::try_join!(up, down).map(drop)
}

/// All that comes, and its end.
async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    reading: impl Fn(io::Error) -> Broken,
    writing: impl Fn(io::Error) -> Broken,
) -> Result<(), Broken> {
    let mut chunk = vec![0; FORWARD_CHUNK];
    loop {
        let length = from.read(&mut chunk).await.map_err(&reading)?;
        if length == 0 {
            return to.shutdown().await.map_err(writing);
        }
        to.write_all(&chunk[..length]).await.map_err(&writing)?;
        to.flush().await.map_err(&writing)?;
    }
}

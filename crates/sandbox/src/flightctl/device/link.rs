//! Between an agent and its service.

use std::future::Future;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch;

use crate::flightctl::console::ConsoleStreams;
use crate::flightctl::devices;
use crate::flightctl::events::Actor;
use crate::flightctl::reply::Refusal;
use crate::flightctl::store::Shared;

/// Why the service did not answer as hoped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// It cannot be reached, or it is in trouble; try later.
    Away,
    /// It does not know this device (404).
    Gone,
}

/// What an agent asks of its service: the two calls of the agent API.
pub trait Link: Send + Sync + 'static {
    /// Waits for a document of another version than `known`; None after the
    /// long poll's time.
    fn rendered(
        &self,
        known: &str,
    ) -> impl Future<Output = Result<Option<Value>, LinkError>> + Send;

    /// Reports a whole Device document.
    fn put_status(&self, device: Value) -> impl Future<Output = Result<(), LinkError>> + Send;

    /// Completes when trying again may make sense.
    fn reachable(&self) -> impl Future<Output = ()> + Send;

    /// Comes for a session of the console; `None` if nobody waits for it, or the
    /// link has no consoles.
    fn console(&self, _session: &str) -> impl Future<Output = Option<ConsoleStreams>> + Send {
        async { None }
    }
}

/// A link with a plug that can be pulled.
#[derive(Debug)]
pub(crate) struct Plugged<L> {
    link: L,
    plugged: watch::Receiver<bool>,
}

impl<L> Plugged<L> {
    pub(crate) fn new(link: L, plugged: watch::Receiver<bool>) -> Self {
        Self { link, plugged }
    }

    /// Completes when the plug is in that state.
    async fn plugged(&self, wanted: bool) {
        let mut plugged = self.plugged.clone();
        if plugged.wait_for(|now| *now == wanted).await.is_err() {
            // The last handle is gone: the plug stays as it is.
            std::future::pending::<()>().await;
        }
    }
}

impl<L: Link> Link for Plugged<L> {
    async fn rendered(&self, known: &str) -> Result<Option<Value>, LinkError> {
        tokio::select! {
            biased;
            () = self.plugged(false) => Err(LinkError::Away),
            answer = self.link.rendered(known) => answer,
        }
    }

    async fn put_status(&self, device: Value) -> Result<(), LinkError> {
        if !*self.plugged.borrow() {
            return Err(LinkError::Away);
        }
        self.link.put_status(device).await
    }

    async fn reachable(&self) {
        self.plugged(true).await;
        self.link.reachable().await;
    }

    async fn console(&self, session: &str) -> Option<ConsoleStreams> {
        tokio::select! {
            biased;
            () = self.plugged(false) => None,
            streams = self.link.console(session) => streams,
        }
    }
}

/// A link within the process.
#[derive(Debug)]
pub(crate) struct InProcess {
    shared: Arc<Shared>,
    name: String,
}

impl InProcess {
    pub(crate) fn new(shared: Arc<Shared>, name: &str) -> Self {
        Self {
            shared,
            name: name.into(),
        }
    }
}

fn error(refusal: &Refusal) -> LinkError {
    if refusal.code == http::StatusCode::NOT_FOUND {
        LinkError::Gone
    } else {
        LinkError::Away
    }
}

impl Link for InProcess {
    async fn rendered(&self, known: &str) -> Result<Option<Value>, LinkError> {
        self.shared
            .rendered(&self.name, Some(known), true)
            .await
            .map_err(|refusal| error(&refusal))
    }

    async fn put_status(&self, device: Value) -> Result<(), LinkError> {
        self.shared
            .transact(|store, now| {
                devices::put_status(store, now, &self.name, &device, Actor::Agent)
            })
            .map(drop)
            .map_err(|refusal| error(&refusal))
    }

    async fn reachable(&self) {}

    async fn console(&self, session: &str) -> Option<ConsoleStreams> {
        self.shared.consoles.join(session).await
    }
}

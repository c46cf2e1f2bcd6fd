//! Port-forward: the connections that are to be forwarded, one after the other.

use std::collections::VecDeque;
use std::io;

use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep_until};

use super::{Handle, Incoming, Stream, Writer};
use crate::limits::STREAM_CREATION_TIMEOUT;
use crate::negotiate::Forward;
use crate::portforward::{Alone, Kind, Pair, Pairs, Request, pair_channels};
use crate::spdy::frame::ResetStatus;

/// A port-forward request that is being served. Dropping it ends the connection, and what
/// is forwarded over it.
#[derive(Debug)]
pub struct Forwards {
    handle: Handle,
    pairs: Pairs<Stream>,
    /// The legacy form has all of them from the start.
    ready: VecDeque<Forwarded>,
    legacy: bool,
}

/// One connection to be forwarded to a port of the pod. Dropping it ends it well: the
/// client is told that no more bytes come.
#[derive(Debug)]
pub struct Forwarded {
    /// The port inside of the pod.
    pub port: u16,
    /// Its bytes.
    pub data: Stream,
    error: Writer,
}

impl Forwards {
    /// Serves a connection; `ports` matter to the legacy form alone and are what the
    /// connection was made with.
    #[must_use]
    pub fn new(handle: Handle, protocol: Forward, ports: &[u16]) -> Self {
        let legacy = matches!(protocol, Forward::WebSocket(_));
        let forwarded = |(i, port): (usize, &u16)| {
            let [data, error] = pair_channels(i).map(|channel| handle.channel(channel));
            Some(Forwarded {
                port: *port,
                data: data?,
                error: error?.split().1,
            })
        };
        let ready = ports
            .iter()
            .enumerate()
            .filter(|_| legacy)
            .filter_map(forwarded)
            .collect();
        Self {
            handle,
            pairs: Pairs::default(),
            ready,
            legacy,
        }
    }

    /// The next connection; `None` once none will come any more, while those handed out
    /// may still be at work. Cancel-safe.
    pub async fn next(&mut self) -> Option<Forwarded> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Some(ready);
            }
            if self.legacy {
                return None;
            }
            let expiry = self.pairs.next_expiry().map(Instant::from_std);
            tokio::select! {
                incoming = self.handle.incoming() => {
                    let whole = self.add(incoming?);
                    self.ready.extend(whole);
                }
                () = sleep_until(expiry.unwrap_or_else(Instant::now)), if expiry.is_some() => {
                    for alone in self.pairs.expired(Instant::now().into_std()) {
                        give_up(alone);
                    }
                }
            }
        }
    }

    fn add(&mut self, incoming: Incoming) -> Option<Forwarded> {
        // Refused by being dropped.
        let request = Request::from_headers(incoming.id(), incoming.headers()).ok()?;
        match self
            .pairs
            .add(request, incoming.accept(), Instant::now().into_std())
        {
            Ok(Some(Pair { port, data, error })) => Some(Forwarded {
                port,
                data,
                error: error.split().1,
            }),
            Ok(None) => None,
            Err(second) => {
                second.reset(ResetStatus::PROTOCOL_ERROR);
                None
            }
        }
    }
}

fn give_up(Alone { kind, id, stream }: Alone<Stream>) {
    match kind {
        Kind::Error => {
            let seconds = STREAM_CREATION_TIMEOUT.as_secs();
            let message = format!("request {id}: no data stream came within {seconds} s");
            stream.split().1.send_now(message.as_bytes());
        }
        Kind::Data => stream.reset(ResetStatus::CANCEL),
    }
}

impl Forwarded {
    /// Ends it with an error: the client shows the text.
    ///
    /// # Errors
    /// When the client is gone and does not learn of it.
    pub async fn fail(mut self, message: &str) -> io::Result<()> {
        self.error.write_all(message.as_bytes()).await?;
        drop(self.error);
        self.data.reset(ResetStatus::CANCEL);
        Ok(())
    }
}

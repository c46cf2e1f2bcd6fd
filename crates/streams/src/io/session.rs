//! `exec` and `attach`: the streams of one session, and its end.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Handle, Reader, Stream, Writer};
use crate::limits::STREAM_CREATION_TIMEOUT;
use crate::negotiate::{Remote, Version};
use crate::remote::{Kind, Options, Outcome, Resizes, TerminalSize};
use crate::spdy::frame::StreamId;

/// The streams that the client asked for.
#[derive(Debug)]
pub struct Session {
    /// Input for the process.
    pub stdin: Option<Reader>,
    /// Its output.
    pub stdout: Option<Writer>,
    /// Its error output.
    pub stderr: Option<Writer>,
    /// Sizes of its terminal.
    pub sizes: Option<Sizes>,
    /// By which the session ends.
    pub ending: Ending,
}

/// The client did not create the streams it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    /// Not within [`STREAM_CREATION_TIMEOUT`].
    #[error("the client did not create its streams within {} s", STREAM_CREATION_TIMEOUT.as_secs())]
    TimedOut,
    /// It went away instead.
    #[error("the client went away before it created its streams")]
    Gone,
}

impl Session {
    /// Waits for the streams that `options` ask for; WebSocket has them from the start.
    /// Streams beyond that are refused. Not cancel-safe: dropping it ends the connection
    /// and tells the client that it failed.
    ///
    /// # Errors
    /// When the streams do not come; the connection is closed.
    pub async fn accept(
        handle: Handle,
        protocol: Remote,
        options: Options,
    ) -> Result<Self, AcceptError> {
        let version = protocol.version();
        let expected = Kind::ALL.map(|kind| options.expects(kind, protocol));
        match protocol {
            Remote::WebSocket(..) => {
                let stream = |kind: Kind| handle.channel(StreamId(kind as u32));
                let streams = Kind::ALL.map(stream);
                Ok(Self::new(handle, version, streams))
            }
            Remote::Spdy(_) => {
                let mut coming = Coming {
                    handle: Some(handle),
                    version,
                    streams: Kind::ALL.map(|_| None),
                };
                let all = coming.collect(expected);
                let in_time = timeout(STREAM_CREATION_TIMEOUT, all).await;
                let result = in_time.unwrap_or(Err(AcceptError::TimedOut));
                let Some(session) = coming.session() else {
                    return Err(AcceptError::Gone);
                };
                if let Some(open) = &session.ending.open {
                    open.handle.refuse_incoming();
                }
                if let Err(error) = result {
                    session.ending.fail(&error.to_string());
                    return Err(error);
                }
                Ok(session)
            }
        }
    }

    fn new(handle: Handle, version: Version, streams: [Option<Stream>; 5]) -> Self {
        let [
            (stdin, a),
            (b, stdout),
            (c, stderr),
            (d, error),
            (resize, e),
        ] = streams.map(|stream| match stream {
            Some(stream) => {
                let (reader, writer) = stream.split();
                (Some(reader), Some(writer))
            }
            None => (None, None),
        });
        let rest = Rest {
            _readers: [b, c, d],
            _writers: [a, e],
        };
        Self {
            stdin,
            stdout,
            stderr,
            sizes: resize.map(|reader| Sizes {
                reader,
                resizes: Resizes::default(),
            }),
            ending: Ending {
                open: Some(Open {
                    error,
                    rest,
                    handle,
                    version,
                }),
            },
        }
    }
}

/// A session whose streams are awaited. Dropped, it is one that ends without an outcome.
struct Coming {
    handle: Option<Handle>,
    version: Version,
    streams: [Option<Stream>; 5],
}

impl Coming {
    /// Fills in the expected streams, by kind, until all are there.
    async fn collect(&mut self, expected: [bool; 5]) -> Result<(), AcceptError> {
        while Kind::ALL
            .iter()
            .any(|kind| expected[*kind as usize] && self.streams[*kind as usize].is_none())
        {
            let handle = self.handle.as_mut().ok_or(AcceptError::Gone)?;
            let incoming = handle.incoming().await.ok_or(AcceptError::Gone)?;
            let kind = incoming
                .headers()
                .get(Kind::HEADER)
                .and_then(Kind::from_name);
            // Anything else, or a second one, is refused by being dropped.
            if let Some(kind) = kind.filter(|kind| expected[*kind as usize]) {
                let place = &mut self.streams[kind as usize];
                if place.is_none() {
                    *place = Some(incoming.accept());
                }
            }
        }
        Ok(())
    }

    /// With the streams that came; once.
    fn session(&mut self) -> Option<Session> {
        let streams = std::mem::replace(&mut self.streams, Kind::ALL.map(|_| None));
        Some(Session::new(self.handle.take()?, self.version, streams))
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        drop(self.session());
    }
}

/// Sizes of the terminal, as they change.
#[derive(Debug)]
pub struct Sizes {
    reader: Reader,
    resizes: Resizes,
}

impl Sizes {
    /// The newest size; `None` once none will come any more. Cancel-safe.
    ///
    /// # Errors
    /// When the stream holds something else than sizes, or breaks.
    pub async fn next(&mut self) -> io::Result<Option<TerminalSize>> {
        let mut buffer = [0; 256];
        loop {
            let len = self.reader.read(&mut buffer).await?;
            if len == 0 {
                return Ok(None);
            }
            let newest = self.resizes.push(&buffer[..len]);
            if let Some(size) =
                newest.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
            {
                return Ok(Some(size));
            }
        }
    }
}

/// The end of a session. A client takes silence for success: when this is dropped without
/// an outcome, the client is told that it failed.
#[derive(Debug)]
pub struct Ending {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    error: Option<Writer>,
    /// Before the handle: streams end, then the connection does.
    rest: Rest,
    handle: Handle,
    version: Version,
}

/// Halves that carry nothing. Dropped only at the end: kubectl stops reading its stdin
/// when our half of that stream ends.
#[derive(Debug)]
struct Rest {
    _readers: [Option<Reader>; 3],
    _writers: [Option<Writer>; 2],
}

impl Ending {
    /// Cancelled when the client is gone: the process has nobody left to work for.
    #[must_use]
    pub fn gone(&self) -> CancellationToken {
        self.open
            .as_ref()
            .map_or_else(CancellationToken::new, |open| open.handle.gone())
    }

    /// Tells the client how it ended, closes the connection and waits until everything,
    /// output that was written before included, has been sent.
    ///
    /// # Errors
    /// When the client is gone and does not learn of it.
    pub async fn finish(mut self, outcome: &Outcome) -> io::Result<()> {
        if let Some(Open {
            error: Some(error),
            version,
            ..
        }) = &mut self.open
        {
            // Cancelled or failed before it is through, there was no outcome: see `drop`.
            error.write_all(&outcome.encode(*version)).await?;
        }
        let Some(Open {
            error,
            rest,
            handle,
            ..
        }) = self.open.take()
        else {
            return Ok(());
        };
        drop((error, rest));
        handle.close().await
    }
}

impl Ending {
    /// Tells the client without waiting.
    fn fail(&self, message: &str) {
        let Some(Open {
            error,
            version,
            handle,
            ..
        }) = &self.open
        else {
            return;
        };
        if let Some(error) = error {
            error.send_now(&Outcome::Failed(message.into()).encode(*version));
        }
        handle.close_now();
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.fail("the session ended without an outcome");
    }
}

//! `exec` and `attach`: a process and the client's side of it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use kubelet_streams::io::{self, Handle, Session, Sizes};
use kubelet_streams::negotiate::Remote;
use kubelet_streams::remote::{Options, Outcome};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};
use vk_provider::streams::{AttachRequest, ExecRequest, Exit, Input, Output, ProcessIo, TermSize};
use vk_provider::{Backend, BackendError};

use super::super::answer::lacks;
use super::{STOPPING, cut_off, drive};

/// A process that a client asked for.
pub(super) struct Process {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) call: Call,
    pub(super) protocol: Remote,
    pub(super) options: Options,
}

/// What the backend is asked.
pub(super) enum Call {
    Exec(ExecRequest),
    /// And whether the container has an input.
    Attach(AttachRequest, bool),
}

impl Process {
    pub(super) async fn run<T>(self, upgraded: T, stop: &CancellationToken)
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let (handle, driver) = io::connect(self.options.connection(self.protocol), upgraded);
        drive(driver, self.serve(handle, stop), stop).await;
    }

    async fn serve(self, handle: Handle, stop: &CancellationToken) {
        let accepted = tokio::select! {
            accepted = Session::accept(handle, self.protocol, self.options) => accepted,
            () = cut_off(stop) => return,
        };
        let session = match accepted {
            Ok(session) => session,
            Err(error) => return debug!(%error, "a session did not begin"),
        };
        let Session {
            stdin,
            stdout,
            stderr,
            sizes,
            ending,
        } = session;
        let io = ProcessIo {
            stdin: stdin.map(|reader| Box::new(reader) as Input),
            stdout: stdout.map(|writer| Box::new(writer) as Output),
            stderr: stderr.map(|writer| Box::new(writer) as Output),
            sizes: sizes.map(told),
        };
        let gone = ending.gone();
        let outcome = tokio::select! {
            biased;
            ended = AssertUnwindSafe(self.call(io)).catch_unwind() => ended.unwrap_or_else(|_| {
                error!("the backend panicked in a session");
                Outcome::Failed("the backend panicked".into())
            }),
            () = gone.cancelled() => {
                return debug!("a session's client went away before its process ended");
            }
            () = cut_off(stop) => Outcome::Failed(STOPPING.into()),
        };
        match &outcome {
            Outcome::Exited(code) => debug!(code, "a session's process ended"),
            Outcome::Failed(why) => debug!(why, "a session failed"),
        }
        if let Err(error) = ending.finish(&outcome).await {
            debug!(%error, "a session's client did not learn how it ended");
        }
    }

    async fn call(&self, mut io: ProcessIo) -> Outcome {
        let backend = &*self.backend;
        match &self.call {
            Call::Exec(request) => match backend.exec() {
                Some(exec) => outcome(exec.exec(request, io).await, &request.container),
                None => Outcome::Failed(lacks(backend, "exec")),
            },
            Call::Attach(request, has_stdin) => match backend.attach() {
                Some(attach) => {
                    io.stdin = io.stdin.filter(|_| *has_stdin);
                    let ended = attach.attach(request, io).await;
                    outcome(ended.map(joined), &request.container)
                }
                None => Outcome::Failed(lacks(backend, "attach")),
            },
        }
    }
}

/// To have seen a container to its end is success, however it ended: its status has
/// the code, and `kubectl run` takes a failure for an attach that was not possible
/// and shows the log once more.
fn joined(end: Exit) -> Exit {
    match end {
        Exit::Code(_) => Exit::Code(0),
        Exit::Unknown => Exit::Unknown,
    }
}

/// Clients take codes of a byte alone.
fn outcome(ended: Result<Exit, BackendError>, container: &str) -> Outcome {
    match ended {
        Ok(Exit::Code(code @ 0..=255)) => Outcome::Exited(code),
        Ok(Exit::Code(code)) => Outcome::Failed(format!("the process ended with code {code}")),
        Ok(Exit::Unknown) => {
            Outcome::Failed("the process ended, and the remote cannot tell how".into())
        }
        Err(error) => Outcome::Failed(failure(&error, container)),
    }
}

/// A backend's own words; it has none for a container that does not run.
pub(super) fn failure(error: &BackendError, container: &str) -> String {
    match error {
        BackendError::NotFound => format!("container {container:?} does not run"),
        error => error.to_string(),
    }
}

/// The sizes of a terminal until the client tells no more. One of nothing is none, as
/// for the kubelet. Fused, because a backend may well look for the first one apart
/// from the rest.
fn told(sizes: Sizes) -> BoxStream<'static, TermSize> {
    stream::unfold(sizes, |mut sizes| async move {
        loop {
            match sizes.next().await {
                Ok(Some(size)) if size.width == 0 || size.height == 0 => {}
                Ok(Some(size)) => {
                    let size = TermSize {
                        width: size.width,
                        height: size.height,
                    };
                    return Some((size, sizes));
                }
                Ok(None) => return None,
                Err(error) => {
                    debug!(%error, "no more sizes of a terminal");
                    return None;
                }
            }
        }
    })
    .fuse()
    .boxed()
}

#[cfg(test)]
mod tests {
    use kubelet_streams::negotiate::Version;
    use kubelet_streams::websocket::Encoding;
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn sizes_that_have_ended_may_be_asked_for_again() {
        let options = Options {
            stdin: false,
            stdout: true,
            stderr: false,
            tty: true,
        };
        let protocol = Remote::WebSocket(Version::V5, Encoding::Binary);
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let (handle, driver) = io::connect(options.connection(protocol), ours);
        tokio::spawn(driver);
        let session = Session::accept(handle, protocol, options).await.unwrap();
        // A message on the resize channel that is no size.
        theirs.write_all(b"\x82\x82\0\0\0\0\x04x").await.unwrap();
        let mut sizes = told(session.sizes.unwrap());
        assert_eq!(sizes.next().await, None);
        assert_eq!(sizes.next().await, None);
    }

    #[test]
    fn only_a_code_that_clients_understand_is_told_as_one() {
        let failed = |text: &str| Outcome::Failed(text.into());
        let table = [
            (Ok(Exit::Code(0)), Outcome::Exited(0)),
            (Ok(Exit::Code(255)), Outcome::Exited(255)),
            (
                Ok(Exit::Code(256)),
                failed("the process ended with code 256"),
            ),
            (Ok(Exit::Code(-1)), failed("the process ended with code -1")),
            (
                Ok(Exit::Unknown),
                failed("the process ended, and the remote cannot tell how"),
            ),
            (
                Err(BackendError::NotFound),
                failed("container \"app\" does not run"),
            ),
            (
                Err(BackendError::Unsupported {
                    field: "tty".into(),
                    message: "there are no terminals there".into(),
                }),
                failed("tty is not supported: there are no terminals there"),
            ),
        ];
        for (ended, wanted) in table {
            assert_eq!(outcome(ended.clone(), "app"), wanted, "{ended:?}");
        }
    }
}

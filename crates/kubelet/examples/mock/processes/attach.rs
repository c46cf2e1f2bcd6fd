//! Joining a container's main process: its log from now on, and its input.

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vk_provider::streams::{AttachRequest, Exit, Input as Reader, Output as Writer, ProcessIo};
use vk_provider::{Attach, BackendError, LogSource};

use super::Processes;
use super::exec::follow_sizes;
use super::log::Follower;
use super::run::Run;

/// Passed on at once.
const CHUNK: usize = 32 << 10;

#[async_trait]
impl Attach for Processes {
    async fn attach(&self, request: &AttachRequest, io: ProcessIo) -> Result<Exit, BackendError> {
        let run = self.alive(&request.pod, &request.container)?;
        if request.tty && run.terminal().is_none() {
            return Err(BackendError::Unsupported {
                field: "tty".into(),
                message: "the container was started without a terminal".into(),
            });
        }
        let ProcessIo {
            stdin,
            stdout,
            stderr,
            sizes,
        } = io;
        let log = run.log().follow();
        let input = async {
            if let Some(stdin) = stdin {
                let _once = Once(&run);
                say(&run, stdin).await;
            }
            std::future::pending().await
        };
        let sizes = async {
            follow_sizes(sizes, run.terminal().cloned()).await;
            std::future::pending().await
        };
        tokio::select! {
            told = tell(log, stdout, stderr) => told?,
            () = input => {}
            () = sizes => {}
        }
        let end = run.ended().await;
        Ok(end.exit_code.map_or(Exit::Unknown, Exit::Code))
    }
}

/// Passes the log on until it is complete.
async fn tell(
    mut log: Follower,
    mut stdout: Option<Writer>,
    mut stderr: Option<Writer>,
) -> Result<(), BackendError> {
    while let Some(chunk) = log.next().await? {
        let to = match chunk.source {
            LogSource::Stdout => &mut stdout,
            LogSource::Stderr => &mut stderr,
        };
        let Some(writer) = to else { continue };
        let told = async {
            writer.write_all(&chunk.bytes).await?;
            writer.flush().await
        };
        if told.await.is_err() {
            // The client takes no more of this one.
            *to = None;
        }
    }
    for writer in [stdout, stderr].iter_mut().flatten() {
        let _ = writer.shutdown().await;
    }
    Ok(())
}

/// What the client says, where the container listens.
async fn say(run: &Run, mut from: Reader) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let mut stdin = run.stdin().lock().await;
        let Some(writer) = stdin.as_mut() else { return };
        let said = async {
            writer.write_all(&buffer[..length]).await?;
            writer.flush().await
        };
        if said.await.is_err() {
            return;
        }
    }
}

/// Closes the input of a container with `stdinOnce` when its client goes.
struct Once<'a>(&'a Run);

impl Drop for Once<'_> {
    fn drop(&mut self) {
        if self.0.stdin_once()
            // Held by another client: that one closes it.
            && let Ok(mut stdin) = self.0.stdin().try_lock()
        {
            *stdin = None;
        }
    }
}

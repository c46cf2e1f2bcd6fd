//! `kubectl exec` through the console.

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, sink};
use vk_provider::streams::{ExecRequest, Exit, Input, Output, ProcessIo};
use vk_provider::{BackendError, Exec, TermSize};

use super::script;
use super::turn::Purpose;
use super::{Console, unavailable};

/// What a terminal takes for the end of input. Closing its channel would close the
/// terminal, with the output in it.
const END_OF_INPUT: &[u8] = b"\x04";

#[async_trait]
impl Exec for Console {
    async fn exec(&self, request: &ExecRequest, io: ProcessIo) -> Result<Exit, BackendError> {
        let container = self.container(&request.pod, None, &request.container)?;
        let device = container.device;
        let stdin = io.stdin.is_some();
        let script = script::exec(&container.name, &request.command, stdin, request.tty);
        let script = script.map_err(|why| BackendError::Rejected {
            reason: "BadCommand".into(),
            message: format!("the command cannot be run: {why}"),
        })?;
        let purpose = Purpose {
            what: format!(
                "kubectl exec of {}/{}",
                request.pod.namespace, request.pod.name
            ),
            follows: false,
        };
        let mut session = self.run(&device, purpose, &script, request.tty).await?;
        let forward = async {
            let input = input(io.stdin, &mut session.stdin, request.tty);
            let sizes = sizes(io.sizes.filter(|_| request.tty), &mut session.sizes);
            tokio::join!(input, sizes);
            std::future::pending::<()>().await;
        };
        let back = async {
            tokio::try_join!(
                output(&mut session.stdout, io.stdout),
                output(&mut session.stderr, io.stderr),
            )
        };
        tokio::select! {
            () = forward => {}
            end = back => { end.map_err(|error| unavailable(&device, error))?; }
        }
        session.exit().await
    }
}

async fn input(from: Option<Input>, to: &mut (impl AsyncWrite + Unpin), tty: bool) {
    // An error here is the command's end, or the client's: the output tells.
    let _ = match from {
        Some(mut from) if tty => match copy(&mut from, to).await {
            Ok(_) => to.write_all(END_OF_INPUT).await,
            Err(error) => Err(error),
        },
        Some(mut from) => {
            let _ = copy(&mut from, to).await;
            to.shutdown().await
        }
        None if tty => Ok(()),
        None => to.shutdown().await,
    };
}

async fn sizes(from: Option<BoxStream<'static, TermSize>>, to: &mut (impl AsyncWrite + Unpin)) {
    let Some(mut from) = from else { return };
    while let Some(TermSize { width, height }) = from.next().await {
        let size = json!({"Width": width, "Height": height}).to_string();
        if to.write_all(size.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// To the end of the stream; an error where the client does not take it any more.
async fn output(from: &mut (impl AsyncRead + Unpin), to: Option<Output>) -> std::io::Result<()> {
    let mut to = to.unwrap_or_else(|| Box::new(sink()));
    copy(from, &mut to).await?;
    to.shutdown().await
}

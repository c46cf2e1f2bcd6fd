//! `/run`: a command to its end, and what it wrote. The kubelet's of before there
//! was `exec`; the parameter is `cmd`, split at spaces.

use axum::body::Body;
use http::{Response, StatusCode};
use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use vk_provider::streams::{ExecRequest, Exit, ProcessIo};

use super::super::answer;
use super::super::limits::{RUN_OUTPUT, RUN_PIPE};
use super::super::node::NodeApi;
use super::super::query::values;
use super::super::route::InPod;
use super::{bad, process, target};

/// Both outputs, one behind the other, as the kubelet does it, or why the command
/// did not succeed. Dropped, as when the client is gone, it ends the command.
pub(in super::super) async fn run(api: &NodeApi, place: InPod<'_>, query: &str) -> Response<Body> {
    let target = match target::exec(api, place) {
        Ok(target) => target,
        Err(refusal) => return *refusal,
    };
    let Ok(commands) = values(query, "cmd") else {
        return *bad("query parameter cmd is not UTF-8\n");
    };
    let Some(command) = commands.first().filter(|command| !command.is_empty()) else {
        return *bad("query parameter cmd is required\n");
    };
    let request = ExecRequest {
        pod: target.pod,
        container: place.container.into(),
        command: command.split(' ').map(str::to_owned).collect(),
        tty: false,
    };
    let Some(exec) = api.shared.backend.exec() else {
        return answer::not_implemented(&*api.shared.backend, "exec");
    };
    let ((out, stdout), (err, stderr)) = (duplex(RUN_PIPE), duplex(RUN_PIPE));
    let io = ProcessIo {
        stdout: Some(Box::new(out)),
        stderr: Some(Box::new(err)),
        ..ProcessIo::default()
    };
    let (ended, stdout, stderr) = tokio::join!(exec.exec(&request, io), held(stdout), held(stderr));
    let (Some(stdout), Some(stderr)) = (stdout, stderr) else {
        let text = format!(
            "the command wrote more than {} MiB to one of its outputs: use exec\n",
            RUN_OUTPUT >> 20
        );
        return failed(text);
    };
    let wrote = String::from_utf8_lossy(&stderr);
    match ended {
        Ok(Exit::Code(0)) => {
            let body = [stdout, stderr].concat();
            answer::of(
                StatusCode::OK,
                "text/plain; charset=utf-8",
                Body::from(body),
            )
        }
        Ok(Exit::Code(code)) => failed(format!("command exited with {code}: {wrote}")),
        Ok(Exit::Unknown) => failed(format!(
            "the command ended, and the remote cannot tell how: {wrote}"
        )),
        Err(error) => failed(process::failure(&error, place.container)),
    }
}

fn failed(text: String) -> Response<Body> {
    answer::text(StatusCode::INTERNAL_SERVER_ERROR, text)
}

/// All that is written; `None` when it is too much, which goes on unread so that the
/// command comes to its end.
async fn held(mut output: DuplexStream) -> Option<Vec<u8>> {
    let mut held = Vec::new();
    let limit = RUN_OUTPUT as u64 + 1;
    // A pipe in memory does not fail.
    let _ = (&mut output).take(limit).read_to_end(&mut held).await;
    let _ = tokio::io::copy(&mut output, &mut tokio::io::sink()).await;
    (held.len() <= RUN_OUTPUT).then_some(held)
}

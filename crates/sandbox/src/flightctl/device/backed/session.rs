//! Sessions of the console, in the machine, as root and without a terminal.

use serde_json::Value;
use std::process::Stdio;
use tokio::io::{AsyncWriteExt, copy};
use tracing::warn;

use super::machine::Machine;
use crate::flightctl::console::ConsoleStreams;
use crate::flightctl::device::console::{command, status};

/// What a shell gives for what it cannot run.
const CANNOT_RUN: i32 = 126;

/// Runs a session to its end. What it started goes on when its client goes, without
/// input and without anyone who reads.
pub(super) async fn attend(machine: &Machine, session: &Value, streams: ConsoleStreams) {
    let ConsoleStreams {
        mut stdin,
        mut stdout,
        mut stderr,
        status: mut said,
        sizes: _sizes,
        gone,
        end,
    } = streams;
    let run = async {
        if session["tty"] == true {
            let why = b"a backed device has no terminals\n";
            stderr.write_all(why).await.ok()?;
            return Some(CANNOT_RUN);
        }
        let words = command(session);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let spawned = machine.command(&words).ok();
        let mut child = spawned?.stdin(Stdio::piped()).spawn().ok()?;
        let (mut input, mut out, mut err) = (
            child.stdin.take()?,
            child.stdout.take()?,
            child.stderr.take()?,
        );
        let feed = async {
            // Either end may close it.
            let _ = copy(&mut stdin, &mut input).await;
            drop(input);
            std::future::pending::<()>().await;
        };
        let ended = async {
            let _ = tokio::join!(copy(&mut out, &mut stdout), copy(&mut err, &mut stderr));
            child.wait().await
        };
        let ended = tokio::select! { biased; ended = ended => ended, () = feed => return None };
        ended.ok()?.code()
    };
    let code = tokio::select! {
        biased;
        () = gone.cancelled() => return,
        code = run => code,
    };
    let text = status(code.unwrap_or(CANNOT_RUN)).to_string();
    let _ = said.write_all(text.as_bytes()).await;
    drop(end);
}

/// The agent starts the command of a session that nobody came to, too.
pub(super) async fn unattended(machine: &Machine, session: &Value) {
    let words = command(session);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let Err(why) = machine.run(&words).await {
        warn!("a session without a client: {why}");
    }
}

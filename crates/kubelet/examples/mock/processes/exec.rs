//! Commands in containers: more processes with a container's folder, environment
//! and mark.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, copy_buf};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use vk_provider::streams::{ExecRequest, Exit, Input as Reader, Output as Writer, ProcessIo};
use vk_provider::{BackendError, Exec, TermSize};

use super::family::Guard;
use super::spawn::{Ends, Process, Program, Terminal, exit_code};
use super::{Processes, unavailable};

/// How long a client with a terminal may take to say its size before the command
/// starts without: kubectl says it at once.
const FIRST_SIZE: Duration = Duration::from_secs(1);
/// Passed on at once.
const CHUNK: usize = 32 << 10;
/// What was written to a terminal last is there by then. Who stays on it in the
/// background is not waited for, as runtimes of containers do not.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// What a terminal takes for the end of its input (`VEOF`, Ctrl-D).
const END: u8 = 4;

static NEXT: AtomicU64 = AtomicU64::new(0);

#[async_trait]
impl Exec for Processes {
    async fn exec(&self, request: &ExecRequest, io: ProcessIo) -> Result<Exit, BackendError> {
        let run = self.alive(&request.pod, &request.container)?;
        let ProcessIo {
            stdin,
            stdout,
            stderr,
            mut sizes,
        } = io;
        let first = match &mut sizes {
            Some(sizes) if request.tty => timeout(FIRST_SIZE, sizes.next()).await,
            _ => Ok(None),
        };
        let container = run.program();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut environment = container.environment.clone();
        if request.tty {
            environment.push(("TERM".into(), "xterm".into()));
        }
        let program = Program {
            words: request.command.clone(),
            environment,
            mark: container.mark.below(format_args!("exec-{number}")),
            ends: Ends {
                stdin: stdin.is_some(),
                stdout: stdout.is_some(),
                stderr: stderr.is_some(),
                tty: request.tty,
            },
            ..container.clone()
        };
        let first = first.ok().flatten();
        let process = program.start(first).map_err(|error| {
            let command = request.command.first().map_or("", String::as_str);
            unavailable(format!("{command:?} could not be started: {}", why(&error)))
        })?;
        // Until it has ended by itself: then what it left in the background lives
        // on with the container.
        let guard = Guard::of(program.mark);
        let group = process.group;
        let client = Client {
            stdin,
            stdout,
            stderr,
            sizes,
        };
        let exit = tokio::select! {
            exit = converse(process, client, request.tty) => exit,
            _ = run.ended() => {
                group.signal(Signal::KILL);
                return Ok(Exit::Code(128 + Signal::KILL.as_raw()));
            }
        };
        guard.release();
        Ok(exit.map_or(Exit::Unknown, Exit::Code))
    }
}

/// In words that name no number of the system's.
fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such program".into(),
        io::ErrorKind::PermissionDenied => "it is no program, or may not be run".into(),
        _ => error.to_string(),
    }
}

/// The client's side.
struct Client {
    stdin: Option<Reader>,
    stdout: Option<Writer>,
    stderr: Option<Writer>,
    sizes: Option<BoxStream<'static, TermSize>>,
}

/// Passes everything on until the process has ended and all it wrote was told.
async fn converse(process: Process, client: Client, tty: bool) -> Option<i32> {
    let Process {
        mut child,
        stdin,
        stdout,
        stderr,
        terminal,
        ..
    } = process;
    let left = CancellationToken::new();
    let output = async {
        tokio::join!(
            pass_on(stdout, client.stdout, &left),
            pass_on(stderr, client.stderr, &left)
        )
    };
    let input = async {
        if let (Some(from), Some(to)) = (client.stdin, stdin) {
            say(from, to, tty).await;
        }
    };
    let sizes = follow_sizes(client.sizes, terminal);
    let (mut output, mut input, mut sizes) = (pin!(output), pin!(input), pin!(sizes));
    let (mut told, mut said, mut sized) = (false, false, false);
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            _ = &mut output, if !told => told = true,
            () = &mut input, if !said => said = true,
            () = &mut sizes, if !sized => sized = true,
        }
    };
    if tty {
        left.cancel();
    }
    if !told {
        output.await;
    }
    status.ok().and_then(exit_code)
}

/// What the process writes, and its end: when nobody is left who could write, or, with
/// `left`, when nothing comes any more. A client that takes no more closes the
/// process's output, as a pipe does.
async fn pass_on(from: Option<Reader>, to: Option<Writer>, left: &CancellationToken) {
    let (Some(mut from), Some(mut to)) = (from, to) else {
        return;
    };
    let mut buffer = vec![0; CHUNK];
    loop {
        let quiet = async {
            left.cancelled().await;
            sleep(LAST_WORDS).await;
        };
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            () = quiet => break,
        };
        let Ok(length @ 1..) = read else { break };
        // Of a terminal somebody waits for every letter.
        let told = async {
            to.write_all(&buffer[..length]).await?;
            to.flush().await
        };
        if told.await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

/// What the client says, and that it has no more to say.
async fn say(from: Reader, mut to: Writer, tty: bool) {
    let mut from = BufReader::with_capacity(CHUNK, from);
    if copy_buf(&mut from, &mut to).await.is_ok() && tty {
        // The first one ends a line that was begun.
        let _ = to.write_all(&[END, END]).await;
        // Dropping it would hang up.
        std::future::pending().await
    }
}

/// Sizes as they come.
pub(super) async fn follow_sizes(
    sizes: Option<BoxStream<'static, TermSize>>,
    terminal: Option<Terminal>,
) {
    if let (Some(mut sizes), Some(terminal)) = (sizes, terminal) {
        while let Some(size) = sizes.next().await {
            terminal.resize(size);
        }
    }
}

//! `kubectl logs` through the console.

use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use vk_provider::streams::Exit;
use vk_provider::{BackendError, LogChunk, LogItem, LogQuery, LogSource, LogStream, Logs};

use super::lines::{Lines, in_order};
use super::script::{self, Asked};
use super::session::Session;
use super::turn::Purpose;
use super::{Console, unavailable};
use crate::place::DEVICE_KEY;

/// What comes within this time is put in order: the two streams of a log pass
/// through the agent on their own.
const GATHER: Duration = Duration::from_millis(100);
/// What is put in order at once at most, in chunks: a line is one, and the console
/// gives half a megabyte in a second.
const GATHERED: usize = 4096;
/// Parts that wait for a client that does not read; then the device waits too.
const AHEAD: usize = 256;
/// Bytes read at once; the agent sends 4 KiB.
const READ: usize = 16 * 1024;

type Items = mpsc::Sender<Result<LogItem, BackendError>>;

#[async_trait]
impl Logs for Console {
    async fn open(&self, query: &LogQuery) -> Result<LogStream, BackendError> {
        if query.previous {
            return Err(BackendError::Unsupported {
                field: "previous".into(),
                message: "a device removes a container at its end, and with it podman's log of it; what the device's journal kept is found there by CONTAINER_NAME".into(),
            });
        }
        let device = query.labels.get(DEVICE_KEY).map(String::as_str);
        let container = self.container(&query.pod, device, &query.container)?;
        let purpose = Purpose {
            what: format!("kubectl logs of {}/{}", query.pod.namespace, query.pod.name),
            follows: query.follow,
        };
        let asked = Asked {
            follow: query.follow,
            since: query.since,
            tail: query.tail,
        };
        let script = script::logs(&container.name, asked);
        let session = self.run(&container.device, purpose, &script, false).await?;
        // Podman leaves out what is before the last lines; the journal does not.
        let tailed = !session.ended;
        let (items, told) = mpsc::channel(AHEAD);
        tokio::spawn(pass_on(session, container.device, items));
        Ok(LogStream {
            items: ReceiverStream::new(told).boxed(),
            tailed,
        })
    }
}

/// Passes a log on until it ends, nobody reads it, or someone else needs the
/// console.
async fn pass_on(mut session: Session, device: String, items: Items) {
    let way = session.give_way.clone();
    let end = tokio::select! {
        () = items.closed() => return,
        end = read(&mut session, &device, &items) => end,
        () = way.cancelled() => Err(unavailable(
            &device,
            "its console was needed for something else, and there is one; follow the log again",
        )),
    };
    if let Err(error) = end {
        let _ = items.send(Err(error)).await;
    }
}

async fn read(session: &mut Session, device: &str, items: &Items) -> Result<(), BackendError> {
    let mut out = Lines::new(LogSource::Stdout);
    let mut err = Lines::new(LogSource::Stderr);
    let (mut from_out, mut from_err) = ([0; READ], [0; READ]);
    let (mut out_ended, mut err_ended) = (false, false);
    let mut gathered: Vec<LogChunk> = Vec::new();
    let mut due = Instant::now();
    let lost = |error: std::io::Error| unavailable(device, error);
    while !out_ended || !err_ended {
        let before = gathered.is_empty();
        tokio::select! {
            read = session.stdout.read(&mut from_out), if !out_ended => {
                match read.map_err(lost)? {
                    0 => { out_ended = true; out.finish(&mut gathered); }
                    n => out.push(&from_out[..n], &mut gathered),
                }
            }
            read = session.stderr.read(&mut from_err), if !err_ended => {
                match read.map_err(lost)? {
                    0 => { err_ended = true; err.finish(&mut gathered); }
                    n => err.push(&from_err[..n], &mut gathered),
                }
            }
            () = sleep_until(due), if !gathered.is_empty() => {
                tell(&mut gathered, items).await;
            }
        }
        if before {
            due = Instant::now() + GATHER;
        }
        if gathered.len() >= GATHERED {
            tell(&mut gathered, items).await;
        }
    }
    tell(&mut gathered, items).await;
    match session.exit().await? {
        Exit::Code(0) => Ok(()),
        // Its container ended while podman was reading.
        Exit::Code(code) => {
            let why = err
                .complaint()
                .or(out.complaint())
                .unwrap_or("no reason given");
            Err(unavailable(
                device,
                format!("podman ended with {code} ({why})"),
            ))
        }
        Exit::Unknown => Err(unavailable(device, "podman was ended")),
    }
}

async fn tell(gathered: &mut Vec<LogChunk>, items: &Items) {
    for chunk in in_order(std::mem::take(gathered)) {
        // Nobody reads any more: `closed` says so too.
        if items.send(Ok(LogItem::Written(chunk))).await.is_err() {
            return;
        }
    }
}

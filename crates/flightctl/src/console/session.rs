//! A session: opened on a device that is there, told what to run, closed in any
//! case.

use std::io::Cursor;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper_util::rt::TokioIo;
use kubelet_streams::io::{Handle, Reader, Writer, connect};
use kubelet_streams::spdy::frame::StreamId;
use kubelet_streams::websocket::{Channels, Direction, Encoding, Role};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, Chain};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, warn};
use vk_provider::BackendError;
use vk_provider::streams::Exit;

use super::script::{self, GO, GONE, NONE, READY};
use super::turn::{Purpose, Turn};
use super::{Console, end, unavailable};
use crate::client::ClientError;
use crate::device::DeviceView;

/// Writes of ours are held back while a session is opened, and through one that is
/// over this soon, with time left for its end: they are held for 5 s at most.
const SHORT: Duration = Duration::from_secs(3);
/// Longest time that a caller waits for a session to be opened; a device that is
/// there takes 5 s at most. The opening itself goes on, and is then closed.
const OPEN_PATIENCE: Duration = Duration::from_secs(20);
/// A device's long poll, which is its sign of life, takes two minutes, and what was
/// seen is saved in batches.
const SEEN_WITHIN: Duration = Duration::from_secs(240);
/// Until the shell on the device says that it is there, and then that it has found
/// the container. Slow machines start sudo and podman in seconds; where a device's
/// own name does not resolve, sudo waits for its name servers first.
const START: Duration = Duration::from_secs(25);
/// What a login shell prints before, at most.
const PROLOGUE: usize = 64 * 1024;
/// What is kept of the reasons that a device gives.
const REASON: u64 = 2048;
/// Until the status, once everything else has ended.
const STATUS: Duration = Duration::from_secs(10);
/// Longest status.
const STATUS_LIMIT: u64 = 64 * 1024;
/// For the goodbye.
const CLOSE: Duration = Duration::from_secs(10);
/// Looks whether the service has taken a session out of the device's annotations,
/// and the time between them.
const LOOKS: u32 = 5;
const LOOK: Duration = Duration::from_millis(300);
/// Where the service keeps the sessions of a device.
const ANNOTATION: &str = "device-controller/console";

/// What a command prints, beginning behind the marks.
pub(super) type Output = Chain<Cursor<Bytes>, Reader>;

/// A command that runs on a device. Dropping it closes the session, in the
/// background.
#[derive(Debug)]
pub(super) struct Session {
    device: String,
    /// Its container has ended.
    pub(super) ended: bool,
    pub(super) stdin: Writer,
    pub(super) sizes: Writer,
    pub(super) stdout: Output,
    pub(super) stderr: Output,
    pub(super) give_way: CancellationToken,
    status: Reader,
    _end: DropGuard,
}

/// The channels of a connection, in their order.
struct Streams {
    stdin: Writer,
    stdout: Reader,
    stderr: Reader,
    status: Reader,
    sizes: Writer,
    end: DropGuard,
}

impl Console {
    /// Runs a script on a device, of which the console is nobody else's meanwhile.
    /// Cancel-safe: what was begun is closed in the background.
    ///
    /// # Errors
    /// `NotFound`: the script has found no container. `Unavailable`, with the
    /// reason: the device is not there, its console is in use, or nothing was run.
    pub(super) async fn run(
        &self,
        device: &str,
        purpose: Purpose,
        script: &str,
        tty: bool,
    ) -> Result<Session, BackendError> {
        // Known to be away: nobody has to wait for that.
        if let Some(view) = self.world().device(device) {
            present(view).map_err(|why| unavailable(device, why))?;
        }
        let turn = self.turns.take(device, purpose).await;
        let turn = turn.map_err(|why| unavailable(device, why))?;
        let before = self.look(device).await?;
        let give_way = turn.give_way();
        let (reply, answer) = oneshot::channel();
        let keeper = self
            .clone()
            .keep(device.to_owned(), turn, tty, before, reply);
        tokio::spawn(keeper);
        let streams = match timeout(OPEN_PATIENCE, answer).await {
            Ok(Ok(streams)) => streams?,
            // The runtime is ending.
            Ok(Err(_)) => return Err(unavailable(device, "the session was given up")),
            Err(_) => {
                let seconds = OPEN_PATIENCE.as_secs();
                let why = format!("it did not come to its console within {seconds} s");
                return Err(unavailable(device, why));
            }
        };
        streams.start(device, script, tty, give_way).await
    }

    /// The device as it is now, if it is there: how many sessions it has.
    async fn look(&self, device: &str) -> Result<usize, BackendError> {
        let Some(json) = self.follower.look_at(device).await else {
            return Err(unavailable(
                device,
                "Flight Control could not be asked for it",
            ));
        };
        if let Some(view) = DeviceView::of(&json) {
            present(&view).map_err(|why| unavailable(device, why))?;
        }
        let seen = self.client.last_seen(device).await;
        let seen = seen.map_err(|error| unavailable(device, error))?;
        match seen.and_then(|seen| seen.at()) {
            None => Err(unavailable(device, "it was never heard of")),
            Some((_, ago)) if ago > SEEN_WITHIN => Err(unavailable(
                device,
                format!("it was last heard of {} s ago", ago.as_secs()),
            )),
            _ => Ok(sessions(&json)),
        }
    }

    /// Keeps a session from its opening to its end, whatever becomes of the caller.
    async fn keep(
        self,
        device: String,
        turn: Turn,
        tty: bool,
        before: usize,
        reply: oneshot::Sender<Result<Streams, BackendError>>,
    ) {
        let (begun, hold) = (Instant::now(), self.writers.hold(&device).await);
        let metadata = script::metadata(tty);
        let connection = match self.client.console(&device, &metadata).await {
            Ok(connection) => connection,
            Err(error) => {
                if matches!(error, ClientError::Server { status: 504, .. }) {
                    turn.in_vain();
                    warn!(
                        operation = "console",
                        device,
                        "the device did not come to its console; Flight Control keeps the session in its annotations for ever"
                    );
                }
                let _ = reply.send(Err(explain(&device, &error)));
                self.follower.look_at(&device).await;
                return;
            }
        };
        let directions = [
            Direction::Write,
            Direction::Read,
            Direction::Read,
            Direction::Read,
            Direction::Write,
        ];
        let channels = Channels::new(Role::Client, Encoding::Binary, true, &directions);
        let (handle, driver) = connect(Box::new(channels), TokioIo::new(connection));
        let driver = tokio::spawn(driver);
        let end = CancellationToken::new();
        if let Some(streams) = Streams::of(&handle, end.clone().drop_guard()) {
            // Nobody waits any more: the guard in it ends the session.
            let _ = reply.send(Ok(streams));
        }
        // What the service wrote may have undone a write.
        self.follower.look_at(&device).await;
        end.cancelled().await;
        let hold = if begun.elapsed() < SHORT {
            hold
        } else {
            drop(hold);
            self.writers.hold(&device).await
        };
        self.close(&device, handle, before).await;
        drop(hold);
        driver.abort();
    }

    /// Says goodbye, and sees to it that the service has noted it.
    async fn close(&self, device: &str, handle: Handle, before: usize) {
        if timeout(CLOSE, handle.close()).await.is_err() {
            debug!(operation = "console", device, "no goodbye");
        }
        for _ in 0..LOOKS {
            sleep(LOOK).await;
            let json = self.follower.look_at(device).await;
            if json.is_none_or(|json| sessions(&json) <= before) {
                return;
            }
        }
        warn!(
            operation = "console",
            device,
            "Flight Control still keeps a session that has ended in the device's annotations"
        );
    }
}

/// Whether a device may be asked for its console.
fn present(device: &DeviceView) -> Result<(), String> {
    if device.decommissioned() {
        return Err("it is decommissioned".into());
    }
    match device.summary.as_str() {
        // Whatever is wrong with what runs on it: it is connected.
        "Online" | "Degraded" | "Error" => Ok(()),
        other => Err(format!(
            "it is {other:?} in Flight Control, and only the console of a device that is Online can be opened"
        )),
    }
}

/// How many sessions the service keeps for a device.
fn sessions(device: &Value) -> usize {
    let text = device["metadata"]["annotations"][ANNOTATION].as_str();
    let list = text.and_then(|text| serde_json::from_str::<Vec<Value>>(text).ok());
    list.map_or(0, |list| list.len())
}

fn explain(device: &str, error: &ClientError) -> BackendError {
    match error {
        ClientError::NotFound { .. } => BackendError::NotFound,
        ClientError::Forbidden { message, .. } => unavailable(
            device,
            format!(
                "Flight Control forbids its console ({message}); the user needs the role operator, or get on devices/console"
            ),
        ),
        ClientError::Server { status: 504, .. } => {
            unavailable(device, "it did not come to its console within 60 s")
        }
        ClientError::TestFailed { .. } => {
            unavailable(device, "Flight Control opens no console on it now")
        }
        other => unavailable(device, format!("its console could not be opened: {other}")),
    }
}

impl Streams {
    fn of(handle: &Handle, end: DropGuard) -> Option<Self> {
        let channel = |number| handle.channel(StreamId(number));
        // The halves that the other side has not are dropped.
        Some(Self {
            stdin: channel(0)?.split().1,
            stdout: channel(1)?.split().0,
            stderr: channel(2)?.split().0,
            status: channel(3)?.split().0,
            sizes: channel(4)?.split().1,
            end,
        })
    }

    /// Tells the shell on the device what to run, and waits until it does.
    async fn start(
        mut self,
        device: &str,
        script: &str,
        tty: bool,
        give_way: CancellationToken,
    ) -> Result<Session, BackendError> {
        let mut held = BytesMut::new();
        let ready = timeout(START, marked(&mut self.stdout, &mut held, &[READY])).await;
        if !matches!(ready, Ok(Some(_))) {
            let why = self.reason(ready.is_err()).await;
            return Err(unavailable(device, why));
        }
        let told = self.stdin.write_all(&script::sent(script)).await;
        told.map_err(|error| unavailable(device, error))?;
        let marks = [GO, GONE, NONE];
        let mut found = timeout(START, marked(&mut self.stdout, &mut held, &marks)).await;
        let mut held_too = BytesMut::new();
        if matches!(found, Ok(Some(0 | 1))) && !tty {
            found = timeout(START, marked(&mut self.stderr, &mut held_too, &marks)).await;
        }
        match found {
            Ok(Some(found @ (0 | 1))) => Ok(Session {
                device: device.to_owned(),
                ended: found == 1,
                stdin: self.stdin,
                sizes: self.sizes,
                stdout: Cursor::new(held.freeze()).chain(self.stdout),
                stderr: Cursor::new(held_too.freeze()).chain(self.stderr),
                give_way,
                status: self.status,
                _end: self.end,
            }),
            Ok(Some(_)) => Err(BackendError::NotFound),
            late => {
                let why = self.reason(late.is_err()).await;
                Err(unavailable(device, why))
            }
        }
    }

    /// Why nothing runs, as far as the device says.
    async fn reason(&mut self, late: bool) -> String {
        let mut said = Vec::new();
        if !late {
            let mut stderr = (&mut self.stderr).take(REASON);
            let _ = timeout(STATUS, stderr.read_to_end(&mut said)).await;
        }
        let said = String::from_utf8_lossy(&said);
        let said = match (late, said.trim()) {
            (true, _) => format!("no answer within {} s", START.as_secs()),
            (false, "") => "it gave no reason".to_owned(),
            (false, said) => said.to_owned(),
        };
        format!(
            "nothing was run through its console ({said}); its image needs sh, podman, sudo, and the user flightctl-console with a home directory, who may use sudo without a password"
        )
    }
}

/// Reads up to one of the marks, and keeps what is behind it; its place among them.
/// `None` where the stream ends before, or goes on for too long.
async fn marked(
    stream: &mut (impl AsyncRead + Unpin),
    held: &mut BytesMut,
    marks: &[&[u8]],
) -> Option<usize> {
    loop {
        for (index, mark) in marks.iter().enumerate() {
            let at = held.windows(mark.len()).position(|part| part == *mark);
            if let Some(at) = at {
                let _ = held.split_to(at + mark.len());
                return Some(index);
            }
        }
        if held.len() > PROLOGUE || !matches!(stream.read_buf(held).await, Ok(1..)) {
            return None;
        }
    }
}

impl Session {
    /// How the command ended, once its output is at its end.
    ///
    /// # Errors
    /// Nothing was said about it.
    pub(super) async fn exit(&mut self) -> Result<Exit, BackendError> {
        let mut said = Vec::new();
        let mut status = (&mut self.status).take(STATUS_LIMIT);
        // A connection that breaks leaves nothing, or what is no status.
        let _ = timeout(STATUS, status.read_to_end(&mut said)).await;
        end::exit(&said).ok_or_else(|| {
            unavailable(
                &self.device,
                "the session ended, and it was not said how the command did",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn what_a_login_shell_prints_is_not_the_commands() {
        let mut stream = b"Welcome!\r\n\x06vk-re\x06vk-ready\x06\x06vk-go\x06out".as_slice();
        let mut held = BytesMut::new();
        assert_eq!(marked(&mut stream, &mut held, &[READY]).await, Some(0));
        assert_eq!(marked(&mut stream, &mut held, &[NONE, GO]).await, Some(1));
        assert_eq!(&held[..], b"out");
        assert_eq!(marked(&mut stream, &mut held, &[GO]).await, None);
        let mut endless = tokio::io::repeat(b'x');
        assert_eq!(marked(&mut endless, &mut held, &[GO]).await, None);
    }

    #[test]
    fn only_connected_devices_have_a_console() {
        let of = |summary: &str, lifecycle: &str| {
            present(&DeviceView {
                summary: summary.into(),
                lifecycle: lifecycle.into(),
                ..DeviceView::default()
            })
        };
        for summary in ["Online", "Degraded", "Error"] {
            assert_eq!(of(summary, "Enrolled"), Ok(()));
            assert!(of(summary, "Decommissioning").is_err());
        }
        for summary in [
            "",
            "Unknown",
            "Rebooting",
            "PoweredOff",
            "AwaitingReconnect",
        ] {
            let why = of(summary, "Enrolled").unwrap_err();
            assert!(why.contains(summary) && why.contains("Online"), "{why}");
        }
    }

    #[test]
    fn sessions_of_a_device_are_counted() {
        let of = |text: &str| sessions(&json!({"metadata": {"annotations": {ANNOTATION: text}}}));
        assert_eq!(of(r#"[{"sessionID":"a"},{"sessionID":"b"}]"#), 2);
        for none in ["", "[]", "null", "{"] {
            assert_eq!(of(none), 0);
        }
        assert_eq!(sessions(&json!({})), 0);
    }
}

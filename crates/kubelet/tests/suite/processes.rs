//! Processes and ports of containers, as a test's command or port number asks.

use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures::StreamExt;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};
use vk_provider::streams::{
    Attach, AttachRequest, Connection, Exec, ExecRequest, Exit, Output, PortForward, ProcessIo,
};
use vk_provider::{BackendError, ContainerState, LogItem, LogQuery, LogSource, PodKey, Uid};

use super::Remote;

/// What became of all of them.
#[derive(Debug, Default)]
pub struct Processes {
    /// Processes, attached clients and connections that are there.
    alive: usize,
    /// Bytes that `yes` wrote.
    written: usize,
    /// What was typed into containers, or sent to `tar`.
    typed: Vec<u8>,
    absent: BTreeSet<&'static str>,
}

/// One of them, until it is dropped.
struct Life(Remote);

impl Life {
    fn new(remote: &Remote) -> Self {
        remote.lock().processes.alive += 1;
        remote.changed.notify_waiters();
        Self(remote.clone())
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.0.lock().processes.alive -= 1;
        self.0.changed.notify_waiters();
    }
}

impl Remote {
    /// Processes, attached clients and connections that are there.
    pub fn alive(&self) -> usize {
        self.lock().processes.alive
    }

    /// Bytes that `yes` wrote.
    pub fn written(&self) -> usize {
        self.lock().processes.written
    }

    /// What was typed into containers, or sent to `tar`.
    pub fn typed(&self) -> Vec<u8> {
        self.lock().processes.typed.clone()
    }

    /// The backend has none of these any more, and all others: `logs`, `exec`, `attach`,
    /// `port-forward`.
    pub fn lack(&self, what: &[&'static str]) {
        self.lock().processes.absent = what.iter().copied().collect();
    }

    pub(super) fn has(&self, what: &str) -> bool {
        !self.lock().processes.absent.contains(what)
    }

    /// How a container ended; `None` while it runs.
    fn end_of(&self, uid: &Uid, container: &str) -> Option<Exit> {
        let state = self.lock();
        let facts = state.pods.get(uid);
        let mut containers = facts.iter().flat_map(|facts| &facts.containers);
        let fact = containers.find(|fact| fact.name == container);
        match fact.map(|fact| &fact.state) {
            Some(ContainerState::Running { .. }) => None,
            Some(ContainerState::Terminated(end)) => {
                Some(end.exit_code.map_or(Exit::Unknown, Exit::Code))
            }
            _ => Some(Exit::Unknown),
        }
    }

    async fn ends(&self, uid: &Uid, container: &str) -> Exit {
        loop {
            let mut woken = std::pin::pin!(self.changed.notified());
            woken.as_mut().enable();
            if let Some(exit) = self.end_of(uid, container) {
                return exit;
            }
            woken.await;
        }
    }

    async fn script(&self, command: &[&str], mut io: ProcessIo) -> Result<Exit, BackendError> {
        match command {
            ["exit", code] => Ok(Exit::Code(code.parse().unwrap())),
            ["unknown"] => Ok(Exit::Unknown),
            ["lost"] => Err(BackendError::Unavailable {
                message: "the device is away".into(),
                retry: None,
            }),
            ["absent"] => Err(BackendError::NotFound),
            ["both", code] => {
                say(&mut io.stdout, b"out\0\xff\n").await;
                say(&mut io.stderr, b"err\r\n").await;
                Ok(Exit::Code(code.parse().unwrap()))
            }
            ["cat"] => {
                let (mut stdin, mut stdout) = (io.stdin.unwrap(), io.stdout.unwrap());
                let copied = tokio::io::copy(&mut stdin, &mut stdout).await;
                Ok(Exit::Code(i32::from(copied.is_err())))
            }
            ["sizes", number] => {
                let sizes = io.sizes.take().unwrap();
                let mut sizes = sizes.take(number.parse().unwrap());
                while let Some(size) = sizes.next().await {
                    let text = format!("{}x{}\r\n", size.width, size.height);
                    say(&mut io.stdout, text.as_bytes()).await;
                }
                Ok(Exit::Code(0))
            }
            ["yes"] => {
                let (chunk, mut stdout) = ([b'y'; 4096], io.stdout.unwrap());
                while stdout.write_all(&chunk).await.is_ok() {
                    self.lock().processes.written += chunk.len();
                }
                Ok(Exit::Code(141))
            }
            ["nothing"] => Ok(Exit::Code(i32::from(
                io.stdin.is_some() || io.stderr.is_some() || io.sizes.is_some(),
            ))),
            // What `kubectl cp` runs.
            ["test", ..] => Ok(Exit::Code(1)),
            ["tar", "cf", ..] => {
                say(&mut io.stdout, &tar("data/blob", &blob())).await;
                Ok(Exit::Code(0))
            }
            ["tar", ..] => {
                let mut all = Vec::new();
                io.stdin.unwrap().read_to_end(&mut all).await.unwrap();
                self.lock().processes.typed = all;
                Ok(Exit::Code(0))
            }
            // Until its container ends or nobody asks any more.
            ["wait"] => {
                say(&mut io.stdout, b"waiting\n").await;
                std::future::pending().await
            }
            other => panic!("no such command: {other:?}"),
        }
    }
}

/// A client that does not listen is not the process's concern.
async fn say(output: &mut Option<Output>, bytes: &[u8]) {
    if let Some(output) = output {
        let _ = output.write_all(bytes).await;
    }
}

/// Bytes of every value.
pub fn blob() -> Vec<u8> {
    (0..100_000_u64).map(|n| (n * n / 7 % 256) as u8).collect()
}

/// An archive of one file, as POSIX has it.
fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut head = [0; 512];
    let mut put =
        |at: usize, text: &str| head[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644");
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{:011o}", content.len()));
    put(136, "00000000000");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut all = [&head, content].concat();
    all.resize(all.len().next_multiple_of(512) + 1024, 0);
    all
}

#[async_trait]
impl Exec for Remote {
    async fn exec(&self, request: &ExecRequest, io: ProcessIo) -> Result<Exit, BackendError> {
        let uid = &request.pod.uid;
        if self.end_of(uid, &request.container).is_some() {
            return Err(BackendError::NotFound);
        }
        let _life = Life::new(self);
        let command: Vec<&str> = request.command.iter().map(String::as_str).collect();
        tokio::select! {
            biased;
            ended = self.script(&command, io) => ended,
            _ = self.ends(uid, &request.container) => Ok(Exit::Code(137)),
        }
    }
}

#[async_trait]
impl Attach for Remote {
    async fn attach(&self, request: &AttachRequest, io: ProcessIo) -> Result<Exit, BackendError> {
        let AttachRequest { pod, container, .. } = request;
        let ProcessIo {
            stdin,
            mut stdout,
            mut stderr,
            ..
        } = io;
        let query = LogQuery {
            pod: pod.clone(),
            labels: Default::default(),
            container: container.clone(),
            previous: false,
            follow: true,
            since: None,
            tail: None,
        };
        let (present, _) = self.after(&query, 0);
        let mut news = std::pin::pin!(self.clone().follow(query, present.len()));
        let _life = Life::new(self);
        let showing = async {
            while let Some(item) = news.next().await {
                let LogItem::Written(chunk) = item else {
                    continue;
                };
                let output = match chunk.source {
                    LogSource::Stderr => &mut stderr,
                    _ => &mut stdout,
                };
                say(output, &chunk.bytes).await;
            }
        };
        let typing = async {
            let mut chunk = [0; 1024];
            if let Some(mut stdin) = stdin {
                while let Ok(length @ 1..) = stdin.read(&mut chunk).await {
                    self.lock()
                        .processes
                        .typed
                        .extend_from_slice(&chunk[..length]);
                    self.changed.notify_waiters();
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = showing => {}
            () = typing => {}
        }
        Ok(self.ends(&pod.uid, container).await)
    }
}

#[async_trait]
impl PortForward for Remote {
    /// 80 sends back, 81 counts, 82 speaks first and ends, 83 breaks; nobody listens
    /// on others.
    async fn connect(&self, pod: &PodKey, port: u16) -> Result<Connection, BackendError> {
        if !self.runs(pod.uid.as_str()) {
            return Err(BackendError::NotFound);
        }
        let (ours, theirs) = duplex(64 << 10);
        let life = Life::new(self);
        match port {
            80..=82 => {
                tokio::spawn(listen(port, theirs, life));
                Ok(Box::new(ours))
            }
            83 => Ok(Box::new(Breaks(ours, life))),
            _ => Err(BackendError::Unavailable {
                message: "connection refused".into(),
                retry: None,
            }),
        }
    }
}

async fn listen(port: u16, connection: DuplexStream, _life: Life) -> io::Result<()> {
    let (mut reading, mut writing) = tokio::io::split(connection);
    match port {
        80 => {
            tokio::io::copy(&mut reading, &mut writing).await?;
        }
        81 => {
            let mut all = Vec::new();
            reading.read_to_end(&mut all).await?;
            writing.write_all(all.len().to_string().as_bytes()).await?;
        }
        _ => writing.write_all(b"bye").await?,
    }
    writing.shutdown().await
}

/// Breaks as soon as it is read.
struct Breaks(DuplexStream, #[expect(dead_code, reason = "held")] Life);

impl AsyncRead for Breaks {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::ConnectionReset,
            "connection reset by peer",
        )))
    }
}

impl AsyncWrite for Breaks {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

//! Processes and connections inside pods: traits that a backend implements where
//! the remote can reach into what it runs.
//!
//! The framework speaks the protocols of `kubectl exec`, `attach`, `cp` and
//! `port-forward`; a backend sees plain readers and writers, and bytes pass in
//! both directions unchanged.
//!
//! # Rules for every method
//! - It returns when the process has ended or the connection is closed on both
//!   sides, however long that takes.
//! - Dropping its future is the client's going: what was started for it is ended
//!   where the remote can, and nothing is left behind that nobody reads.
//! - Nothing is repeated by the framework: a command may have had its effect.
//! - Errors before anything ran are answered to the user in their own words:
//!   `NotFound` (no such container runs), `Unavailable`, `Unsupported` with the
//!   part of the request that cannot be had (`tty`).

use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::BackendError;
use crate::key::PodKey;

/// Runs commands in containers.
#[async_trait]
pub trait Exec: Send + Sync {
    /// Runs a command in a running container and waits for its end. Not
    /// idempotent; for dropping and errors see [`crate::streams`].
    ///
    /// # Errors
    /// The command could not be started, or what became of it is not known.
    async fn exec(&self, request: &ExecRequest, io: ProcessIo) -> Result<Exit, BackendError>;
}

/// Joins the main process of a container.
#[async_trait]
pub trait Attach: Send + Sync {
    /// Passes on what the container's main process writes from now on, and its
    /// input where the container has `stdin`. Dropping leaves the process running.
    /// To have seen it to its end is success to the client, whatever its code, as with
    /// the kubelet: that is in the pod's status.
    ///
    /// # Errors
    /// The container does not run, or was lost sight of.
    async fn attach(&self, request: &AttachRequest, io: ProcessIo) -> Result<Exit, BackendError>;
}

/// Opens connections to ports of pods.
#[async_trait]
pub trait PortForward: Send + Sync {
    /// Connects to a port on the loopback address inside the pod. Cancel-safe
    /// until it returns; many connections may be open to one pod.
    ///
    /// # Errors
    /// Nothing listens there, or the pod cannot be reached.
    async fn connect(&self, pod: &PodKey, port: u16) -> Result<Connection, BackendError>;
}

/// A command to run.
#[derive(Clone, PartialEq, Eq)]
pub struct ExecRequest {
    /// The pod.
    pub pod: PodKey,
    /// `name` of the container in its spec.
    pub container: String,
    /// The program and its arguments; no shell splits them.
    pub command: Vec<String>,
    /// With a terminal: input, output and sizes, no standard error.
    pub tty: bool,
}

impl std::fmt::Debug for ExecRequest {
    /// Without the command, which may hold what people type into it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExecRequest")
            .field("pod", &self.pod)
            .field("container", &self.container)
            .field("tty", &self.tty)
            .finish_non_exhaustive()
    }
}

/// A container to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachRequest {
    /// The pod.
    pub pod: PodKey,
    /// `name` of the container in its spec.
    pub container: String,
    /// The container has a terminal, and the client expects it.
    pub tty: bool,
}

/// Where a process reads from.
pub type Input = Box<dyn AsyncRead + Send + Unpin>;
/// Where a process writes to.
pub type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// The client's side of a process; what is `None` was not asked for.
#[derive(Default)]
pub struct ProcessIo {
    /// Ends when the client has no more to say; the process is to see that end.
    pub stdin: Option<Input>,
    /// Shut down when the process has closed it.
    pub stdout: Option<Output>,
    /// The same; never with a terminal.
    pub stderr: Option<Output>,
    /// The sizes of the client's terminal, first the present one.
    pub sizes: Option<BoxStream<'static, TermSize>>,
}

impl std::fmt::Debug for ProcessIo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProcessIo")
            .field("stdin", &self.stdin.is_some())
            .field("stdout", &self.stdout.is_some())
            .field("stderr", &self.stderr.is_some())
            .field("sizes", &self.sizes.is_some())
            .finish()
    }
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TermSize {
    /// Columns.
    pub width: u16,
    /// Lines.
    pub height: u16,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With this code; 0 is success. A signal is 128 and its number, as in a shell.
    Code(i32),
    /// It ended, and the remote cannot tell how: shown as that, never as success.
    Unknown,
}

/// Both directions of a connection.
pub type Connection = Box<dyn Duplex>;

/// A reader and writer in one; everything that is both is one.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

//! Starting a process: with pipes in a group of its own, or on a terminal in a
//! session of its own.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll};

use pty_process::OwnedReadPty;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::process::{Child, Command};
use vk_provider::streams::{Input as Reader, Output as Writer};
use vk_provider::{PodRequest, RenderedContainer, RenderedPod, TermSize};

use super::family::{Mark, VARIABLE};
use super::home::Home;

/// Of a terminal before anybody has told its size: programs take one without any
/// for no terminal.
const USUAL: TermSize = TermSize {
    width: 80,
    height: 24,
};

/// What a process is started with.
#[derive(Clone)]
pub(crate) struct Program {
    pub(super) words: Vec<String>,
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) folder: PathBuf,
    pub(super) mark: Mark,
    pub(super) ends: Ends,
}

/// What is wanted of its input and output; the rest is `/dev/null`.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ends {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    /// All three, on a terminal.
    pub(super) tty: bool,
}

/// A container's program, by the container's name.
pub(crate) struct Named {
    pub(super) name: String,
    pub(super) program: Program,
    pub(super) stdin_once: bool,
}

/// The containers of a pod. The first of their words is there: see
/// [`super::declaration::refusals`].
pub(super) fn programs(
    pod: &PodRequest,
    rendered: &RenderedPod,
    folder: &Path,
    home: &Home,
) -> Vec<Named> {
    let specs = &pod.spec().containers;
    let each = specs.iter().zip(&rendered.containers);
    each.map(|(spec, rendered)| {
        let tty = spec.tty.unwrap_or_default();
        Named {
            name: spec.name.clone(),
            stdin_once: spec.stdin_once.unwrap_or_default(),
            program: Program {
                words: [&**rendered.command.command, &**rendered.command.args].concat(),
                environment: environment(pod, rendered, folder, home, tty),
                folder: folder.into(),
                mark: home.mark().below(&pod.key.uid).below(&spec.name),
                ends: Ends {
                    stdin: spec.stdin.unwrap_or_default(),
                    stdout: true,
                    stderr: true,
                    tty,
                },
            },
        }
    })
    .collect()
}

/// The pod's own variables over those that every image has.
fn environment(
    pod: &PodRequest,
    rendered: &RenderedContainer,
    folder: &Path,
    home: &Home,
    tty: bool,
) -> Vec<(OsString, OsString)> {
    let mut all: Vec<(OsString, OsString)> = vec![
        ("PATH".into(), home.applets().into()),
        ("HOME".into(), folder.into()),
        ("HOSTNAME".into(), pod.key.name.to_string().into()),
    ];
    if tty {
        all.push(("TERM".into(), "xterm".into()));
    }
    let variables = rendered.environment.variables().iter();
    all.extend(variables.map(|v| (OsString::from(&v.name), OsString::from(&v.value))));
    all
}

/// A process that was started.
pub(super) struct Process {
    pub(super) child: Child,
    pub(super) group: Group,
    pub(super) stdin: Option<Writer>,
    pub(super) stdout: Option<Reader>,
    pub(super) stderr: Option<Reader>,
    pub(super) terminal: Option<Terminal>,
}

impl Program {
    /// Starts it, with a terminal of this size. Dropping the [`Child`] leaves it
    /// running.
    ///
    /// # Errors
    /// The system's: there is no such program, most of all.
    pub(super) fn start(&self, size: Option<TermSize>) -> io::Result<Process> {
        let Some((first, words)) = self.words.split_first() else {
            return Err(io::Error::other("there is no command"));
        };
        if self.ends.tty {
            return self.on_a_terminal(first, words, size.unwrap_or(USUAL));
        }
        let piped = |wanted| match wanted {
            true => Stdio::piped(),
            false => Stdio::null(),
        };
        let mut child = Command::new(first)
            .args(words)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env(VARIABLE, self.mark.as_str())
            .current_dir(&self.folder)
            .stdin(piped(self.ends.stdin))
            .stdout(piped(self.ends.stdout))
            .stderr(piped(self.ends.stderr))
            .process_group(0)
            .spawn()?;
        Ok(Process {
            group: Group::of(&child)?,
            stdin: child.stdin.take().map(|end| Box::new(end) as Writer),
            stdout: child.stdout.take().map(|end| Box::new(end) as Reader),
            stderr: child.stderr.take().map(|end| Box::new(end) as Reader),
            terminal: None,
            child,
        })
    }

    fn on_a_terminal(&self, first: &str, words: &[String], size: TermSize) -> io::Result<Process> {
        let (ours, theirs) = pty_process::open().map_err(io::Error::other)?;
        let terminal = Terminal::of(&ours)?;
        terminal.resize(size);
        let child = pty_process::Command::new(first)
            .args(words)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env(VARIABLE, self.mark.as_str())
            .current_dir(&self.folder)
            .spawn(theirs)
            .map_err(|error| match error {
                pty_process::Error::Io(error) => error,
                other => io::Error::other(other),
            })?;
        let (output, input) = ours.into_split();
        Ok(Process {
            group: Group::of(&child)?,
            stdin: self.ends.stdin.then(|| Box::new(input) as Writer),
            stdout: Some(Box::new(Screen(output))),
            stderr: None,
            terminal: Some(terminal),
            child,
        })
    }
}

/// A process and all that it starts in the same group.
#[derive(Clone, Copy)]
pub(super) struct Group(Pid);

impl Group {
    fn of(child: &Child) -> io::Result<Self> {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let pid = id.and_then(Pid::from_raw);
        pid.map(Self)
            .ok_or_else(|| io::Error::other("it has no id"))
    }

    /// Only while the process was not waited for: its number is another's then.
    pub(super) fn signal(self, signal: Signal) {
        // It may have ended already.
        let _ = kill_process_group(self.0, signal);
    }
}

/// How a process ended, as a shell tells it.
pub(super) fn exit_code(status: ExitStatus) -> Option<i32> {
    use std::os::unix::process::ExitStatusExt;
    let by_signal = || status.signal().map(|signal| 128 + signal);
    status.code().or_else(by_signal)
}

/// The size of a terminal can be set through it.
#[derive(Clone)]
pub(super) struct Terminal(Arc<std::os::fd::OwnedFd>);

impl Terminal {
    fn of(ours: &pty_process::Pty) -> io::Result<Self> {
        use std::os::fd::AsFd;
        Ok(Self(Arc::new(ours.as_fd().try_clone_to_owned()?)))
    }

    /// The processes on it are sent SIGWINCH if it changes.
    pub(super) fn resize(&self, size: TermSize) {
        // Fails only when the terminal is gone.
        let _ = tcsetwinsize(
            &self.0,
            Winsize {
                ws_row: size.height,
                ws_col: size.width,
                ws_xpixel: 0,
                ws_ypixel: 0,
            },
        );
    }
}

/// What is written to a terminal; its end is an error of its own kind.
struct Screen(OwnedReadPty);

impl AsyncRead for Screen {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.0).poll_read(cx, buf) {
            Poll::Ready(Err(error)) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }
}

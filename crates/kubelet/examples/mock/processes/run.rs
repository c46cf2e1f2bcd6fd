//! One run of a container: a process from its start to its end.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use rustix::process::Signal;
use tokio::io::AsyncReadExt;
use tokio::sync::{Mutex, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout};
use vk_provider::streams::{Input as Reader, Output as Writer};
use vk_provider::{Clock, LogSource, Terminated, Uid};

use super::Processes;
use super::family::Mark;
use super::log::Log;
use super::pod::start_error;
use super::spawn::{Group, Named, Process, Program, Terminal, exit_code};
use super::usage::Rising;

/// Read at once.
const CHUNK: usize = 32 << 10;
/// How long output may be held open when everything that is known to write to it
/// was killed: by a process that wiped its environment.
const DRAIN: Duration = Duration::from_secs(2);

/// A run.
pub(super) struct Run {
    /// What it was started with, and commands in it are.
    program: Program,
    stdin_once: bool,
    number: u32,
    id: String,
    started_at: Timestamp,
    log: Log,
    stdin: Mutex<Option<Writer>>,
    terminal: Option<Terminal>,
    /// When it has to have ended; from the first moment it is asked to.
    stop: watch::Sender<Option<Instant>>,
    end: watch::Sender<Option<Terminated>>,
    /// Processor time never falls, whatever has ended since.
    pub(super) cpu: Rising,
}

impl Run {
    /// Starts it; one that cannot be started has ended already.
    pub(super) fn start(
        world: &Processes,
        pod: &Uid,
        named: &Named,
        before: Option<&Self>,
    ) -> Arc<Self> {
        let number = before.map_or(0, |before| before.number + 1);
        let program = Program {
            mark: named.program.mark.below(number),
            ..named.program.clone()
        };
        let started = program.start(None);
        let (process, end) = match started {
            Ok(process) => (Some(process), None),
            Err(error) => (None, Some(start_error(&error))),
        };
        let clock = world.0.clock.clone();
        let mut process = process;
        let run = Arc::new(Self {
            number,
            id: format!("{pod}-{}-{number}", named.name),
            program,
            stdin_once: named.stdin_once,
            started_at: clock.now(),
            log: Log::new(),
            stdin: Mutex::new(process.as_mut().and_then(|p| p.stdin.take())),
            terminal: process.as_ref().and_then(|p| p.terminal.clone()),
            stop: watch::Sender::new(None),
            end: watch::Sender::new(end),
            cpu: Rising::default(),
        });
        match process {
            None => run.log.close(),
            Some(process) => {
                let (world, pod, run) = (world.clone(), pod.clone(), run.clone());
                tokio::spawn(async move {
                    run.keep(process, &clock).await;
                    world.ended(&pod);
                });
            }
        }
        run
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn mark(&self) -> &Mark {
        &self.program.mark
    }

    pub(super) fn program(&self) -> &Program {
        &self.program
    }

    pub(super) fn started_at(&self) -> Timestamp {
        self.started_at
    }

    pub(super) fn log(&self) -> &Log {
        &self.log
    }

    pub(super) fn terminal(&self) -> Option<&Terminal> {
        self.terminal.as_ref()
    }

    pub(super) fn stdin(&self) -> &Mutex<Option<Writer>> {
        &self.stdin
    }

    pub(super) fn stdin_once(&self) -> bool {
        self.stdin_once
    }

    /// How it ended, if it has.
    pub(super) fn end(&self) -> Option<Terminated> {
        self.end.borrow().clone()
    }

    /// Waits for it. Cancel-safe.
    pub(super) async fn ended(&self) -> Terminated {
        let mut end = self.end.subscribe();
        let ended = end.wait_for(Option::is_some).await;
        // The sender is in self.
        ended.ok().and_then(|end| end.clone()).unwrap_or_default()
    }

    /// TERM now, KILL at that time, unless it was to be sooner.
    pub(super) fn stop(&self, at: Instant) {
        self.stop.send_if_modified(|stop| {
            let sooner = stop.is_none_or(|known| at < known);
            if sooner {
                *stop = Some(at);
            }
            sooner
        });
    }

    async fn keep(&self, process: Process, clock: &Clock) {
        let Process {
            mut child,
            group,
            stdout,
            stderr,
            ..
        } = process;
        let capture = async {
            tokio::join!(
                self.capture(stdout, LogSource::Stdout, clock),
                self.capture(stderr, LogSource::Stderr, clock),
            )
        };
        let mut capture = pin!(capture);
        let mut captured = false;
        let mut stopping = pin!(stop_in_time(self.stop.subscribe(), group));
        let status = loop {
            tokio::select! {
                status = child.wait() => break status,
                _ = &mut capture, if !captured => captured = true,
                never = &mut stopping => match never {},
            }
        };
        let finished_at = clock.now();
        // With a container's first process all others end.
        let mark = self.mark().clone();
        let _ = spawn_blocking(move || mark.kill()).await;
        if !captured {
            let _ = timeout(DRAIN, capture).await;
        }
        self.log.close();
        if let Ok(mut stdin) = self.stdin.try_lock() {
            *stdin = None;
        }
        self.end.send_replace(Some(Terminated {
            exit_code: status.ok().and_then(exit_code),
            started_at: Some(self.started_at),
            finished_at: Some(finished_at),
            ..Terminated::default()
        }));
    }

    async fn capture(&self, from: Option<Reader>, source: LogSource, clock: &Clock) {
        let Some(mut from) = from else { return };
        let mut buffer = vec![0; CHUNK];
        // An error is an end too: there is nobody to tell.
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let bytes = Bytes::copy_from_slice(&buffer[..length]);
            self.log.write(source, bytes, clock.now());
        }
    }
}

/// Asks a group to end when that is wanted, and ends it when its time is over.
async fn stop_in_time(mut stop: watch::Receiver<Option<Instant>>, group: Group) -> Infallible {
    let mut asked = false;
    let mut told = true;
    loop {
        let at = *stop.borrow_and_update();
        if at.is_some() && !asked {
            group.signal(Signal::TERM);
            asked = true;
        }
        tokio::select! {
            () = sleep_until(at.unwrap_or_else(Instant::now)), if at.is_some() => break,
            changed = stop.changed(), if told => told = changed.is_ok(),
            // The sender lives as long as the run.
            else => std::future::pending().await,
        }
    }
    group.signal(Signal::KILL);
    std::future::pending().await
}

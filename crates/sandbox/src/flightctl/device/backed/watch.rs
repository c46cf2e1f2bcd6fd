//! Who listens to Podman and systemd, as long as the machine is there to be heard.

use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::events::{self, Event, Happened};
use super::machine::{Machine, Trouble};
use super::{Backed, Container, LOOK, lock};
use crate::flightctl::device::journal::{JournalEntry, Occurrence};

/// Ends a command with its input. Who enters a machine must have left it when it shuts
/// down: systemd stops all processes there for a moment, and nsenter stops with its own
/// and never sees it end.
const UNTIL_TOLD: &str = "\"$@\" & exec >&-; read -r _; kill $!";

/// A command that is told to end does so within this.
const FAREWELL: Duration = Duration::from_secs(5);

/// A task that listens.
#[derive(Debug)]
pub(super) struct Watch {
    token: CancellationToken,
    task: JoinHandle<()>,
}

impl Watch {
    /// Podman's events from the boot on.
    pub(super) fn events(backed: Backed) -> Self {
        Self::start(backed, |backed, token| async move {
            let mut since = None;
            while !token.is_cancelled() {
                let from = match since {
                    None => boot(&backed.0.machine).await,
                    Some(at) => Ok(at),
                };
                if let Ok(from) = from {
                    since = Some(from);
                    let mut lines = Lines::of(&backed.0.machine, &events::podman(from));
                    while let Some(line) = lines.next(&token).await {
                        if let Some(event) = Event::read(&line) {
                            since = Some(event.at);
                            hear(&backed, event).await;
                        }
                    }
                    lines.end().await;
                }
                pause(&token).await;
            }
        })
    }

    /// systemd's stops, for the journal.
    pub(super) fn stops(backed: Backed) -> Self {
        Self::start(backed, |backed, token| async move {
            while !token.is_cancelled() {
                let mut lines = Lines::of(&backed.0.machine, &events::stops());
                while let Some(line) = lines.next(&token).await {
                    if let Some((at, unit)) = events::stop(&line) {
                        note_stop(&backed, at, &unit);
                    }
                }
                lines.end().await;
                pause(&token).await;
            }
        })
    }

    fn start<F: Future<Output = ()> + Send + 'static>(
        backed: Backed,
        listen: impl FnOnce(Backed, CancellationToken) -> F,
    ) -> Self {
        let token = backed.0.stop.child_token();
        let task = tokio::spawn(listen(backed, token.clone()));
        Self { token, task }
    }

    /// It is to end, and will by itself.
    pub(super) fn cancel(&self) {
        self.token.cancel();
    }

    /// Completes when it has ended and left the machine.
    pub(super) async fn end(self) {
        self.cancel();
        let _ = self.task.await;
    }
}

async fn pause(token: &CancellationToken) {
    tokio::select! { () = token.cancelled() => {}, () = sleep(LOOK) => {} }
}

/// When the machine booted, as the agent asks it.
async fn boot(machine: &Machine) -> Result<Timestamp, Trouble> {
    let command = r#"date -u -d "$(uptime -s)" +%Y-%m-%dT%H:%M:%SZ"#;
    let said = machine.run(&["sh", "-c", command]).await?;
    Ok(said.trim().parse().unwrap_or(Timestamp::UNIX_EPOCH))
}

/// A command that prints lines and does not end; none while the machine is off.
struct Lines(Option<(Child, tokio::io::Lines<BufReader<ChildStdout>>)>);

impl Lines {
    fn of(machine: &Machine, words: &[String]) -> Self {
        Self(Self::started(machine, words))
    }

    fn started(
        machine: &Machine,
        words: &[String],
    ) -> Option<(Child, tokio::io::Lines<BufReader<ChildStdout>>)> {
        let before = ["sh", "-c", UNTIL_TOLD, "sh"].into_iter();
        let words: Vec<&str> = before.chain(words.iter().map(String::as_str)).collect();
        let mut command = machine.command(&words).ok()?;
        // Ended by its input: killed, nsenter would leave what it started behind.
        command.stdin(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.kill_on_drop(false).spawn().ok()?;
        let lines = BufReader::new(child.stdout.take()?).lines();
        Some((child, lines))
    }

    /// `None` when there are no more, or nobody wants them.
    async fn next(&mut self, token: &CancellationToken) -> Option<String> {
        let (_, lines) = self.0.as_mut()?;
        tokio::select! {
            biased;
            () = token.cancelled() => None,
            line = lines.next_line() => line.ok().flatten(),
        }
    }

    async fn end(self) {
        if let Some((mut child, _)) = self.0 {
            drop(child.stdin.take());
            if timeout(FAREWELL, child.wait()).await.is_err() {
                // Nobody is left to tell.
                let _ = child.kill().await;
            }
        }
    }
}

/// The agent's own way with an event: it asks systemd about the unit.
async fn hear(backed: &Backed, event: Event) {
    journal(backed, &event);
    if !lock(&backed.0.apps).contains_key(&event.id) {
        return;
    }
    let show = [
        "systemctl",
        "show",
        "-p",
        "LoadState",
        "-p",
        "NRestarts",
        &event.unit,
    ];
    let Ok(said) = backed.0.machine.run(&show).await else {
        return;
    };
    let value = |key: &str| said.lines().find_map(|line| line.strip_prefix(key));
    if value("LoadState=") == Some("not-found") {
        return;
    }
    let restarts = value("NRestarts=").and_then(|text| text.parse().ok());
    let restarts: u64 = restarts.unwrap_or_default();
    if let Some(known) = lock(&backed.0.apps).get_mut(&event.id) {
        let fresh = Container {
            seen: event.seen,
            restarts,
        };
        let container = known.containers.entry(event.container).or_insert(fresh);
        container.seen = event.seen;
        container.restarts = container.restarts.max(restarts);
    }
}

/// Begins and ends of containers, each once however often it is told.
fn journal(backed: &Backed, event: &Event) {
    let Some(happened) = event.happened else {
        return;
    };
    let own = event.container.strip_prefix(&event.id);
    let own = own.and_then(|name| name.strip_prefix('-'));
    let app = app_of(&event.id);
    // A pod's own container is nobody's.
    let (Some(container), Some(app), false) = (own, app, event.container.ends_with("-infra"))
    else {
        return;
    };
    let entry = JournalEntry {
        at: event.at,
        app: app.to_owned(),
        container: container.to_owned(),
        image: event.image.clone(),
        event: match happened {
            Happened::Started => Occurrence::Start,
            Happened::Ended(code) => Occurrence::Exit(code),
        },
    };
    // A new agent hears everything again.
    if !backed.0.journal.has(&entry) {
        lock(&backed.0.units).insert(event.unit.clone(), entry.clone());
        backed.0.journal.insert(entry);
    }
}

/// Six digits and a hyphen follow an application's name.
fn app_of(id: &str) -> Option<&str> {
    id.rsplit_once('-').map(|(app, _)| app)
}

/// A container was told to end.
fn note_stop(backed: &Backed, at: Timestamp, unit: &str) {
    let last = lock(&backed.0.units).get(unit).cloned();
    // Units of others, and of pods.
    if let Some(last) = last {
        backed.0.journal.insert(JournalEntry {
            at,
            event: Occurrence::Stop,
            ..last
        });
    }
}

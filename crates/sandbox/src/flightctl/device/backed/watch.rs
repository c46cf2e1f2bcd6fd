//! Who listens to Podman and systemd, as long as the machine is there to be heard.

use std::process::Stdio;

use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::events::{self, Event, Happened};
use super::machine::{Machine, Trouble};
use super::{Backed, Container, LOOK, lock};
use crate::flightctl::device::journal::{JournalEntry, Occurrence};

/// Podman's events from the boot on, until another agent listens.
pub(super) async fn events(backed: Backed, token: CancellationToken) {
    let listening = async {
        let mut since = None;
        loop {
            let from = match since {
                None => boot(&backed.0.machine).await,
                Some(at) => Ok(at),
            };
            if let Ok(from) = from {
                since = Some(from);
                let words = events::podman(from);
                let mut lines = lines(&backed.0.machine, &words);
                while let Some(line) = next(&mut lines).await {
                    if let Some(event) = Event::read(&line) {
                        since = Some(event.at);
                        hear(&backed, event).await;
                    }
                }
            }
            sleep(LOOK).await;
        }
    };
    tokio::select! { () = token.cancelled() => {}, () = listening => {} }
}

/// systemd's stops, for the journal.
pub(super) async fn stops(backed: Backed) {
    let stop = backed.0.stop.clone();
    let listening = async {
        loop {
            let mut lines = lines(&backed.0.machine, &events::stops());
            while let Some(line) = next(&mut lines).await {
                if let Some((at, unit)) = events::stop(&line) {
                    note_stop(&backed, at, &unit);
                }
            }
            sleep(LOOK).await;
        }
    };
    tokio::select! { () = stop.cancelled() => {}, () = listening => {} }
}

/// When the machine booted, as the agent asks it.
async fn boot(machine: &Machine) -> Result<Timestamp, Trouble> {
    let command = r#"date -u -d "$(uptime -s)" +%Y-%m-%dT%H:%M:%SZ"#;
    let said = machine.run(&["sh", "-c", command]).await?;
    Ok(said.trim().parse().unwrap_or(Timestamp::UNIX_EPOCH))
}

/// A command that prints lines and does not end; nothing while the machine is off.
struct Lines {
    _child: tokio::process::Child,
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
}

fn lines(machine: &Machine, words: &[String]) -> Option<Lines> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut command = machine.command(&words).ok()?;
    let mut child = command.stderr(Stdio::null()).spawn().ok()?;
    let lines = BufReader::new(child.stdout.take()?).lines();
    Some(Lines {
        _child: child,
        lines,
    })
}

async fn next(lines: &mut Option<Lines>) -> Option<String> {
    lines.as_mut()?.lines.next_line().await.ok().flatten()
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

//! What Podman and systemd tell of containers: the agent's own reading of `podman
//! events`, and for the device's journal when systemd told a unit to stop, which is no
//! event of Podman's.

use jiff::Timestamp;
use serde::Deserialize;
use std::collections::BTreeMap;

use super::super::host::Seen;
use super::install::LABEL;

/// systemd's id of *a unit is being stopped* (`sd-messages.h`).
const STOPPING: &str = "MESSAGE_ID=de5b426a63be47a7b6ac3eaac82e2f6f";

/// The label by which Podman knows the unit that runs it.
const UNIT: &str = "PODMAN_SYSTEMD_UNIT";

/// What the agent listens for.
const TYPES: [&str; 8] = [
    "create", "init", "start", "stop", "die", "sync", "remove", "exited",
];

/// `podman events` from a time on, and for ever.
pub(super) fn podman(since: Timestamp) -> Vec<String> {
    let since = format!("{since:.0}");
    let mut words: Vec<String> = ["podman", "events", "--format", "json", "--since", &since]
        .map(str::to_owned)
        .into();
    for kind in TYPES {
        words.extend(["--filter".to_owned(), format!("event={kind}")]);
    }
    words
}

/// The same of systemd's stops, from now on.
pub(super) fn stops() -> Vec<String> {
    ["journalctl", "-f", "-n", "0", "-o", "json", STOPPING]
        .map(str::to_owned)
        .into()
}

/// A line of `podman events`.
#[derive(Debug, Deserialize)]
struct Line {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "Status")]
    status: String,
    #[serde(rename = "Name", default)]
    name: String,
    #[serde(rename = "Image", default)]
    image: String,
    #[serde(rename = "ContainerExitCode")]
    code: Option<i32>,
    #[serde(rename = "timeNano")]
    at: i128,
    #[serde(rename = "Attributes")]
    attributes: Option<BTreeMap<String, String>>,
}

/// An event of one of an application's containers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) at: Timestamp,
    /// The application's prefix.
    pub(super) id: String,
    pub(super) container: String,
    pub(super) unit: String,
    pub(super) image: String,
    pub(super) seen: Seen,
    /// Its process began, or ended with this code; other events tell what is known.
    pub(super) happened: Option<Happened>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happened {
    Started,
    Ended(i32),
}

impl Event {
    /// `None` for lines that are about something else.
    pub(super) fn read(line: &str) -> Option<Self> {
        let line: Line = serde_json::from_str(line).ok()?;
        if line.kind != "container" {
            return None;
        }
        let attributes = line.attributes?;
        let (seen, happened) = match (line.status.as_str(), line.code) {
            ("create" | "init", _) => (Seen::Created, None),
            ("start", _) => (Seen::Running, Some(Happened::Started)),
            ("died", code) => {
                let seen = if code == Some(0) {
                    Seen::Exited
                } else {
                    Seen::Died
                };
                (seen, Some(Happened::Ended(code.unwrap_or(-1))))
            }
            ("remove", Some(0)) => (Seen::Exited, None),
            ("exited", _) => (Seen::Exited, None),
            ("remove" | "stop", _) => (Seen::Died, None),
            _ => return None,
        };
        Some(Self {
            at: Timestamp::from_nanosecond(line.at).ok()?,
            id: attributes.get(LABEL)?.clone(),
            unit: attributes.get(UNIT)?.clone(),
            container: line.name,
            image: line.image,
            seen,
            happened,
        })
    }
}

/// When which unit was told to stop.
pub(super) fn stop(line: &str) -> Option<(Timestamp, String)> {
    #[derive(Deserialize)]
    struct Entry {
        #[serde(rename = "UNIT")]
        unit: String,
        #[serde(rename = "__REALTIME_TIMESTAMP")]
        at: String,
    }
    let entry: Entry = serde_json::from_str(line).ok()?;
    let at = Timestamp::from_microsecond(entry.at.parse().ok()?).ok()?;
    Some((at, entry.unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Podman 5.4 writes them.
    fn line(status: &str, code: &str) -> String {
        format!(
            r#"{{{code}"ID":"0bbf","Image":"docker.io/library/nginx:alpine","Name":"vk-a-1-app","Status":"{status}",
            "time":1796096186,"timeNano":1796096186496425064,"Type":"container",
            "Attributes":{{"PODMAN_SYSTEMD_UNIT":"vk-a-1-app.service","io.flightctl.quadlet.project":"vk-a-1"}}}}"#
        )
    }

    #[test]
    fn events_are_read_as_the_agent_reads_them() {
        let code = r#""ContainerExitCode":3,"#;
        let well = r#""ContainerExitCode":0,"#;
        for (status, code, seen, happened) in [
            ("create", "", Seen::Created, None),
            ("init", "", Seen::Created, None),
            ("start", "", Seen::Running, Some(Happened::Started)),
            ("died", code, Seen::Died, Some(Happened::Ended(3))),
            ("died", well, Seen::Exited, Some(Happened::Ended(0))),
            ("remove", well, Seen::Exited, None),
            ("remove", code, Seen::Died, None),
            // Never started.
            ("remove", "", Seen::Died, None),
        ] {
            let event = Event::read(&line(status, code)).unwrap();
            assert_eq!(
                (event.seen, event.happened),
                (seen, happened),
                "{status} {code}"
            );
            assert_eq!(event.at.to_string(), "2026-12-01T03:36:26.496425064Z");
            assert_eq!((&*event.id, &*event.unit), ("vk-a-1", "vk-a-1-app.service"));
        }
        let exec = Event::read(&line("exec_died", well));
        assert_eq!(exec, None, "processes beside it are not the container");
        let image = r#"{"Status":"pull","timeNano":1,"Type":"image","Attributes":null}"#;
        assert_eq!(Event::read(image), None);
    }

    #[test]
    fn a_stop_is_read_with_its_time() {
        let line = r#"{"UNIT":"a.service","__REALTIME_TIMESTAMP":"1796096186423794","MESSAGE":"Stopping a.service..."}"#;
        let (at, unit) = stop(line).unwrap();
        assert_eq!(
            (at.as_microsecond(), unit.as_str()),
            (1_796_096_186_423_794, "a.service")
        );
    }
}

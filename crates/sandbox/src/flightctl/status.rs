//! The words the service itself puts into a device's status. Pure.

use jiff::{SignedDuration, Timestamp};

use super::model::{Condition, Stated};
use super::store::DeviceRow;

/// Silence after which a device counts as disconnected; fixed in the service.
pub(crate) const DISCONNECTED_AFTER: SignedDuration = SignedDuration::from_mins(5);

const DISCONNECTED: &str = "Device is disconnected (last seen more than 5 minutes ago).";
const REBOOTING: &str = "Device is rebooting.";
const OUT_OF_DATE: &str = "Device has not been updated to the latest device spec";

/// Never heard from, or not within [`DISCONNECTED_AFTER`].
pub(crate) fn disconnected(last_seen: Option<Timestamp>, now: Timestamp) -> bool {
    last_seen.is_none_or(|seen| now.duration_since(seen) > DISCONNECTED_AFTER)
}

/// Recomputes `summary`, `updated`, `applicationsSummary` and `lifecycle`.
/// `fleet` is the template version of the fleet that owns the device.
pub(crate) fn recompute(
    row: &mut DeviceRow,
    last_seen: Option<Timestamp>,
    now: Timestamp,
    fleet: Option<&str>,
) {
    let away = disconnected(last_seen, now);
    row.status.summary = summary(row, away);
    row.status.updated = updated(row, away && last_seen.is_some(), fleet);
    row.status.applications_summary = applications(row, away);
    if let Some(lifecycle) = lifecycle(row) {
        row.status.lifecycle = lifecycle;
    }
}

fn updating(row: &DeviceRow) -> Option<&Condition> {
    Condition::find(&row.status.conditions, "Updating")
}

fn rebooting(row: &DeviceRow) -> bool {
    updating(row).is_some_and(|c| c.status == "True" && c.reason == "Rebooting")
}

fn summary(row: &DeviceRow, away: bool) -> Stated {
    if away {
        return Stated::new("Unknown", DISCONNECTED);
    }
    if rebooting(row) {
        return Stated::new("Rebooting", REBOOTING);
    }
    let loads = [
        ("CPU", &row.status.resources.cpu),
        ("Memory", &row.status.resources.memory),
        ("Disk", &row.status.resources.disk),
    ];
    for (word, level, status) in [
        ("Critical", "critical", "Error"),
        ("Warning", "warning", "Degraded"),
    ] {
        let hit: Vec<String> = loads
            .iter()
            .filter(|(_, load)| *load == word)
            .map(|(what, _)| format!("{what} utilization has reached a {level} level."))
            .collect();
        if !hit.is_empty() {
            return Stated::new(status, &hit.join(", "));
        }
    }
    Stated::new("Online", "Device's system resources are healthy.")
}

fn updated(row: &DeviceRow, away: bool, fleet: Option<&str>) -> Stated {
    if away {
        return Stated::new("Unknown", DISCONNECTED);
    }
    if let Some(condition) = updating(row).filter(|c| c.status == "True") {
        let info = if condition.message.is_empty() {
            "Device is updating to the latest device spec."
        } else {
            &condition.message
        };
        return Stated::new("Updating", info);
    }
    let error = updating(row)
        .filter(|c| c.reason == "Error" && !c.message.is_empty())
        .map(|c| c.message.as_str());
    let current = at_its_version(row);
    if row.owner.is_none() {
        if current {
            return Stated::new("UpToDate", "Device was updated to the latest device spec.");
        }
        return match error {
            Some(error) => Stated::new("OutOfDate", &format!("{OUT_OF_DATE}: {error}")),
            None => Stated::new("OutOfDate", &format!("{OUT_OF_DATE}.")),
        };
    }
    let rolled = row
        .annotations
        .get("fleet-controller/renderedTemplateVersion");
    if current && fleet.is_some() && rolled.map(String::as_str) == fleet {
        return Stated::new(
            "UpToDate",
            "Device was updated to the fleet's latest device spec.",
        );
    }
    let base = "Device could not be updated to the fleet's latest device spec";
    let rollout = row.annotations.get("fleet-controller/lastRolloutError");
    match rollout.map(String::as_str).or(error) {
        Some(error) => Stated::new("OutOfDate", &format!("{base}: {error}")),
        None => Stated::new(
            "OutOfDate",
            "Device has not yet been scheduled for update to the fleet's latest spec.",
        ),
    }
}

fn at_its_version(row: &DeviceRow) -> bool {
    let version = row
        .annotations
        .get("device-controller/renderedVersion")
        .is_none_or(|rendered| *rendered == row.status.config.rendered_version);
    let valid = Condition::find(&row.service_conditions, "SpecValid")
        .is_none_or(|condition| condition.status == "True");
    version && valid
}

fn applications(row: &DeviceRow, away: bool) -> Stated {
    if away {
        return Stated::new("Unknown", DISCONNECTED);
    }
    if rebooting(row) && !row.status.applications.is_empty() {
        return Stated::new("Degraded", REBOOTING);
    }
    if row.status.applications.is_empty() {
        return Stated::new(
            "NoApplications",
            "Device has not reported any application workloads yet.",
        );
    }
    let reported = &row.status.applications_summary;
    if reported.status == "Healthy" && reported.info.is_none() {
        return Stated::new("Healthy", "Device's application workloads are healthy.");
    }
    reported.clone()
}

fn lifecycle(row: &DeviceRow) -> Option<Stated> {
    let condition = Condition::find(&row.status.conditions, "DeviceDecommissioning")?;
    match (condition.status.as_str(), condition.reason.as_str()) {
        ("True", "Started") => Some(Stated::new(
            "Decommissioning",
            "Device has acknowledged decommissioning request",
        )),
        ("True", "Completed") => Some(Stated::new(
            "Decommissioned",
            "Device has completed decommissioning",
        )),
        (_, "Error") => Some(Stated::new(
            "Decommissioned",
            "Device has errored while decommissioning",
        )),
        _ => None,
    }
}

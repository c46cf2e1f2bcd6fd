//! `vk-flightctl-provider doctor`: looks at everything that has to be right before
//! pods run, and says what is not and what to do. Changes nothing anywhere.
//!
//! Asking is I/O and here; what an answer means is pure (`service`, `devices`, and
//! in `cluster` the verdict).

mod check;
mod cluster;
mod devices;
mod service;

use jiff::Timestamp;

pub use check::{Check, Outcome, Report};
pub use cluster::Needs;

use crate::client::{Client, EventCursor, TokenSource};
use crate::device::DeviceView;
use crate::fleet::{Rules, group};

/// What is looked at.
#[derive(Clone)]
pub struct Patient {
    /// Flight Control.
    pub flightctl: Client,
    /// Where its token comes from.
    pub token: TokenSource,
    /// The organization that is asked.
    pub organization: Option<String>,
    /// How devices are grouped.
    pub rules: Rules,
    /// Whether any console is enabled.
    pub consoles: bool,
    /// Kubernetes, or why there is none.
    pub kube: Result<kube::Client, String>,
    /// What is needed of it.
    pub needs: Needs,
}

impl std::fmt::Debug for Patient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Patient").finish_non_exhaustive()
    }
}

/// Looks at everything, one after the other. May be repeated and dropped.
pub async fn examine(patient: &Patient) -> Report {
    let mut checks = Vec::new();
    let devices = flight_control(patient, &mut checks).await;
    let mut nodes = vec![patient.rules.node_name.clone()];
    if let Some(devices) = devices {
        // The first thing to know, and so the first to be told.
        checks.insert(0, devices::owned(&devices));
        let grouping = group(&patient.rules, devices.iter(), &Ok(()));
        checks.extend(devices::fleets(&patient.rules, &grouping, devices.len()));
        checks.push(devices::sizes(&devices));
        nodes = grouping.nodes.keys().cloned().collect();
    }
    checks.extend(cluster::examine(&patient.kube, &patient.needs, &nodes).await);
    Report(checks)
}

/// Its devices, where it shows them. What depends on something that failed is not
/// looked at: it would only fail again.
async fn flight_control(patient: &Patient, checks: &mut Vec<Check>) -> Option<Vec<DeviceView>> {
    let client = &patient.flightctl;
    match client.greet().await {
        Ok(greeting) => {
            checks.push(service::reached(client.base(), &greeting));
            checks.push(service::clocks(&greeting, Timestamp::now()));
        }
        Err(error) => {
            checks.push(service::failed(
                "reachable",
                &error,
                "look whether flightctl.url is the URL of Flight Control's API",
            ));
            return None;
        }
    }
    match client.organizations().await {
        Ok(mine) => {
            let whose = format!("Flight Control takes that of {}", patient.token);
            checks.push(Check::ok("token", whose));
            let organization = service::organization(patient.organization.as_deref(), &mine);
            let usable = organization.outcome == Outcome::Ok;
            checks.push(organization);
            if !usable {
                return None;
            }
        }
        Err(error) => {
            checks.push(service::failed(
                "token",
                &error,
                "give it a token that Flight Control takes (docs/flight-control-access.md)",
            ));
            return None;
        }
    }
    let version = service::version(client.speaks_our_version().await);
    let version_is_ours = version.outcome == Outcome::Ok;
    checks.push(version);
    let devices = client.list_devices(None).await;
    checks.push(service::right("reading devices", "allowed", &devices));
    let events = client.devices_in_events(&mut EventCursor::default()).await;
    checks.push(service::right("reading events", "allowed", &events));
    let write = client.may_write_devices().await;
    checks.push(service::right(
        "writing devices",
        "allowed (tried on none)",
        &write,
    ));
    if patient.consoles {
        let may = client.may("get", "devices/console").await;
        checks.push(service::console(&may));
    }
    let devices = devices.ok().filter(|_| version_is_ours)?;
    Some(devices.iter().filter_map(DeviceView::of).collect())
}

//! A pod as one Flight Control application.
//!
//! Pure: from a [`PodRequest`] and its place to the JSON that goes into a device's spec, or to
//! the path of the field that cannot be honoured. What is honoured and what is
//! refused stands in `docs/podspec.md` field by field and is explained in
//! `docs/flight-control-mapping.md`; every unit text was run on a real device first.
//!
//! `declaration` says what becomes of every field of a pod, `fields` looks at what
//! must fit together, `baseline` at what a namespace has to be given, `shape`
//! decides which units there are, `units` and `container` write them with what the
//! modules of each subject know of it, `payload` the files beside the application.

mod baseline;
mod container;
mod declaration;
mod env;
mod expected;
mod fields;
mod hooks;
mod memory;
mod network;
mod payload;
mod probes;
mod resources;
mod security;
mod shape;
#[cfg(test)]
pub(crate) mod tests;
mod units;
mod volumes;

pub use declaration::{POD_SPEC, PROBES_ANNOTATION};
pub use expected::{Expected, Member, Policy, Role};

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use vk_provider::environment::Placement;
use vk_provider::{BackendError, PodRequest, Uid};

use crate::items::{FILE_LIMIT, Item};
use crate::marker::{MARKER_LIMIT, Marker, STAMP};
use crate::quadlet::is_name;
use crate::types::Application;
use shape::Shape;

/// Longest application name we make: it becomes part of unit and host names.
const NAME_LIMIT: usize = 63;
/// Hex digits of a hashed UID: 160 bits, and the name stays below its limit.
const UID_DIGITS: usize = 40;

/// The application of a pod. A name is never used for another pod: the agent
/// keeps what it knows by name, and the files that say "ran already" lie in a
/// folder of that name.
pub fn app_name(uid: &Uid) -> String {
    let name = format!("vk-{uid}");
    if is_name(&name) && name.len() <= NAME_LIMIT {
        return name;
    }
    let digest = Sha256::digest(uid.as_str().as_bytes());
    let mut hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    hex.truncate(UID_DIGITS);
    format!("vk-{hex}")
}

/// The folder of a pod's files on its device, of an application of this name. Two
/// pods never share one: it is named by the pod's UID, or by what is made of it.
pub(crate) fn folder(app: &str) -> String {
    payload::folder(app)
}

/// The prefix that Flight Control's agent gives to everything of an application:
/// container `<id>-<name>`, unit `<id>-<file>.service`.
pub fn app_id(app_name: &str) -> String {
    let sum = format!("{:06}", crc32fast::hash(app_name.as_bytes()));
    format!("{app_name}-{}", sum.get(..6).unwrap_or(&sum))
}

/// May this pod run on a device at all? `privileged` are the namespaces whose pods
/// may get hold of it.
///
/// What it refers to may be missing still: that is no reason against it.
///
/// # Errors
/// `Unsupported` with the path of the first field that is set and not honoured
/// (the message names the others), `Waiting` with `InvalidImageName`.
pub fn check(pod: &PodRequest, privileged: &BTreeSet<String>) -> Result<(), BackendError> {
    let mut refusals = fields::refusals(pod);
    baseline::check(pod, privileged, &mut refusals);
    refusals.into_result()?;
    // What only shows while writing (a line too long) must not pass either. The
    // place is not known yet; no address is longer.
    let longest = IpAddr::V4(Ipv4Addr::BROADCAST);
    let somewhere = Placement {
        pod_ips: vec![longest],
        host_ips: vec![longest],
        ..Placement::default()
    };
    match workload(pod, &somewhere, "check") {
        Ok(_) | Err(BackendError::Inputs(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What a pod asks for that has another meaning here, as reason and sentence for
/// a warning event. It does not keep the pod from running.
pub fn warnings(pod: &PodRequest) -> Vec<(&'static str, String)> {
    fields::warnings(pod)
}

/// A pod as its device's spec holds it.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its application, with its marker.
    pub app: Value,
    /// The files of its volumes, if it has any.
    pub volumes: Option<Item>,
    /// The variables that are not in its units, if there are any.
    pub environment: Option<Item>,
    /// One sentence for each `envFrom` of which keys were left out.
    pub skipped: Vec<String>,
}

/// What a pod becomes at a place. The same pod with the same inputs gives the
/// same texts. What its namespace may have was looked at by [`check`], once: a pod
/// that runs keeps it.
///
/// # Errors
/// As [`check`], and `Inputs` while something is missing or is not as it has to be.
pub fn workload(
    pod: &PodRequest,
    place: &Placement,
    cluster: &str,
) -> Result<Workload, BackendError> {
    fields::refusals(pod).into_result()?;
    let rendered = pod.render(place, &[])?;
    let containers = rendered.init.iter().chain(&rendered.containers);
    let skipped = containers.flat_map(|c| c.environment.skipped().iter().cloned());
    let skipped = skipped.collect();
    let shape = Shape::of(pod, &rendered)?;
    let files = units::files(&shape)?;
    let volumes = payload::volumes_item(&shape.app, pod.spec(), &rendered.payload.volumes)?;
    let environment = payload::environment_item(&shape.app, files.environments)?;
    let marker = Marker {
        cluster: cluster.to_owned(),
        key: pod.key.clone(),
        node: pod.node.to_string(),
        revision: pod.spec_revision.clone(),
    };
    let items = [&volumes, &environment].into_iter().flatten();
    let items = items.map(|item| item.name().to_owned()).collect();
    let mut inline = files.inline;
    if let Some(unit) = inline.iter().find(|unit| unit.content.len() > FILE_LIMIT) {
        // Not for ever: most of it is of ConfigMaps, and they change.
        return Err(BackendError::Waiting {
            reason: "UnitTooLarge".to_owned(),
            message: format!(
                "unit {} with the container's variables takes {} bytes, and Flight Control takes \
                 {FILE_LIMIT} in a file; mount some of the variables' objects as files",
                unit.path,
                unit.content.len()
            ),
            retry: None,
        });
    }
    let marker = marker.file(&Expected::of(pod), items, &inline);
    if marker.content.len() + STAMP > MARKER_LIMIT {
        return Err(BackendError::Unsupported {
            field: "spec.containers".to_owned(),
            message: format!(
                "names and images of all containers take more than {MARKER_LIMIT} bytes; use fewer"
            ),
        });
    }
    inline.insert(0, marker);
    let application = Application {
        name: shape.app.clone(),
        app_type: "quadlet".to_owned(),
        inline,
        extra: Map::new(),
    };
    let app = serde_json::to_value(application).map_err(|why| BackendError::Rejected {
        reason: "InvalidPod".to_owned(),
        message: format!("the application cannot be written as JSON: {why}"),
    })?;
    Ok(Workload {
        app,
        volumes,
        environment,
        skipped,
    })
}

/// The files of a pod's volumes as they would be now.
///
/// # Errors
/// Something is missing, or is not as it has to be.
pub fn volumes(pod: &PodRequest, place: &Placement) -> Result<Option<Item>, BackendError> {
    let volumes = pod.render_payload(place, &[])?.volumes;
    payload::volumes_item(&app_name(&pod.key.uid), pod.spec(), &volumes)
}

//! A pod as one Flight Control application.
//!
//! Pure: from a [`PodRequest`] to the JSON that goes into a device's spec, or to
//! the path of the field that cannot be honoured. What is honoured and what is
//! refused stands in `docs/podspec.md` field by field and is explained in
//! `docs/flight-control-mapping.md`; every unit text was run on a real device first.
//!
//! `declaration` says what becomes of every field of a pod, `fields` looks at what
//! must fit together, `shape` decides which units there are, `units` and
//! `container` write them.

mod container;
mod declaration;
mod env;
mod expected;
mod fields;
mod resources;
mod shape;
#[cfg(test)]
pub(crate) mod tests;
mod units;
mod volumes;

pub use declaration::{POD_SPEC, PROBES_ANNOTATION};
pub use expected::{Expected, Member, Policy, Role};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use vk_provider::{BackendError, PodRequest, Uid};

use crate::marker::{MARKER_LIMIT, Marker};
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

/// The prefix that Flight Control's agent gives to everything of an application:
/// container `<id>-<name>`, unit `<id>-<file>.service`.
pub fn app_id(app_name: &str) -> String {
    let sum = format!("{:06}", crc32fast::hash(app_name.as_bytes()));
    format!("{app_name}-{}", sum.get(..6).unwrap_or(&sum))
}

/// May this pod run on a device at all?
///
/// # Errors
/// `Unsupported` with the path of the first field that is set and not honoured
/// (the message names the others), `Waiting` with `InvalidImageName`.
pub fn check(pod: &PodRequest) -> Result<(), BackendError> {
    // What only shows while writing (a line too long) must not pass either.
    application(pod, "check").map(|_| ())
}

/// What a pod asks for that has another meaning here, as reason and sentence for
/// a warning event. It does not keep the pod from running.
pub fn warnings(pod: &PodRequest) -> Vec<(&'static str, String)> {
    fields::warnings(pod)
}

/// The application of a pod, with its marker. The same pod gives the same text.
///
/// # Errors
/// As [`check`].
pub fn application(pod: &PodRequest, cluster: &str) -> Result<Value, BackendError> {
    fields::refusals(pod).into_result()?;
    let shape = Shape::of(pod)?;
    let mut inline = units::files(&shape)?;
    let marker = Marker {
        cluster: cluster.to_owned(),
        key: pod.key.clone(),
        node: pod.node.to_string(),
        revision: pod.spec_revision.clone(),
    };
    let marker = marker.file(&Expected::of(pod), &inline);
    if marker.content.len() > MARKER_LIMIT {
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
    serde_json::to_value(application).map_err(|why| BackendError::Rejected {
        reason: "InvalidPod".to_owned(),
        message: format!("the application cannot be written as JSON: {why}"),
    })
}
